package outbox

import (
	"strings"
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

// TestSeen: the version of an entity's last event is kept; an event of an older
// one is late, and what is gone starts anew.
func TestSeen(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	want := func(e event.Event, version int64) {
		t.Helper()
		if got := s.seen(e); got != version {
			t.Errorf("version %d is kept, want %d", got, version)
		}
	}
	late := func(e event.Event) bool {
		t.Helper()
		stored, found, err := s.Event(e.ID)
		if err != nil || !found {
			t.Fatalf("%t %v", found, err)
		}
		return stored.Late
	}
	x := change("x", 0, "{}")
	want(x, 0)
	s.commit("i", version("x", 1, 5))
	want(x, 5)
	unconfirmed, stale, plain := version("x", 2, 9), version("x", 3, 4), version("x", 4, 0)
	unconfirmed.Confirmed = false
	s.commit("i", unconfirmed, stale, plain, version("y", 5, 2))
	want(x, 5)
	want(change("y", 0, "{}"), 2)
	if late(unconfirmed) || !late(stale) || late(plain) {
		t.Error("only the event of an older version is late")
	}
	s.reopen()
	want(x, 5)
	gone := version("x", 6, 0)
	gone.Gone = true
	s.commit("i", gone)
	want(x, 0)
	again := version("x", 7, 1)
	s.commit("i", again)
	if want(x, 1); late(again) {
		t.Error("another entity of that id starts with a late event")
	}

	// A first version after later ones is another entity's, or late: who knows.
	s.commit("i", version("x", 8, 7), version("x", 9, 1))
	want(x, 0)
	s.commit("i", version("x", 10, 2))
	want(x, 2)

	// Each version is counted once.
	count := func() int64 {
		last, err := s.Last(t.Context(), x.Key())
		s.must(err)
		return last.Count
	}
	before := count()
	s.commit("i", version("x", 11, 3), version("x", 12, 3), version("x", 13, 5), version("x", 14, 4))
	if want(x, 5); count() != before+3 {
		t.Errorf("%d versions were counted", count()-before)
	}

	// Of an entity with an endless id nothing is kept.
	endless := version(strings.Repeat("x", 70_000), 15, 4)
	s.commit("i", endless)
	want(endless, 0)

	// It goes with its event.
	s.drain("a")
	s.must(s.Maintain(s.clock.now().Add(8 * 24 * time.Hour)))
	want(x, 0)
	if tags := s.tags(); tags["v"] != 0 || tags["e"] != 0 {
		t.Errorf("left: %v", tags)
	}
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
