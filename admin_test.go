package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cmstap/event"
)

// TestAdminStory: a write goes through the program, one webhook answers and one
// refuses, and the API tells both, without what is secret.
func TestAdminStory(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"sys":{"type":"Entry","id":"hello","version":1},"fields":{}}`)
	}))
	hooks := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/refuse") {
			w.WriteHeader(400)
		}
		_, _ = io.WriteString(w, "I saw "+r.Header.Get("X-Key")+" at "+r.URL.Path)
	}))
	p := start(t, program, `
proxy: { listen: "127.0.0.1:0", upstream: "`+cms.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0", token: { value: a-token-of-a-test } }
webhooks:
- { name: good, url: "`+hooks.URL+`/path-secret/take", topics: "*.*", headers: { X-Key: { value: key-secret } } }
- { name: bad, url: "`+hooks.URL+`/path-secret/refuse", topics: "*.*", retry: { delays: [], on: [5xx] } }
`)
	if status, body, err := ask("PUT", "http://"+p.proxy+"/spaces/s/environments/master/entries/hello", "{}", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	p.waitLine(t, "msg=delivered", "webhook=good")
	p.waitLine(t, "msg=failed", "webhook=bad")
	read := func(path string, into any) {
		t.Helper()
		status, body, err := ask("GET", "http://"+p.admin+path, "", map[string]string{"Authorization": "Bearer a-token-of-a-test"})
		if err != nil || status != 200 || json.Unmarshal([]byte(body), into) != nil {
			t.Fatalf("%s: %d %s %v", path, status, body, err)
		}
		if strings.Contains(body, "path-secret") || strings.Contains(body, "key-secret") {
			t.Errorf("%s: %s", path, body)
		}
	}
	var page event.Page[event.Call]
	read("/api/calls?topic=Entry.*", &page)
	if len(page.Items) != 0 {
		t.Errorf("%+v", page)
	}
	for webhook, result := range map[string]string{"good": "delivered", "bad": "failed"} {
		read("/api/calls?webhook="+webhook, &page)
		if len(page.Items) != 1 || page.Items[0].Result != result || page.Items[0].Entity != "hello" {
			t.Fatalf("%s: %+v", webhook, page)
		}
		var call event.Call
		read("/api/calls/"+page.Items[0].ID, &call)
		if call.Wire == nil || call.Wire.URL != hooks.URL+"/<secret>" || !strings.HasPrefix(call.Wire.Answer, "I saw ") {
			t.Errorf("%+v", call)
		}
		var story event.Story
		read("/api/events/"+call.Event, &story)
		if len(story.Deliveries) != 2 || len(story.Calls) != 2 || story.ID != call.Event || time.Since(story.Time) > time.Hour {
			t.Errorf("%+v", story)
		}
	}
	var list event.Page[event.Backlog]
	read("/api/webhooks", &list)
	if len(list.Items) != 2 || list.Items[0].Dead != 1 || list.Items[1].Dead != 0 {
		t.Errorf("%+v", list)
	}
	if status, _, err := ask("GET", "http://"+p.admin+"/api/calls", "", nil); err != nil || status != 401 {
		t.Errorf("%d %v", status, err)
	}
}
