package outbox

import (
	"testing"
	"time"

	"cmstap/event"
)

// TestOldestOfResent: what is sent again has waited since that was due, and not since
// its event happened.
func TestOldestOfResent(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	check := func(age time.Duration) {
		t.Helper()
		list, err := s.Backlogs()
		s.must(err)
		if got := s.clock.now().Sub(list[0].Oldest).Round(time.Second); got != age {
			t.Errorf("has waited for %v, want %v", got, age)
		}
	}
	old, late := change("old", 1, "{}"), change("late", 1, "{}")
	s.commit("i", old)
	s.clock.advance(time.Minute)
	check(time.Minute)
	s.drain("a")
	s.clock.advance(6 * day)
	s.must(s.Resend(t.Context(), old.ID, "a"))
	check(0)
	s.clock.advance(time.Hour)
	check(time.Hour)
	s.settle(s.next("a", 1)[0], event.Retry, s.clock.now().Add(10*time.Hour))
	s.clock.advance(time.Hour)
	check(2 * time.Hour)
	late.Time = s.clock.now().Add(-3 * time.Hour) // it was long on its way
	s.commit("j", late)
	s.settle(s.next("a", 1)[0], event.Retry, s.clock.now().Add(10*time.Hour))
	check(3 * time.Hour)
	s.reopen()
	check(3 * time.Hour)
	s.must(s.Resend(t.Context(), late.ID, "a"))
	check(2 * time.Hour)
}

// TestOldestOfPaced: what a replay spreads over time has not waited before its turn.
func TestOldestOfPaced(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", many(20, 10)...)
	events := s.drain("a")
	s.clock.advance(day)
	r, err := s.Redeliver(1)
	s.must(err)
	var list []event.Event
	for _, e := range events {
		list = append(list, *e)
	}
	_, _, err = r.Add(t.Context(), wanted(list, "a"))
	s.must(err)
	s.clock.advance(5 * time.Second)
	s.drain("a")
	backlogs, err := s.Backlogs()
	s.must(err)
	if b := backlogs[0]; b.Waiting == 0 || !b.Oldest.IsZero() {
		t.Errorf("%d wait, since %v", b.Waiting, b.Oldest)
	}
}
