package outbox

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cmstap/event"
)

// numbers says which changes of an entity the deliveries are.
func numbers(entity string, deliveries []event.Delivery) (list []int) {
	for _, d := range deliveries {
		for n := range 100 {
			if change(entity, n, "").ID == d.Event.ID {
				list = append(list, n)
			}
		}
	}
	return list
}

// replay makes stored events due once more for webhook a.
func (s *store) replay(rate int, events ...event.Event) {
	s.t.Helper()
	r, err := s.Redeliver(rate)
	s.must(err)
	for i := range events {
		stored, _, err := s.stored(events[i].ID)
		s.must(err)
		events[i] = *stored
	}
	_, _, err = r.Add(s.t.Context(), wanted(events, "a"))
	s.must(err)
}

// deliver delivers what is due, and returns which changes of e that were.
func (s *store) deliver() (list []int) {
	s.t.Helper()
	due := s.next("a", 1000)
	for _, d := range due {
		s.settle(d, event.Delivered, time.Time{})
	}
	return numbers("e", due)
}

// busy keeps the slots of the next minutes taken.
func (s *store) busy(minutes int) {
	s.t.Helper()
	var others []event.Event
	for i := range 60 * minutes {
		others = append(others, change(fmt.Sprint("o", i), 1, "{}"))
	}
	s.must(s.Commit(s.t.Context(), "busy", wanted(others), nil, nil))
	s.replay(1, others...)
}

// TestReplayKeepsOrderOfWrites: what follows from writes goes in commit order and
// before what waits for its slot, also if a replay adds an event between two that
// wait; also over a restart, and one that changes the order.
func TestReplayKeepsOrderOfWrites(t *testing.T) {
	t.Parallel()
	for _, reordered := range []bool{false, true} {
		s := newStore(t, testConfig(t), "a")
		s.commit("1", change("e", 1, "{}"))
		s.must(s.Commit(t.Context(), "2", wanted([]event.Event{change("e", 2, "{}")}), nil, nil)) // nobody wants it
		s.commit("3", change("e", 3, "{}"))
		s.busy(1)
		s.replay(1, change("e", 1, ""), change("e", 2, ""), change("e", 3, ""))
		got := s.deliver()
		if reordered {
			s.config.Queues = map[string]Queue{"a": {Order: "none"}}
			s.reopen()
			s.config.Queues = nil
		}
		s.reopen()
		s.commit("4", change("e", 4, "{}"))
		got = append(append(got, s.deliver()...), s.deliver()...)
		if !slices.Equal(got, []int{1, 3, 4}) {
			t.Errorf("%v before the slot, want [1 3 4] (reordered: %v)", got, reordered)
		}
		s.clock.advance(time.Hour)
		if got := append(s.deliver(), s.deliver()...); !slices.Equal(got, []int{2}) {
			t.Errorf("%v after it, want [2] (reordered: %v)", got, reordered)
		}
	}
}

// TestReplayGoesInCommitOrder: what is made once more of an entity goes in commit
// order, whatever the order of the slots is, and in spite of a failure.
func TestReplayGoesInCommitOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	for n := range 4 {
		s.commit(fmt.Sprint(n), change("e", n, "{}"))
		s.deliver()
	}
	s.busy(1)
	for _, n := range []int{2, 1, 3, 0} {
		s.replay(1, change("e", n, ""))
	}
	s.clock.advance(time.Hour)
	var got []int
	for _, d := range s.next("a", 1000) {
		if d.Event.Entity.ID == "e" {
			s.settle(d, event.Retry, s.now().Add(time.Hour))
		} else {
			s.settle(d, event.Delivered, time.Time{})
		}
	}
	if early := s.deliver(); len(early) > 0 {
		t.Errorf("%v do not wait for the retry of 0", early)
	}
	s.clock.advance(time.Hour)
	for range 4 {
		got = append(got, s.deliver()...)
	}
	if !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Error(got)
	}
}

// TestNewEventsDoNotOvertakeACall: a turn is not taken from what is handed out while
// the write of a new event is being stored.
func TestNewEventsDoNotOvertakeACall(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("1", change("e", 1, "{}"), change("x", 1, "{}"))
	s.drain("a")
	s.replay(1, change("x", 1, ""), change("e", 1, "")) // e is due in a second
	var handed []event.Delivery
	s.must(s.submit(t.Context(), func(b *batch) { // it began before that
		s.clock.advance(2 * time.Second)
		h, err := s.handOut(s.Outbox.hooks()["a"], 10)
		if handed = h.deliveries; err != nil {
			t.Error(err)
		}
		b.placeAll(pack(wanted([]event.Event{change("e", 2, "{}")}, "a")))
	}))
	if got := numbers("e", handed); !slices.Equal(got, []int{1}) {
		t.Fatalf("%v are handed out", got)
	}
	if got := numbers("e", s.next("a", 10)); len(got) > 0 {
		t.Errorf("%v are handed out beside 1", got)
	}
	for _, d := range handed {
		s.settle(d, event.Delivered, time.Time{})
	}
	if got := s.deliver(); !slices.Equal(got, []int{2}) {
		t.Error(got)
	}
}

// TestNewEventsDoNotWaitForRetries: a redelivery that fails keeps nothing new of its
// entity waiting, whether that comes after the failure or during the call.
func TestNewEventsDoNotWaitForRetries(t *testing.T) {
	t.Parallel()
	for _, during := range []bool{false, true} {
		s := newStore(t, testConfig(t), "a")
		s.commit("1", change("e", 1, "{}"))
		s.drain("a")
		s.must(s.Resend(t.Context(), change("e", 1, "").ID, "a"))
		call := s.next("a", 1)[0]
		if during {
			s.commit("2", change("e", 2, "{}"))
		}
		s.settle(call, event.Retry, s.now().Add(10*time.Hour))
		if !during {
			s.commit("2", change("e", 2, "{}"))
		}
		if got := s.deliver(); !slices.Equal(got, []int{2}) {
			t.Errorf("during the call: %v: got %v, want [2]", during, got)
		}
		s.clock.advance(10 * time.Hour)
		if got := s.deliver(); !slices.Equal(got, []int{1}) {
			t.Errorf("during the call: %v: got %v, want [1]", during, got)
		}
	}
}

// TestResendKeepsBundles: what waits in a batch and is sent again keeps its place, and
// a bundle that failed stays whole.
func TestResendKeepsBundles(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(10*time.Second, time.Minute, 100, "webhook"))
	resend := func(n int) error { return s.Resend(t.Context(), change("e", n, "").ID, "a") }
	for n := 1; n < 3; n++ {
		s.commit(fmt.Sprint(n), change("e", n, "{}"))
		s.clock.advance(time.Second)
	}
	s.must(resend(1))
	s.clock.advance(9 * time.Second)
	call := s.bundle("e/0", "e/0")
	if got := numbers("e", call); !slices.Equal(got, []int{1, 2}) || call[0].Redelivery != event.Resend {
		t.Errorf("%v %q", got, call[0].Redelivery)
	}
	s.settleAll(call, event.Retry, time.Hour)
	s.commit("3", change("e", 3, "{}"))
	s.refused(resend(2), event.Conflict)
	s.must(resend(3))
	s.bundle()
	s.clock.advance(time.Hour)
	s.settleAll(s.bundle("e/1", "e/1"), event.GiveUp, 0)
	s.clock.advance(time.Second)
	s.must(resend(1)) // goes behind what waits
	s.clock.advance(10 * time.Second)
	if got := numbers("e", s.bundle("e/0", "e/0")); !slices.Equal(got, []int{3, 1}) {
		t.Error(got)
	}
}
