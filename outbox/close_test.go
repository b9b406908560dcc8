package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"cmstap/event"
)

func TestCallsAfterClose(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"))
	d := s.next("a", 1)[0]
	s.must(s.Close())
	s.must(s.Close())
	check := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx := context.Background()
	for n := range 100 { // a write that is queued must not wait for ever
		check("Begin", s.Begin(ctx, &event.Intent{ID: fmt.Sprint(n)}))
		check("Commit", s.Commit(ctx, "i", wanted([]event.Event{change("e", 2, "{}")}, "a"), nil, nil))
		check("large Commit", s.Commit(ctx, "i", wanted([]event.Event{change("e", 2, random(1, 1<<20))}, "a"), nil, nil))
		check("Settle", s.Settle(ctx, d, event.Settlement{}))
	}
	check("Maintain", s.Maintain(start))
	_, err := s.Next(ctx, "a", 1)
	check("Next", err)
	_, _, err = s.stored("e")
	check("Event", err)
	check("Drop", s.Drop(ctx, "i"))
	s.Release(d)
}

func TestCloseAmidEverything(t *testing.T) {
	t.Parallel()
	for round := range 8 {
		s := newStore(t, testConfig(t), "a")
		ctx := context.Background()
		acknowledged := make([]int, 4)
		var all sync.WaitGroup
		loop := func(do func(n int) error) {
			all.Go(func() {
				for n := 0; do(n) == nil; n++ {
				}
			})
		}
		for w := range 4 {
			loop(func(n int) error {
				intent := fmt.Sprintf("%d/%d", w, n)
				if err := s.Begin(ctx, &event.Intent{ID: intent}); err != nil {
					return err
				}
				size := 100
				if n%8 == 7 {
					size = 300_000
				}
				err := s.Commit(ctx, intent, wanted([]event.Event{change(intent, 1, random(1, size))}, "a"), nil, nil)
				if err == nil {
					acknowledged[w] = n + 1
				}
				return err
			})
		}
		loop(func(int) error {
			deliveries, err := s.Next(ctx, "a", 8)
			for _, d := range deliveries {
				err = errors.Join(err, s.Settle(ctx, d, event.Settlement{Attempt: event.Attempt{Number: 1, Time: start}}))
			}
			return err
		})
		loop(func(int) error { _, _, err := s.stored("x"); return err })
		loop(func(int) error { return s.Maintain(s.clock.now()) })
		for s.seqNow() < uint64(20*round+5) {
			_ = s.Begin(ctx, &event.Intent{ID: "tick"})
		}
		closed := make(chan struct{})
		go func() { defer close(closed); _ = s.Close(); _ = s.Close(); all.Wait() }()
		select {
		case <-closed:
		case <-time.After(30 * time.Second):
			t.Fatal("Close or a call hangs")
		}
		s.open()
		for w, count := range acknowledged {
			for n := range count {
				if _, found, _ := s.stored(change(fmt.Sprintf("%d/%d", w, n), 1, "").ID); !found {
					t.Errorf("event %d/%d was acknowledged and is lost", w, n)
				}
			}
		}
		s.must(s.Close())
	}
}

// seqNow asks the committer for the last seq.
func (s *store) seqNow() (seq uint64) {
	s.must(s.submit(s.t.Context(), func(b *batch) { seq = b.o.seq }))
	return seq
}

// hold blocks the committer until release is called.
func (s *store) hold() (release func()) {
	entered, blocked := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.submit(context.Background(), func(*batch) {
			close(entered)
			<-blocked
		})
	}()
	<-entered
	return func() { close(blocked) }
}

// queued waits until so many writes wait for the committer.
func (s *store) queued(n int) {
	for len(s.writes) < n {
		runtime.Gosched()
	}
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	release := s.hold()
	var all sync.WaitGroup
	for n := range 200 {
		all.Go(func() { s.begin(fmt.Sprint(n)) })
	}
	s.queued(200)
	before := s.db.MaxVersion() // one version a transaction
	release()
	all.Wait()
	if got := s.db.MaxVersion() - before; got != 1 {
		t.Errorf("200 begins took %d transactions, want 1", got)
	}
	if got := s.tags()["i"]; got != 200 {
		t.Errorf("%d of 200 intents are stored", got)
	}
}

func TestBadWriteFailsAlone(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.begin("0")
	release := s.hold()
	bad := errors.New("bad")
	var all sync.WaitGroup
	check := func(do func() error, want error) {
		all.Go(func() {
			if err := do(); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
	check(func() error { return s.Drop(t.Context(), "0") }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	for n := range 20 {
		check(func() error { return s.Begin(t.Context(), &event.Intent{ID: fmt.Sprint("g", n)}) }, nil)
		check(func() error {
			e := change("e", n, "{}")
			return s.Commit(t.Context(), "none", wanted([]event.Event{e}, "a"), nil, nil)
		}, nil)
		check(func() error {
			return s.submit(t.Context(), func(b *batch) { b.set(intentKey("bad"), nil); b.fail(bad) })
		}, bad)
		check(func() error { return s.Begin(ctx, &event.Intent{ID: fmt.Sprint("late", n)}) }, context.Canceled)
	}
	s.queued(81)
	cancel()
	release()
	all.Wait()
	s.reopen()
	if tags := s.tags(); tags["i"] != 20 || tags["e"] != 20 || tags["o"] != 20 || tags["h"] != 1 {
		t.Errorf("stored: %v", tags)
	}
	if got := s.seqNow(); got < 20 {
		t.Errorf("seq %d", got)
	}
}
