package outbox

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"
)

// machine is a clock that is set now and then, and one that never is.
type machine struct {
	wall    time.Time
	elapsed time.Duration
}

func (m *machine) advance(d time.Duration) { m.wall, m.elapsed = m.wall.Add(d), m.elapsed+d }

// The clock of the system is set by hours: nothing comes early or late, and
// after a restart nothing waits longer than it was told to.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	check := func(while, stopped time.Duration, want string) {
		t.Helper()
		m := &machine{wall: start}
		s := &store{t: t, config: testConfig(t), hooks: []string{"a"}, clock: &clock{}, log: &testlog.Log{}}
		open := func() {
			t.Helper()
			from := m.elapsed
			var err error
			s.Outbox, err = openAt(s.config, s.hooks, s.log.Logger(), steady(m.wall, func() time.Duration { return m.elapsed - from }), FreeSpace)
			s.must(err)
		}
		expect := func(want string) []event.Delivery {
			t.Helper()
			got := s.next("a", 10)
			if text := strings.Join(namesOf(got), " "); text != want {
				t.Errorf("set by %v and %v: after %v %q is due, want %q", while, stopped, m.elapsed, text, want)
			}
			return got
		}
		wait := func(d event.Delivery, wait time.Duration) {
			t.Helper()
			s.must(s.Settle(t.Context(), d, event.Settlement{Attempt: event.Attempt{Number: d.Attempts + 1}, Result: event.Retry, Wait: wait}))
		}
		open()
		s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"))
		for _, d := range expect("e/0 f/0") {
			wait(d, map[string]time.Duration{"e": time.Minute, "f": time.Hour}[d.Event.Entity.ID])
		}
		m.wall = m.wall.Add(while)
		m.advance(59 * time.Second)
		expect("")
		m.advance(time.Second)
		wait(expect("e/1")[0], time.Minute)
		s.commit("i", change("g", 1, "{}"))
		s.must(s.Close())
		m.wall = m.wall.Add(stopped)
		open()
		expect(want)
		m.advance(time.Hour)
		s.must(s.Close())
		open() // whatever was handed out comes again
		if got := s.next("a", 10); len(got) != 3 {
			t.Errorf("set by %v and %v: an hour later %v are due", while, stopped, namesOf(got))
		}
		s.must(s.Close())
	}
	const hours = 5 * time.Hour
	check(0, 0, "g/0")
	check(-hours, 0, "g/0")
	check(0, -hours, "g/0")
	check(-hours, -hours, "g/0")
	check(hours, 0, "g/0 e/2 f/1") // early, once, at a restart
	check(0, hours, "g/0 e/2 f/1")
	check(hours, -hours, "g/0")
}

// What is kept of a wait is exact, and nothing is moved that need not be.
func TestWaitsAreKept(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"))
	d := s.next("a", 1)[0]
	s.must(s.Settle(t.Context(), d, event.Settlement{Attempt: event.Attempt{Number: 1}, Result: event.Retry, Wait: 90*time.Minute + 123456789}))
	due := s.clock.now().Add(90*time.Minute + 123456789).Truncate(time.Millisecond)
	for range 3 {
		s.reopen()
		s.clock.advance(time.Millisecond)
	}
	s.clock.advance(due.Sub(s.clock.now()) - time.Millisecond)
	if got := s.names("a", 1); len(got) != 0 {
		t.Errorf("early: %v", got)
	}
	s.clock.advance(time.Millisecond)
	if got := s.next("a", 1); len(got) != 1 || !got[0].Due.Equal(due) || got[0].Attempts != 1 {
		t.Errorf("%+v, want %v", got, due)
	}
	// A record that can not be read is due at once, and given up.
	s.clock.advance(-24 * time.Hour)
	s.commit("i", change("f", 1, "{}"))
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(orderKey(1, entityHash("?"), 9), []byte("{"))
		b.set(dueKey(tagDue, 1, due, 9), be.AppendUint64(nil, entityHash("?")))
	}))
	s.reopen()
	s.drain("a")
	if tags := s.tags(); tags["t"]+tags["o"] != 2 || tags["z"] != 1 {
		t.Errorf("%v", tags)
	}
}

// TestSlotsAfterWrongClock: redeliveries that were asked for while the clock was a
// year ahead keep nothing waiting once it is right.
func TestSlotsAfterWrongClock(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	resend := func(want int) {
		t.Helper()
		tally, err := s.ResendFailed(t.Context(), event.Query{}, 1, func(event.Tally) {})
		if err != nil || tally.Deliveries != want {
			t.Fatalf("%+v %v", tally, err)
		}
	}
	s.clock.advance(365 * day)
	s.giveUp("a", 40)
	resend(40)
	s.must(s.Close())
	s.clock.advance(-365 * day)
	s.open()
	s.commit("new", change("new", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.GiveUp, time.Time{})
	s.clock.advance(time.Second)
	s.settle(s.next("a", 1)[0], event.GiveUp, time.Time{})
	resend(2) // behind the others
	s.clock.advance(41 * time.Second)
	if got := len(s.drain("a")); got < 39 || got > 41 {
		t.Errorf("%d are delivered after 42 s", got)
	}
	s.clock.advance(time.Second)
	s.drain("a")
	if got := s.tags()["o"]; got != 0 {
		t.Errorf("%d wait after 43 s", got)
	}
}

// TestSlotsAreGivenBack: slots of redeliveries that were not stored, or dropped, keep
// no others waiting.
func TestSlotsAreGivenBack(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("waits", change("waits", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.Retry, s.now().Add(time.Hour))
	s.giveUp("a", 40)
	resend := func() {
		t.Helper()
		if _, err := s.ResendFailed(t.Context(), event.Query{}, 1, func(event.Tally) {}); err != nil {
			t.Fatal(err)
		}
		if got := s.names("a", 100); len(got) != 1 {
			t.Errorf("%v are due at once, want one", got)
		}
	}
	failed := errors.New("no disk")
	err := s.submit(t.Context(), func(b *batch) {
		for range 100 {
			b.slot(s.Outbox.hooks()["a"], 1)
		}
		b.fail(failed)
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	resend()
	if _, err := s.DropWaiting(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	s.giveUpFrom("a", 100, 1)
	resend()
}
