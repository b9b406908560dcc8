package shape

import (
	"encoding/json"
	"time"

	"cmstap/event"
	"cmstap/internal/expression"
)

// roots are the names that expressions of templates may use: those of filters
// but for before, what else an event has, and the events of a bundle.
var roots = []string{
	"id", "time", "type", "action", "topic", "space", "environment", "alias", "target", "entity", "actor", "payload",
	"request", "confirmed", "accepted", "late", "cause", "changes", "events",
}

// pointerRoots are what pointers start with, and the roots that they read.
// Contentful resolves them against { topic, user, payload }
// (www.contentful.com/developers/docs/webhooks/transformations).
var pointerRoots = map[string]string{"payload": "payload", "topic": "vendor_topic", "user": "user"}

// scopeOf holds what templates may read of an event. What is empty or was not
// seen is missing.
func scopeOf(e *event.Event) *expression.Scope {
	values := map[string]any{
		"id": e.ID, "time": e.Time.UTC().Format(time.RFC3339Nano), "type": e.Type, "action": e.Action, "topic": e.Topic(),
		"confirmed": e.Confirmed, "accepted": e.Accepted, "late": e.Late,
		"entity": document(e.Entity), "request": document(e.Request),
		"payload":      expression.Document{JSON: e.Payload, Whole: true},
		"vendor_topic": vendorTopic(e),
	}
	for root, text := range map[string]string{
		"space": e.Space, "environment": e.Environment, "alias": e.Alias, "target": e.Target, "actor": e.Actor, "cause": e.Cause,
	} {
		if text != "" {
			values[root] = text
		}
	}
	if e.Actor != "" {
		values["user"] = document(map[string]any{"sys": map[string]string{"type": "Link", "linkType": "User", "id": e.Actor}})
	}
	if e.Changes != nil {
		values["changes"] = document(e.Changes)
	}
	return expression.NewScope(values)
}

func document(value any) expression.Document {
	text, _ := json.Marshal(value)
	return expression.Document{JSON: text, Whole: true}
}

// vendorTopic is the topic as Contentful's own webhooks name it
// (ContentManagement.Entry.publish), and else the event's.
func vendorTopic(e *event.Event) string {
	for _, h := range e.Native.Headers {
		if h.Name == "X-Contentful-Topic" {
			return h.Value
		}
	}
	return e.Topic()
}
