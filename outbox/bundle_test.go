package outbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"pgregory.net/rapid"
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
	large := `"` + strings.Repeat("x", 900<<10) + `"`
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

// TestBundleModel: whatever happens, the delivered bundles are all events in the
// order of their commits, and a bundle that failed comes again as it was.
func TestBundleModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		most := rapid.IntRange(1, 5).Draw(r, "most")
		batch := waiting(time.Duration(rapid.IntRange(0, 3).Draw(r, "wait"))*time.Second, 5*time.Second, most, "webhook")
		s := batched(t, batch)
		defer func() { s.must(s.Close()) }()
		var committed, delivered, failed, held []string
		var bundle []event.Delivery
		idsOf := func(deliveries []event.Delivery) (ids []string) {
			for _, d := range deliveries {
				ids = append(ids, d.Event.ID)
			}
			return ids
		}
		next := func() {
			if bundle != nil {
				if more := s.next("a", 1); more != nil {
					r.Fatalf("a second bundle: %v", idsOf(more))
				}
				return
			}
			bundle = s.next("a", 1)
			held = idsOf(bundle)
			if len(bundle) > most || bundle != nil && failed != nil && !slices.Equal(held, failed) {
				r.Fatalf("%v after %v failed; at most %d", held, failed, most)
			}
		}
		settle := func(result event.Result) {
			if next(); bundle == nil {
				return
			}
			s.settleAll(bundle, result, time.Second)
			if failed = held; result == event.Delivered {
				delivered, failed = append(delivered, held...), nil
			}
			bundle = nil
		}
		r.Repeat(map[string]func(*rapid.T){
			"commit": func(r *rapid.T) {
				var events []event.Event
				for range rapid.IntRange(1, 4).Draw(r, "events") {
					e := change(rapid.SampledFrom([]string{"e", "f", "g"}).Draw(r, "entity"), len(committed), "{}")
					events, committed = append(events, e), append(committed, e.ID)
				}
				s.commit(fmt.Sprint("i", len(committed)), events...)
			},
			"advance": func(r *rapid.T) {
				s.clock.advance(time.Duration(rapid.IntRange(1, 4000).Draw(r, "ms")) * time.Millisecond)
			},
			"next":    func(*rapid.T) { next() },
			"deliver": func(*rapid.T) { settle(event.Delivered) },
			"fail":    func(*rapid.T) { settle(event.Retry) },
			"release": func(*rapid.T) {
				for _, d := range bundle {
					s.Release(d)
				}
				bundle = nil
			},
			"reopen": func(*rapid.T) { s.reopen(); bundle = nil },
		})
		for s.clock.advance(time.Minute); len(delivered) < len(committed); s.clock.advance(time.Minute) {
			if settle(event.Delivered); bundle != nil {
				r.Fatal("it was not settled")
			}
		}
		if !slices.Equal(delivered, committed) {
			r.Fatalf("delivered %v, committed %v", delivered, committed)
		}
	})
}
