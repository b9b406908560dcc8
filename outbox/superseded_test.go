package outbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cmstap/event"
)

// versioned is an event of an entity in a version, by a request of its own.
func versioned(entity string, n int, change_ func(*event.Event)) event.Event {
	e := change(entity, n, fmt.Sprint(n))
	e.Entity.Version, e.Request.ID = int64(n), fmt.Sprint("request", n)
	if change_ != nil {
		change_(&e)
	}
	e.ID = event.NewID(e.Request.ID, e.Topic(), e.Key(), n)
	return e
}

func queued(t *testing.T, queue Queue) *store {
	t.Helper()
	config := testConfig(t)
	config.Queues = map[string]Queue{"a": queue}
	return newStore(t, config, "a", "b")
}

// payloads are what is delivered to a webhook, in order.
func payloads(events []*event.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, string(e.Payload))
	}
	return strings.Join(all, " ")
}

func TestSuperseded(t *testing.T) {
	t.Parallel()
	check := func(want string, events ...event.Event) {
		t.Helper()
		s := queued(t, Queue{Superseded: "skip"})
		for _, e := range events {
			s.commit("i", e)
		}
		if got := payloads(s.drain("a")); got != want {
			t.Errorf("%q is delivered, want %q", got, want)
		}
		if got := len(s.drain("b")); got != len(events) {
			t.Errorf("the other webhook gets %d of %d", got, len(events))
		}
		dropped := len(events) - len(strings.Fields(want))
		if got := strings.Count(s.log.String(), "msg=superseded webhook=a event="); got != dropped {
			t.Errorf("%d lines for %d\n%s", got, dropped, s.log)
		}
		if tags := s.tags(); tags["o"]+tags["h"]+tags["t"]+tags["z"] != 0 {
			t.Errorf("left: %v", tags)
		}
	}
	plain := func(n int) event.Event { return versioned("e", n, nil) }
	with := func(n int, change func(*event.Event)) event.Event { return versioned("e", n, change) }
	check("3", plain(1), plain(2), plain(3))
	check("2 4", plain(1), versioned("f", 2, nil), versioned("f", 3, func(e *event.Event) { e.Entity.ID = "e" }), plain(4))
	other := func(change func(*event.Event)) { t.Helper(); check("1 2", plain(1), with(2, change)) }
	other(func(e *event.Event) { e.Action = "save" })
	other(func(e *event.Event) { e.Entity.Locale = "de" })
	other(func(e *event.Event) { e.Environment = "staging" })
	other(func(e *event.Event) { e.Environment, e.Target = "alias", "master" })
	other(func(e *event.Event) { e.Space = "t" })
	other(func(e *event.Event) { e.Request.ID = "request1" })
	other(func(e *event.Event) { e.Confirmed = false })
	other(func(e *event.Event) { e.Late = true })
	other(func(e *event.Event) { e.Accepted = true })
	other(func(e *event.Event) { e.Partial = "not seen" })
	other(func(e *event.Event) { e.PayloadError = "not JSON" })
	other(func(e *event.Event) { e.Entity.Version = 0 })
	check("2 1", plain(2), plain(1)) // never a higher version
	check("2", with(1, func(e *event.Event) { e.Confirmed, e.Partial = false, "not seen" }), plain(2))
	check("2 3", plain(1), with(2, func(e *event.Event) { e.Action = "unpublish" }), plain(3))
}

// What is being delivered is not dropped, but once that failed it is.
func TestSupersededWhileDelivered(t *testing.T) {
	t.Parallel()
	s := queued(t, Queue{Superseded: "skip"})
	s.commit("i", versioned("e", 1, nil))
	first := s.next("a", 1)[0]
	s.commit("i", versioned("e", 2, nil))
	s.commit("i", versioned("e", 3, nil)) // drops the second
	if got := s.names("a", 10); len(got) != 0 {
		t.Fatalf("two of one entity at a time: %v", got)
	}
	s.settle(first, event.Retry, s.now().Add(time.Hour))
	if got := payloads(s.drain("a")); got != "3" || strings.Count(s.log.String(), "msg=superseded") != 2 {
		t.Errorf("delivered: %s\n%s", got, s.log)
	}
	if tags := s.tags(); tags["o"] != 3 { // those of the other webhook
		t.Errorf("%v", tags)
	}
}

// Many entities with much to drop do not make a commit too large.
func TestSupersededByALargeCommit(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	s := newStore(t, config, "a")
	const entities, each = 150, 40
	for n := range each {
		var events []event.Event
		for i := range entities {
			events = append(events, versioned(fmt.Sprint("e", i), n+1, nil))
		}
		s.commit("i", events...)
	}
	s.config.Queues = map[string]Queue{"a": {Superseded: "skip"}}
	s.reopen()
	var events []event.Event
	for i := range entities {
		events = append(events, versioned(fmt.Sprint("e", i), each+1, nil))
	}
	s.commit("i", events...)
	dropped := strings.Count(s.log.String(), "msg=superseded")
	if got := len(s.drain("a")); got+dropped != entities*(each+1) || dropped < 1000 {
		t.Errorf("%d dropped, %d delivered", dropped, got)
	}
}

func TestOrderNone(t *testing.T) {
	t.Parallel()
	s := queued(t, Queue{Order: "none"})
	expect := func(hook string, want int) {
		t.Helper()
		if got := s.names(hook, 10); len(got) != want {
			t.Errorf("%s: %v, want %d", hook, got, want)
		}
	}
	s.commit("i", change("e", 1, "1"), change("e", 2, "2"), change("e", 3, "3"), change("f", 1, "4"))
	expect("b", 2)
	all := s.next("a", 10)
	if len(all) != 4 {
		t.Fatalf("%v", namesOf(all))
	}
	s.settle(all[0], event.Delivered, time.Time{})
	s.settle(all[1], event.Retry, s.now())
	s.reopen()
	expect("a", 3)
	// Another order takes effect on what waits.
	s.config.Queues = map[string]Queue{"a": {Order: "entity"}, "b": {Order: "none"}}
	s.reopen()
	expect("a", 2)
	expect("b", 4)
	s.hooks = nil // a webhook that the config has not keeps its order
	s.reopen()
	s.hooks, s.config.Queues = []string{"a", "b"}, map[string]Queue{"b": {Order: "none"}}
	s.reopen()
	if got := payloads(s.drain("a")); got != "2 4 3" && got != "4 2 3" {
		t.Errorf("a: %s", got)
	}
	if got := len(s.drain("b")); got != 4 || s.tags()["o"]+s.tags()["h"]+s.tags()["t"] != 0 {
		t.Errorf("b: %d, %v left", got, s.tags())
	}
}
