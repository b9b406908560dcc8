package outbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cmstap/event"
)

// worst is the answer that takes most to keep: of its 4 KiB, each byte is six as
// JSON.
var worst = strings.Repeat("<", 4<<10)

// refuse settles deliveries one by one with the worst answer.
func (s *store) refuse(deliveries []event.Delivery, result event.Result, wait time.Duration) {
	s.t.Helper()
	for _, d := range deliveries {
		s.must(s.Settle(s.t.Context(), d, event.Settlement{
			Attempt: event.Attempt{Number: d.Attempts + 1, Time: s.now(), Status: 500, Answer: worst}, Result: result, Wait: wait, Reason: "test",
		}))
	}
}

// TestAnswersFitIntoATransaction: whatever receivers answer, the end of many
// deliveries at once can be stored.
func TestAnswersFitIntoATransaction(t *testing.T) {
	t.Parallel()
	for _, result := range []event.Result{event.Retry, event.GiveUp} {
		s := batched(t, waiting(0, 0, mostBundled, "webhook"))
		var events []event.Event
		for n := range mostBundled {
			events = append(events, change(fmt.Sprint(n), 1, "{}"))
		}
		s.commit("i", events...)
		bundle := s.next("a", 1)
		if len(bundle) != mostBundled {
			t.Fatal(len(bundle))
		}
		s.must(s.SettleAll(t.Context(), bundle, event.Settlement{
			Attempt: event.Attempt{Number: 1, Time: s.now(), Status: 500, Answer: worst}, Result: result, Wait: time.Second,
		}))
	}
}

// TestClockBackWithAnswers: the same for what an Open and the maintenance do to
// many deliveries.
func TestClockBackWithAnswers(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	var events []event.Event
	for n := range 400 {
		events = append(events, change(fmt.Sprint(n), 1, "{}"))
	}
	s.commit("i", events...)
	s.refuse(s.next("a", 1000), event.Retry, time.Hour)
	s.clock.advance(-24 * time.Hour)
	s.reopen()
	s.clock.advance(time.Hour)
	if got := len(s.next("a", 1000)); got != 400 {
		t.Errorf("%d of 400 are due", got)
	}
	s.hooks = []string{"b"}
	s.reopen()
	s.must(s.Maintain(s.clock.now().Add(8 * day)))
	if dead := s.tags()["z"]; dead != 400 {
		t.Errorf("%d of 400 are given up", dead)
	}
}

// TestRetriesBecomeABundle: what failed before there was a batch holds nothing up.
func TestRetriesBecomeABundle(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(0, 0, 100, "webhook"))
	queues := s.config.Queues
	s.config.Queues = nil
	s.reopen()
	s.commit("i", change("e", 1, "{}"))
	s.refuse(s.next("a", 1), event.Retry, 10*time.Hour)
	s.commit("j", change("f", 1, "{}"))
	s.config.Queues = queues
	s.reopen()
	s.settleAll(s.bundle("e/1"), event.Delivered, 0)
	s.settleAll(s.bundle("f/0"), event.Delivered, 0)
}

// TestDamagedParked: an event that can not be read keeps nothing else from being
// given up.
func TestDamagedParked(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"))
	s.must(s.submit(t.Context(), func(b *batch) { b.set(eventKey(1), []byte("garbage")) }))
	s.hooks = []string{"b"}
	s.reopen()
	s.must(s.Maintain(s.clock.now().Add(8 * day)))
	if tags := s.tags(); tags["z"] != 2 || tags["o"] != 0 {
		t.Errorf("left: %v", tags)
	}
}
