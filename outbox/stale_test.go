package outbox

import (
	"fmt"
	"math"
	"testing"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
)

// collect returns what retention would delete now.
func (s *store) collect() *collector {
	s.t.Helper()
	stale := &collector{enough: math.MaxInt64}
	s.must(s.view(func(txn *badger.Txn) error { return s.stale(txn, s.clock.now(), stale) }))
	return stale
}

// TestSentAgainWhileItGoes: an event that is collected for its retention, and then
// sent again, is not deleted, nor is anything of it.
func TestSentAgainWhileItGoes(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	resent, replayed, other := change("resent", 1, `{"x":1}`), change("replayed", 1, `{"x":1}`), change("other", 1, `{"x":1}`)
	s.commit("i", resent, replayed, other)
	s.drain("a")
	s.drain("b")
	s.clock.advance(8 * day)
	stale := s.collect()
	s.must(s.Resend(t.Context(), resent.ID, "a"))
	redelivery, err := s.Redeliver(10)
	s.must(err)
	e, _, err := s.stored(replayed.ID)
	s.must(err)
	made, _, err := redelivery.Add(t.Context(), wanted([]event.Event{*e}, "b"))
	if made != 1 || err != nil {
		t.Errorf("%d are made due: %v", made, err)
	}
	s.must(s.deleteStale(stale))
	if diff := cmp.Diff(map[string]int{"e": 2, "x": 2, "p": 2, "v": 2, "a": 4, "o": 2, "h": 2, "t": 2}, s.tags()); diff != "" {
		t.Error(diff)
	}
	s.refused(s.Resend(t.Context(), other.ID, "a"), event.NotFound)
	for hook, want := range map[string]string{"a": "resent", "b": "replayed"} {
		if got := s.drain(hook); len(got) != 1 || got[0].Entity.ID != want || string(got[0].Payload) != `{"x":1}` {
			t.Errorf("%s gets %v, want %s", hook, got, want)
		}
	}
	s.must(s.Maintain(s.clock.now().Add(8 * day))) // then it goes
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

// TestSentAgainDuringRetention: of what is sent again while retention is at work,
// all is delivered that was accepted.
func TestSentAgainDuringRetention(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	const n = 1500
	for i := range n / 50 {
		var list []event.Event
		for j := range 50 {
			list = append(list, change(fmt.Sprint(50*i+j), 1, `{"x":1}`))
		}
		s.commit(fmt.Sprint(i), list...)
	}
	s.drain("a")
	s.clock.advance(8 * day)
	done := make(chan error, 1)
	go func() { done <- s.Maintain(s.clock.now()) }()
	resent := 0
	for i := n - 1; i >= 0; i-- {
		if err := s.Resend(t.Context(), change(fmt.Sprint(i), 1, "").ID, "a"); err == nil {
			resent++
		} else {
			s.refused(err, event.NotFound)
		}
	}
	s.must(<-done)
	if got := len(s.drain("a")); got != resent {
		t.Errorf("%d were accepted, %d are delivered; dead letters: %s", resent, got, s.dead("a"))
	}
}

// TestManyCallsGo: an event with more calls than a transaction holds goes, too, and
// else the keys of an event are deleted by one write.
func TestManyCallsGo(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"))
	const calls = 7100
	at := s.clock.now()
	for n := 0; n < calls; n += 1000 {
		s.must(s.submit(t.Context(), func(b *batch) {
			for i := range 1000 {
				key := attemptKey(1, at, 1, 1+n+i)
				b.set(key, encode(attemptRecord{}))
				b.set(wireKey(key), encode(wireRecord{}))
			}
		}))
	}
	s.settle(s.next("a", 1)[0], event.Delivered, time.Time{})
	s.clock.advance(8 * day)
	s.must(s.Maintain(s.clock.now()))
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

// TestStepsOfDeletion: what goes of an event is never cut in two.
func TestStepsOfDeletion(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", many(300, 10)...)
	s.drain("a")
	s.clock.advance(8 * day)
	seen := map[uint64]bool{}
	steps := 0
	for some := range s.collect().steps() {
		keys := 0
		for _, one := range some {
			if seen[one.seq] || !one.whole || len(one.calls) != 2 {
				t.Errorf("%+v", one)
			}
			seen[one.seq] = true
			keys += len(one.keys) + len(one.calls)
		}
		if steps++; keys > deletedAtOnce+10 {
			t.Errorf("%d keys in one step", keys)
		}
	}
	if len(seen) != 300 || steps < 3 {
		t.Errorf("%d events in %d steps", len(seen), steps)
	}
}

// TestDeadLetterSentAgainWhileItGoes: it is counted once that it is gone.
func TestDeadLetterSentAgainWhileItGoes(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.commit("i", change("e", 1, `{"x":1}`))
	for _, hook := range []string{"a", "b"} {
		s.settle(s.next(hook, 1)[0], event.GiveUp, time.Time{})
	}
	s.clock.advance(20 * day)
	s.must(s.Resend(t.Context(), change("e", 1, "").ID, "b"))
	s.settle(s.next("b", 1)[0], event.GiveUp, time.Time{}) // its dead letter keeps the event
	s.clock.advance(11 * day)
	stale := s.collect() // the dead letter of a
	s.must(s.Resend(t.Context(), change("e", 1, "").ID, "a"))
	s.must(s.deleteStale(stale))
	if got := s.dead("a"); got != "0/1" {
		t.Errorf("dead letters of a in memory, and of both stored: %s", got)
	}
}
