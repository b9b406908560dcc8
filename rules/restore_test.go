package rules_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// TestRestored: a stored event is decided, and explained, as it was when it was
// made, also if nobody asked then for what it was before.
func TestRestored(t *testing.T) {
	t.Parallel()
	var webhooks []rules.Webhook
	for i, filter := range []string{
		`payload.post.state == "live"`, `before.post.state == "live"`, `before == nil`, `changed("post.state")`, `not changed("post.kind")`,
		`payload.was.title == "a"`, `payload.kind == "news"`, `"post.title" in changes`, `entity.version > 1 and actor == "x"`,
	} {
		w := webhook(t, "{topics: ['*.*'], filter: '"+filter+"'}")
		w.Name = fmt.Sprint(i)
		webhooks = append(webhooks, w)
	}
	asked, silent := newMemory(t, stateDialect, webhooks...), newMemory(t, stateDialect)
	stored, made := map[string]event.Event{}, map[string][]event.Explained{}
	for n, write := range [][3]string{
		{"POST", "/posts", `{"post":{"id":"a","at":1,"kind":"news","state":"draft","title":"a"}}`},
		{"PUT", "/posts/a", `{"post":{"id":"a","at":2,"kind":"news","state":"live","title":"a"}}`},
		{"PUT", "/posts/a", `{"post":{"id":"a","at":3,"kind":"news","state":"draft","title":"b"}}`},
		{"PUT", "/posts/a", `{"post":{"id":"a","at":2,"kind":"news","state":"live","title":"late"}}`},
		{"DELETE", "/posts/a", `{}`},
		{"PUT", "/posts/unknown", `{"post":{"id":"unknown","at":7,"state":"live","title":"a"}}`},
		{"DELETE", "/posts/other", `{}`},
		{"POST", "/posts/unknown/move", `{}`},
	} {
		for who, m := range []*memory{asked, silent} {
			x := m.begin(write[0], write[1])
			x.Intent.ID = fmt.Sprint("intent", n)
			for _, e := range m.end(x, write[2]) {
				prefix := fmt.Sprint(who, " ")
				stored[prefix+e.ID] = keep(t, e)
				if who == 0 {
					made[e.ID] = asked.r.Explain(&e, nil)
				}
				restored := keep(t, e)
				restore(&restored, stored, prefix)
				asked.r.Restore(&restored)
				if diff := cmp.Diff(made[e.ID], asked.r.Explain(&restored, nil)); diff != "" {
					t.Errorf("%s %s, %d:\n%s", write[0], write[1], who, diff)
				}
			}
		}
	}
	if all := fmt.Sprint(made); !strings.Contains(all, "yes") || !strings.Contains(all, "undecided") || !strings.Contains(all, " no ") {
		t.Errorf("it decides nothing: %s", all)
	}
}

// keep is an event as the outbox gives it back.
func keep(t *testing.T, e event.Event) (kept event.Event) {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	kept.Payload = e.Payload
	return kept
}

// restore reads what an event's entity was.
func restore(e *event.Event, stored map[string]event.Event, prefix string) {
	if e.BeforeEvent == event.NoEvent {
		e.Before = []byte("null")
	} else if shown, there := stored[prefix+e.BeforeEvent]; there {
		e.Before = shown.Payload
	}
}
