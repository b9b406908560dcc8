package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// TestWalk: the events of a time come in commit order, each once, with what was
// before as long as that is kept.
func TestWalk(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	const total = 250
	var before string
	for n := range total {
		e := change("x", n, fmt.Sprintf(`{"n":%d}`, n))
		e.Time = start.Add(time.Duration(n) * 10 * time.Minute)
		switch n {
		case 0:
			e.BeforeEvent = event.NoEvent
		case 3:
			e.BeforeUnseen = "somebody else changed it"
		default:
			e.BeforeEvent = before
		}
		before = e.ID
		s.commit(fmt.Sprint(n), e)
	}
	s.drain("a")
	walk := func(query event.Query) (seqs []uint64, texts []string) {
		t.Helper()
		s.must(s.Walk(t.Context(), query, func(events []event.Event) error {
			for _, e := range events {
				seqs = append(seqs, e.Seq)
				texts = append(texts, fmt.Sprintf("%s %s %s", e.Before, e.Payload, e.BeforeUnseen))
			}
			return nil
		}))
		return seqs, texts
	}
	seqs, texts := walk(event.Query{})
	want := []string{`null {"n":0} `, `{"n":0} {"n":1} `, `{"n":1} {"n":2} `, ` {"n":3} somebody else changed it`, `{"n":3} {"n":4} `}
	if diff := cmp.Diff(want, texts[:5]); diff != "" || len(seqs) != total {
		t.Errorf("%d events: %s", len(seqs), diff)
	}
	for i, seq := range seqs {
		if seq != uint64(i)+1 {
			t.Fatalf("event %d has the number %d", i, seq)
		}
	}
	// The time begins in the middle: what is too old is not even looked at, but for a day.
	since := start.Add(240 * 10 * time.Minute)
	if seqs, _ := walk(event.Query{Since: since}); fmt.Sprint(seqs) != "[241 242 243 244 245 246 247 248 249 250]" {
		t.Error(seqs)
	}
	if seqs, _ := walk(event.Query{Since: since, Until: since.Add(time.Second)}); fmt.Sprint(seqs) != "[241]" {
		t.Error(seqs)
	}
	if seqs, _ := walk(event.Query{Since: since.Add(day * 10)}); len(seqs) != 0 {
		t.Error(seqs)
	}
	stopped := errors.New("enough")
	if err := s.Walk(t.Context(), event.Query{}, func([]event.Event) error { return stopped }); !errors.Is(err, stopped) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Walk(ctx, event.Query{}, func([]event.Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	s.clock.advance(7*day + 15*time.Minute) // the first two are past their retention
	s.must(s.Maintain(s.clock.now()))
	whole, found, err := s.Whole(change("x", 2, "").ID)
	if err != nil || !found || whole.Before != nil || !strings.Contains(whole.BeforeUnseen, "past its retention") {
		t.Errorf("%+v %v", whole, err)
	}
	for n, want := range map[int]string{2: " the event that showed what it was is past its retention", 3: " somebody else changed it", 4: `{"n":3} `} {
		story, _, err := s.Story(change("x", n, "").ID)
		if got := fmt.Sprintf("%s %s", story.Before, story.BeforeUnseen); err != nil || got != want {
			t.Errorf("%d: %s %v", n, got, err)
		}
	}
	if _, found, err := s.Whole(change("x", 0, "").ID); found || err != nil {
		t.Error("it should be gone", err)
	}
}

// TestReplayOfWhatDiesMeanwhile: what is given up after a replay began has no dead
// letter beside its delivery.
func TestReplayOfWhatDiesMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"))
	r, err := s.Redeliver(10)
	s.must(err)
	for _, d := range s.next("a", 2) {
		s.settle(d, event.GiveUp, time.Time{})
		s.clock.advance(time.Hour)
		made, _, err := r.Add(t.Context(), wanted([]event.Event{*d.Event}, "a"))
		if s.must(err); made != 1 {
			t.Errorf("%d are made due", made)
		}
	}
	if got := s.dead("a"); got != "0/0" {
		t.Errorf("dead letters beside the deliveries: %s", got)
	}
	s.clock.advance(time.Second)
	if got := s.drain("a"); len(got) != 2 {
		t.Errorf("%d of 2 are delivered", len(got))
	}
}
