package outbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

func batched(t *testing.T, batch Batch) *store {
	t.Helper()
	config := testConfig(t)
	config.Queues = map[string]Queue{"a": {Batch: &batch}}
	return newStore(t, config, "a")
}

func waiting(wait, longest time.Duration, most int, by string) Batch {
	return Batch{Wait: setting.Duration(wait), MaxWait: setting.Duration(longest), MaxEvents: most, By: by}
}

// bundle checks the next bundle: its events as "entity/attempts".
func (s *store) bundle(want ...string) []event.Delivery {
	s.t.Helper()
	got := s.next("a", 1)
	if names := namesOf(got); !slices.Equal(names, want) {
		s.t.Errorf("got %v, want %v", names, want)
	}
	return got
}

func (s *store) settleAll(deliveries []event.Delivery, result event.Result, wait time.Duration) {
	s.t.Helper()
	s.must(s.SettleAll(s.t.Context(), deliveries, event.Settlement{
		Attempt: event.Attempt{Number: deliveries[0].Attempts + 1, Time: s.now(), Status: 500}, Result: result, Wait: wait, Reason: "test",
	}))
}

// TestBundleWaits: a bundle goes when nothing came for a while, when its first
// event waited long enough, or when it is full; also over a restart.
func TestBundleWaits(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(10*time.Second, 25*time.Second, 4, "webhook"))
	s.commit("1", change("e", 1, "{}"))
	s.clock.advance(9 * time.Second)
	s.commit("2", change("e", 2, "{}"), change("f", 1, "{}"))
	s.clock.advance(9 * time.Second)
	s.bundle()
	s.reopen()
	s.bundle()
	s.clock.advance(time.Second)
	first := s.bundle("e/0", "e/0", "f/0")
	s.commit("3", change("g", 1, "{}"))
	s.clock.advance(time.Minute)
	s.bundle() // one at a time
	s.settleAll(first, event.Delivered, 0)
	s.settleAll(s.bundle("g/0"), event.Delivered, 0)

	for i := range 4 { // it never becomes quiet
		s.commit(fmt.Sprint("quiet", i), change("h", 10+i, "{}"))
		if i < 3 {
			s.bundle()
			s.clock.advance(8 * time.Second)
		}
	}
	s.settleAll(s.bundle("h/0", "h/0", "h/0", "h/0"), event.Delivered, 0)
	for i := range 3 {
		s.commit(fmt.Sprint("long", i), change("i", i, "{}"))
		s.clock.advance(9 * time.Second)
	}
	s.settleAll(s.bundle("i/0", "i/0", "i/0"), event.Delivered, 0)
	for i := range 6 {
		s.commit(fmt.Sprint("full", i), change(fmt.Sprint("j", i), 1, "{}"))
	}
	s.settleAll(s.bundle("j0/0", "j1/0", "j2/0", "j3/0"), event.Delivered, 0)
	s.bundle()
	s.clock.advance(10 * time.Second)
	s.settleAll(s.bundle("j4/0", "j5/0"), event.Delivered, 0)
	if tags := s.tags(); tags["t"]+tags["r"]+tags["o"]+tags["h"] != 0 {
		t.Errorf("left: %v", tags)
	}
}

// TestBundleFails: one that failed comes again as it was, and nothing passes it,
// also over a restart.
func TestBundleFails(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(time.Second, time.Second, 3, "webhook"))
	s.commit("1", change("e", 1, "{}"), change("f", 1, "{}"))
	s.clock.advance(time.Second)
	s.settleAll(s.bundle("e/0", "f/0"), event.Retry, time.Minute)
	s.commit("2", change("g", 1, "{}"), change("g", 2, "{}"), change("g", 3, "{}"))
	s.bundle()
	s.reopen()
	s.clock.advance(59 * time.Second)
	s.bundle()
	s.clock.advance(time.Second)
	s.settleAll(s.bundle("e/1", "f/1"), event.Retry, time.Hour)
	s.clock.advance(time.Hour)
	given := s.bundle("e/2", "f/2")
	for _, d := range given {
		s.Release(d)
	}
	s.settleAll(s.bundle("e/2", "f/2"), event.GiveUp, 0)
	s.settleAll(s.bundle("g/0", "g/0", "g/0"), event.Delivered, 0)
	if dead := s.tags()["z"]; dead != 2 {
		t.Errorf("%d dead letters", dead)
	}
}

// TestBundleByCause: what one bulk action did is one bundle, the rest goes alone.
func TestBundleByCause(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(10*time.Second, time.Minute, 100, "cause"))
	of := func(request, cause, entity string) event.Event {
		e := change(entity, int(request[0]), "{}")
		e.Cause, e.Request.ID = cause, request
		return e
	}
	s.commit("1", of("1", "", "e"), of("1", "", "f"))
	s.commit("2", of("2", "bulk", "g"), of("2", "bulk", "h"), of("2", "bulk", "i"))
	s.commit("3", of("3", "bulk", "g"))
	s.settleAll(s.bundle("e/0"), event.Delivered, 0)
	s.settleAll(s.bundle("f/0"), event.Delivered, 0)
	s.settleAll(s.bundle("g/0", "h/0", "i/0"), event.Delivered, 0)
	s.bundle()
	s.clock.advance(10 * time.Second)
	s.settleAll(s.bundle("g/0"), event.Delivered, 0)
}

// TestBundleSize: what is in memory at a time is bounded; order stays.
func TestBundleSize(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(0, 0, 100, "webhook"))
	large := `"` + strings.Repeat("x", 3<<20) + `"`
	for i := range 5 {
		s.commit(fmt.Sprint(i), change(fmt.Sprint("e", i), 1, large))
	}
	s.settleAll(s.bundle("e0/0", "e1/0", "e2/0"), event.Delivered, 0)
	s.settleAll(s.bundle("e3/0", "e4/0"), event.Delivered, 0)
}

// TestBundleAfterward: deliveries that waited one by one are bundled once the
// config says so, and the other way round.
func TestBundleAfterward(t *testing.T) {
	t.Parallel()
	s := batched(t, waiting(0, 0, 100, "webhook"))
	s.config.Queues = nil
	s.reopen()
	s.commit("1", change("e", 1, "{}"), change("e", 2, "{}"), change("f", 1, "{}"))
	s.bundle("e/0")
	s.config.Queues = map[string]Queue{"a": {Batch: &Batch{MaxEvents: 2, By: "webhook"}}}
	s.reopen()
	s.settleAll(s.bundle("e/0", "e/0"), event.Retry, time.Second)
	s.config.Queues = nil
	s.reopen()
	s.clock.advance(time.Second)
	if got := len(s.drain("a")); got != 3 {
		t.Errorf("%d of 3", got)
	}
}
