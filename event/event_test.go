package event_test

import (
	"testing"

	"cmstap/event"
)

func TestKey(t *testing.T) {
	t.Parallel()
	of := func(space, environment, target, id string) string {
		e := event.Event{Space: space, Environment: environment, Target: target, Entity: event.Entity{Type: "Entry", ID: id}}
		return e.Key()
	}
	key := of("s", "master", "", "x")
	if again := of("s", "master", "", "x"); again != key {
		t.Error("the same entity has two keys")
	}
	if of("s", "master", "live", "x") != of("s", "live", "", "x") {
		t.Error("an entity seen through an alias is not the one of its target")
	}
	part := event.Event{Space: "s", Environment: "master", Entity: event.Entity{Type: "Entry", ID: "x", Within: "e"}}
	for _, other := range []string{part.Key(), of("s", "master", "", "y"), of("s2", "master", "", "x"), of("sm", "aster", "", "x")} {
		if other == key {
			t.Errorf("two entities have the key %s", other)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	id := event.NewID("intent", "Entry.publish", "key", 0)
	if len(id) != 64 || id != event.NewID("intent", "Entry.publish", "key", 0) {
		t.Errorf("got %s", id)
	}
	for _, other := range []string{
		event.NewID("intent2", "Entry.publish", "key", 0), event.NewID("intent", "Entry.save", "key", 0),
		event.NewID("intent", "Entry.publish", "key", 1), event.NewID("intentE", "ntry.publish", "key", 0),
	} {
		if other == id {
			t.Error("two events have one id")
		}
	}
}
