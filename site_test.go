package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"testing"
)

const (
	// evil is what a stranger may write into content and answers.
	evil = `"><script>window.hit=1;alert(1)</script><img src=x onerror="window.hit=1;alert(2)">`
	// evilID is the same for an id, which has no slash.
	evilID = `"><img src=x onerror="window.hit=1;alert(3)">`
	// evilWord is the same for what net/http quotes of an answer that is none.
	evilWord = `<img/src=x/onerror=window.hit=1>`

	pageToken = "a-token-of-a-test"
)

// site is a cmstap that has seen writes, with what it needs around it.
type site struct {
	*process
	event string // the id of the event of hello's second version
	call  string // of a call that was given up
}

// newSite starts cmstap between a CMS and receivers that answer well, ill, never
// well, and nonsense. All of them write evil.
func newSite(t *testing.T) *site {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	versions := 0
	api := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := json.Marshal(path.Base(r.URL.Path))
		title, _ := json.Marshal(evil)
		versions++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"sys":{"type":"Entry","id":%s,"version":%d},"fields":{"title":{"en-US":%s},"slug":{"en-US":"v%[2]d"}}}`, id, versions, title)
	}))
	hooks := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Answer", evil)
		switch path.Base(r.URL.Path) {
		case "ill":
			w.WriteHeader(400)
		case "later":
			w.WriteHeader(503)
		case "well":
			_, _ = io.WriteString(w, `{"saw":"`+r.Header.Get("X-Contentful-Topic")+`","count":1}`)
			return
		}
		_, _ = io.WriteString(w, evil)
	}))
	nonsense := cms(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1<<16))
		_, _ = io.WriteString(conn, evilWord+"\r\n\r\n")
		conn.Close()
	})
	s := &site{process: start(t, program, `
proxy: { listen: "127.0.0.1:0", upstream: "`+api.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0", token: { value: `+pageToken+` }, hosts: [cmstap.internal] }
webhooks:
- { name: well, url: "`+hooks.URL+`/well", topics: "*.*" }
- { name: ill, url: "`+hooks.URL+`/ill", topics: "*.*", retry: { delays: [], on: [5xx] } }
- { name: later, url: "`+hooks.URL+`/later", topics: "*.*", retry: { delays: [7d], on: [5xx] } }
- { name: nonsense, url: "`+nonsense+`", topics: "Entry.*", retry: { delays: [], on: [5xx] } }
- { name: 'other "&<> name', url: "`+hooks.URL+`/well", topics: "Entry.*", filter: 'payload.fields.slug["en-US"] == "none"' }
`)}
	s.write(t, "hello")
	s.write(t, evilID)
	s.event = s.write(t, "hello")
	_, body, err := ask("GET", "http://"+s.admin+"/api/calls?webhook=ill&limit=1", "", map[string]string{"Authorization": "Bearer " + pageToken})
	var page struct{ Items []struct{ ID string } }
	if err != nil || json.Unmarshal([]byte(body), &page) != nil || len(page.Items) != 1 {
		t.Fatalf("%v %s", err, body)
	}
	s.call = page.Items[0].ID
	return s
}

// write saves an entry, and returns the id of its event once the first calls ended.
func (s *site) write(t *testing.T, id string) string {
	t.Helper()
	target := "http://" + s.proxy + "/spaces/s/environments/master/entries/" + url.PathEscape(id)
	if status, body, err := ask("PUT", target, "{}", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	event := field(s.waitLine(t, "msg=captured"), "event")
	s.waitLine(t, "msg=delivered", "webhook=well", event)
	s.waitLine(t, "msg=failed", "webhook=ill", event)
	s.waitLine(t, "webhook=nonsense", event)
	return event
}

// addresses are those of all pages, by a name for a picture.
func (s *site) addresses() map[string]string {
	return map[string]string{
		"overview": "/", "calls": "/calls", "failed": "/calls?webhook=nonsense&result=failed", "call": "/calls/" + s.call, "events": "/events",
		"event": "/events/" + s.event, "why": "/events/" + s.event + "/why", "dead": "/dead", "settings": "/settings", "try": "/try", "wrong": "/calls?since=yesterday", "gone": "/events/none",
	}
}
