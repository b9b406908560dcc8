package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"

	"github.com/google/go-cmp/cmp"
)

func (s *store) orphanIDs() []string {
	ids := []string{}
	for _, intent := range s.Orphans() {
		ids = append(ids, intent.ID)
	}
	return ids
}

func TestIntentsSurvive(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	full := event.Intent{
		ID: "2", Time: start, Dialect: "contentful", Method: "PUT", Path: "/x", Route: "write",
		Headers: map[string]string{"version": "3"}, Traceparent: "00-1", UserAgent: "sdk",
	}
	s.begin("1")
	s.must(s.Begin(t.Context(), &full))
	s.begin("3")
	s.begin("4")
	s.must(s.Drop(t.Context(), "3"))
	s.must(s.Drop(t.Context(), "unheard of"))
	s.commit("4", change("e", 1, "{}"))
	if got := s.orphanIDs(); len(got) != 0 {
		t.Errorf("a new store has orphans: %v", got)
	}
	s.reopen()
	if diff := cmp.Diff([]event.Intent{{ID: "1", Time: start, Method: "PUT", Path: "/e"}, full}, s.Orphans()); diff != "" {
		t.Error(diff)
	}
	if got := s.orphanIDs(); len(got) != 0 {
		t.Errorf("orphans are handed over once, but came again: %v", got)
	}
	s.commit("1")
	s.must(s.Drop(t.Context(), "2"))
	s.reopen()
	if got := s.orphanIDs(); len(got) != 0 {
		t.Errorf("orphans are left: %v", got)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.MaxOpen = 3
	s := newStore(t, config, "a")
	check := func(id string, want error) {
		t.Helper()
		if err := s.Begin(t.Context(), &event.Intent{ID: id}); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	check("1", nil)
	check("2", nil)
	check("3", nil)
	check("4", ErrFull)
	s.must(s.Drop(t.Context(), "1"))
	s.must(s.Drop(t.Context(), "1"))
	s.must(s.Drop(t.Context(), "4")) // never stored: makes no room
	s.commit("2")
	check("5", nil)
	check("6", nil)
	check("7", ErrFull)
	s.reopen()
	check("8", ErrFull)
}

func TestBeginWithAnEndedContextStoresNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("too slow")
	cancel(reason)
	for n := range 100 {
		if err := s.Begin(ctx, &event.Intent{ID: fmt.Sprint(n)}); !errors.Is(err, reason) {
			t.Fatalf("got %v", err)
		}
	}
	s.begin("last")
	if diff := cmp.Diff(map[string]int{"i": 1}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

func TestCommitRepeatedChangesNothing(t *testing.T) {
	t.Parallel()
	check := func(first, second string) {
		t.Helper()
		s := newStore(t, testConfig(t), "a")
		s.begin("i")
		s.commit("i", change("e", 1, first))
		before := s.tags()
		s.commit("i", change("e", 1, second))
		if diff := cmp.Diff(before, s.tags()); diff != "" {
			t.Error(diff)
		}
		s.reopen()
		if diff := cmp.Diff(before, s.tags()); diff != "" {
			t.Error(diff)
		}
		got := s.drain("a")
		if len(got) != 1 || string(got[0].Payload) != first || got[0].Seq != 1 {
			t.Errorf("want the first payload once, got %d events", len(got))
		}
	}
	check(`{"a":1}`, `{"a":1}`)
	check(`{"a":1}`, `{"b":2}`)
	check(`{"a":1}`, random(1, 2<<20))
	check(random(1, 2<<20), random(2, 3<<20))
	check(random(1, 2<<20), `{}`)
}

func TestCommitForNobodyAndForUnknownWebhooks(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	lonely, stray, twice := change("lonely", 1, "{}"), change("stray", 1, "[]"), change("twice", 1, "1")
	s.must(s.Commit(t.Context(), "i", wanted([]event.Event{lonely}), nil, nil))
	s.begin("i")
	if err := s.Commit(t.Context(), "i", wanted([]event.Event{stray}, "nobody", "a"), nil, nil); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a delivery for a webhook that nobody named was lost: %v", err)
	}
	large := wanted([]event.Event{change("stray", 1, random(1, 1<<20))}, "nobody")
	if err := s.Commit(t.Context(), "i", large, nil, nil); err == nil || s.tags()["i"] != 1 || s.tags()["p"] != 1 {
		t.Errorf("%v: %v", err, s.tags())
	}
	if err := s.place(t.Context(), func(b *batch) { b.endIntent("i") }, pack(wanted([]event.Event{stray}, "nobody")), nil); err == nil {
		t.Error("placed, but for nobody")
	}
	s.must(s.Commit(t.Context(), "i", wanted([]event.Event{stray}, "a"), nil, nil))
	s.must(s.Commit(t.Context(), "i", wanted([]event.Event{twice, twice}, "a", "a"), nil, nil))
	s.reopen()
	if diff := cmp.Diff(map[string]int{"e": 3, "v": 3, "x": 3, "p": 3, "o": 2, "h": 2, "t": 2}, s.tags()); diff != "" {
		t.Error(diff)
	}
	got, found, err := s.stored(lonely.ID)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	lonely.Seq = 1
	if diff := cmp.Diff(&lonely, got); diff != "" {
		t.Error(diff)
	}
	if _, found, err := s.stored("none"); found || err != nil {
		t.Error(found, err)
	}
	if got := len(s.drain("a")); got != 2 {
		t.Errorf("%d deliveries, want 2", got)
	}
}

func TestSeqOnlyGrows(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	last := uint64(0)
	check := func(n int) {
		t.Helper()
		s.commit("i", change("e", n, "{}"), change("f", n, "{}"))
		for _, e := range s.drain("a") {
			if e.Seq <= last {
				t.Errorf("seq %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
	}
	check(1)
	check(2)
	s.reopen()
	check(3)
	s.must(s.Maintain(start.Add(1000 * day))) // deletes everything
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		t.Fatal(diff)
	}
	s.reopen()
	check(4)
	if last != 8 {
		t.Errorf("the last seq is %d", last)
	}
}

// An entity id that is not UTF-8 is stored as something else by JSON.
func TestEntityThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e\xff", 1, "{}"), change("e\xff", 2, "{}"))
	s.must(s.Maintain(start.Add(1000 * day))) // must not take what waits
	for range 2 {
		deliveries := s.next("a", 10)
		if len(deliveries) != 1 {
			t.Fatalf("%d deliveries, want 1", len(deliveries))
		}
		s.settle(deliveries[0], event.Delivered, time.Time{})
	}
	if got := s.names("a", 10); len(got) != 0 {
		t.Errorf("delivered again: %v", got)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	check := func(path string, want ...string) {
		t.Helper()
		config := DefaultConfig()
		config.Path = path
		o, err := Open(config, nil, (&testlog.Log{}).Logger())
		if err == nil {
			_ = o.Close()
			t.Errorf("%s: no error", path)
			return
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in: %v", part, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(file, "outbox.path: the folder "+file+" can not be written")
	check(filepath.Join(file, "sub"), "outbox.path", "not a directory")
	check("/proc/cmstap", "outbox.path", "can not be written")

	s := newStore(t, testConfig(t))
	check(s.config.Path, "outbox.path", s.config.Path, "in use by another process")
	s.must(s.submit(t.Context(), func(b *batch) { b.set(metaKey("format"), be.AppendUint32(nil, 77)) }))
	s.must(s.Close())
	check(s.config.Path, "outbox.path", "format 77", "knows format 2")
	check(s.config.Path, "format 77") // and left no lock behind
}

func TestParkedDeliveriesAreSaidAndKept(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.commit("i", change("e", 1, "{}"), change("e", 2, "{}"))
	s.hooks = []string{"c", "b"}
	s.reopen()
	if text := s.log.String(); !strings.Contains(text, "msg=parked webhook=a waiting=2") {
		t.Error(text)
	}
	if got := s.names("c", 10); len(got) != 0 {
		t.Errorf("c got %v", got)
	}
	s.must(s.Maintain(start.Add(7*day - time.Second)))
	s.hooks = []string{"a", "b", "c"}
	s.reopen()
	if got := len(s.drain("a")); got != 2 {
		t.Errorf("a got %d of 2", got)
	}
}

// TestParkedDeliveriesExpire: the time counts from when the webhook was first not
// there, over restarts; one that came back in between has it anew.
func TestParkedDeliveriesExpire(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.commit("i", change("e", 1, "{}"), change("e", 2, "{}"), change("f", 1, "{}"))
	began := s.clock.now()
	without := func(at time.Duration, hooks ...string) {
		s.clock.advance(began.Add(at).Sub(s.clock.now()))
		s.hooks = hooks
		s.reopen()
		s.must(s.Maintain(s.clock.now()))
	}
	without(0, "b")
	without(6*day, "b")
	without(6*day+time.Hour, "a", "b")
	without(8*day, "b")
	without(14*day, "b")
	if dead := s.tags()["z"]; dead != 0 {
		t.Errorf("%d given up too early", dead)
	}
	without(15*day, "b")
	if dead, text := s.tags()["z"], s.log.String(); dead != 3 || !strings.Contains(text, "msg=expired webhook=a deliveries=3") {
		t.Errorf("%d given up\n%s", dead, text)
	}
	if got := len(s.drain("b")); got != 3 {
		t.Errorf("b got %d of 3", got)
	}
	without(15*day, "a", "b")
	if got := len(s.drain("a")); got != 0 {
		t.Errorf("a got %d that had been given up", got)
	}
}

func TestSyncIsWhatTheConfigSays(t *testing.T) {
	t.Parallel()
	for _, sync := range []bool{true, false} {
		if got := storeOptions(Config{Sync: sync}, nil).SyncWrites; got != sync {
			t.Errorf("sync %v gives %v", sync, got)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	check := func(text string, want ...string) {
		t.Helper()
		c := DefaultConfig()
		validate := func(check setting.Check) { c.Validate(check) } // not a copy of the defaults
		got := []string{}
		var problems setting.Problems
		if errors.As(setting.Decode("c.yaml", []byte(text), &c, validate), &problems) {
			got = strings.Split(problems.Error(), "\n")
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	check("retention: { delivered: 1m, failed: 1m }")
	check("retention: { delivered: 2h, failed: 1h }")
	check("retention: { delivered: 0s }", "c.yaml:1: retention.delivered: must be at least 1m")
	check("retention: { failed: 59s }", "c.yaml:1: retention.failed: must be at least 1m")
}

// A kill can leave a memory table without a byte; it must not keep the store
// from opening.
func TestEmptyTable(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.begin("1")
	s.must(s.Close())
	if err := os.WriteFile(filepath.Join(s.config.Path, "00077.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	if diff := cmp.Diff([]string{"1"}, s.orphanIDs()); diff != "" {
		t.Error(diff)
	}
}

// Format 1 had all that is due under t.
func TestFormat1(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.Retry, s.clock.now())
	s.must(s.submit(t.Context(), func(b *batch) {
		key := dueKey(tagRetry, 1, b.now, 1)
		entity, _ := b.get(key)
		b.delete(key)
		b.set(dueKey(tagDue, 1, b.now, 1), entity)
		b.set(metaKey("format"), be.AppendUint32(nil, 1))
	}))
	s.reopen()
	for _, d := range s.next("a", 10) {
		s.settle(d, event.Retry, s.clock.now())
	}
	if got := len(s.drain("a")); got != 2 || len(s.tags()) != 5 {
		t.Errorf("%d delivered, %v left", got, s.tags())
	}
}
