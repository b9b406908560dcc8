package outbox

import (
	"testing"
	"time"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

func version(entity string, n int, version int64) event.Event {
	e := change(entity, n, "{}")
	e.Entity.Version = version
	return e
}

func (s *store) seen(e event.Event) int64 {
	s.t.Helper()
	last, err := s.Last(s.t.Context(), e.Key())
	s.must(err)
	return last.Version
}

// TestLinks: what was learned of aliases survives, wins over the config, and
// drops the states that were stored under the alias, but nothing that waits.
func TestLinks(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	master, other := event.Place{Space: "s", Name: "master"}, event.Place{Space: "s", Name: "other"}
	config.Links = event.Links{master: "configured", other: "environment"}
	s := newStore(t, config, "a")
	want := func(links event.Links) {
		t.Helper()
		if diff := cmp.Diff(links, s.Links()); diff != "" {
			t.Error(diff)
		}
	}
	want(config.Links)
	under, elsewhere := version("x", 1, 5), version("x", 2, 7)
	elsewhere.Environment = "staging"
	s.commit("i", under, elsewhere)
	waiting := s.tags()["o"]

	s.must(s.Learn(t.Context(), []event.Link{{Space: "s", Alias: "master", Target: "configured"}}))
	if s.seen(under) != 5 || s.tags()["l"] != 0 {
		t.Error("what is no news was stored")
	}
	s.begin("retarget")
	learned := []event.Link{{Space: "s", Alias: "master", Target: "live"}, {Space: "s", Alias: "other"}}
	s.must(s.Commit(t.Context(), "retarget", wanted([]event.Event{change("alias", 3, "{}")}, "a"), learned, nil))
	if s.seen(under) != 0 || s.seen(elsewhere) != 7 {
		t.Error("the states under the alias, and only those, must go")
	}
	if tags := s.tags(); tags["o"] != waiting+1 || tags["i"] != 0 {
		t.Errorf("left: %v", tags)
	}
	now := event.Links{master: "live", other: ""}
	want(now)

	// What is older than what is known teaches nothing.
	at := func(second int, target string) []event.Link {
		return []event.Link{{Space: "s", Alias: "master", Target: target, Time: s.clock.now().Add(time.Duration(second) * time.Second)}}
	}
	s.must(s.Learn(t.Context(), at(10, "next")))
	s.must(s.Learn(t.Context(), at(5, "live")))
	now[master] = "next"
	want(now)
	s.must(s.Learn(t.Context(), at(11, "live")))
	now[master] = "live"
	want(now)
	s.reopen()
	want(now)
}
