package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// fieldDialect is that of a CMS where a publish is a save that sets a field.
const fieldDialect = `
name: field
resources: [{ type: Post, paths: /posts, routes: post }]
before: { get: "${uri}" }
credentials: [Authorization]
routes:
  post:
    - { on: POST, success: [201], action: create }
    - on: PUT /{id}
      needs: before
      actions:
        - { action: publish, when: 'response.state == "live" and before?.state != "live"' }
        - { action: unpublish, when: 'response.state != "live" and before?.state == "live"' }
        - { action: update }
    - { on: "DELETE /{id}", success: [204], action: delete, gone: true, needs: before, payload: gone }
event: { id: "${path.id ?? response.id}", version: "${response.version}", content_type: "${response.kind}" }
payloads:
  identity: { id: "${entity.id}" }
  gone: { id: "${entity.id}", kind: "${entity.content_type}", title: "${before.title}" }
native: { content_type: application/json, headers: { X-Topic: "${topic}" } }
`

// post is an entity of that CMS.
type post struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Title   string `json:"title"`
	Version int    `json:"version"`
}

// fieldCMS is such a CMS. Its answers overtake one another, as those of a busy
// one do.
type fieldCMS struct {
	mu      sync.Mutex
	posts   map[string]post
	history []string // the states of post 1, by version
	reads   []string // the GETs, with their credentials
	refuse  int      // the status of every GET, if not 0
	hold    func()   // before an answer
}

func (c *fieldCMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, answer := c.answer(r)
	if c.hold != nil {
		c.hold()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (c *fieldCMS) answer(r *http.Request) (int, []byte) {
	id := strings.TrimPrefix(r.URL.Path, "/posts/")
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	p, there := c.posts[id]
	switch {
	case r.Method == http.MethodGet:
		if c.reads = append(c.reads, r.URL.Path+" "+r.Header.Get("Authorization")); c.refuse != 0 {
			return c.refuse, []byte(`{}`)
		}
		fallthrough
	case r.Method == http.MethodDelete:
		if !there {
			return http.StatusNotFound, []byte(`{}`)
		}
		if r.Method == http.MethodDelete {
			delete(c.posts, id)
			return http.StatusNoContent, nil
		}
	default:
		_ = json.Unmarshal(body, &p)
		p.ID = id
		p.Version++
		c.posts[id] = p
		if id == "1" {
			c.history = append(c.history, p.State)
		}
	}
	text, _ := json.Marshal(p)
	return http.StatusOK, text
}

// startField runs cmstap before that CMS.
func startField(t *testing.T, cms *fieldCMS, receiver *demo.Receiver, more, subscription string) *process {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dialect := filepath.Join(t.TempDir(), "field.yaml")
	if err := os.WriteFile(dialect, []byte(fieldDialect), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: %q }
outbox: { path: %q }
admin: { listen: "" }
log: { level: debug }
%s
webhooks: [{ name: hook, url: %q, %s }]
`, serve(t, cms).URL, dialect, t.TempDir(), more, serve(t, receiver).URL, subscription))
}

// received are the deliveries in the order in which they came: topic and body.
func received(t *testing.T, receiver *demo.Receiver, n int) []demo.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(calls) >= n }); err != nil {
		t.Fatalf("%d of %d deliveries came", len(receiver.Calls()), n)
	}
	return receiver.Calls()
}

// TestRenames: of posts that were published before cmstap was there a rename is
// an update, not a publish; each is read once, with the writer's credentials.
func TestRenames(t *testing.T) {
	t.Parallel()
	cms := &fieldCMS{posts: map[string]post{}}
	for n := range 10 {
		cms.posts[fmt.Sprint(n)] = post{ID: fmt.Sprint(n), Kind: "news", State: "live", Title: "old"}
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	p := startField(t, cms, receiver, "", `topics: ["*.*"]`)
	put := func(id, body string) {
		if status, _, err := ask(http.MethodPut, "http://"+p.proxy+"/posts/"+id, body, nil); err != nil || status != http.StatusOK {
			t.Errorf("%d %v", status, err)
		}
	}
	for n := range 10 {
		put(fmt.Sprint(n), `{"title":"new"}`)
	}
	put("3", `{"state":"draft"}`)
	put("3", `{"state":"live"}`)
	counts := map[string]int{}
	for _, call := range received(t, receiver, 12) {
		counts[call.Header.Get("X-Topic")]++
	}
	if fmt.Sprint(counts) != "map[Post.publish:1 Post.unpublish:1 Post.update:10]" {
		t.Error(counts)
	}
	cms.mu.Lock()
	defer cms.mu.Unlock()
	if len(cms.reads) != 10 || cms.reads[3] != "/posts/3 Bearer token-of-an-editor" {
		t.Error(cms.reads)
	}
	if text := strings.Join(p.passed, "\n"); strings.Contains(text, "token-of-an-editor") {
		t.Errorf("the log has the credentials:\n%s", text)
	}
}

// TestNoLookup: what can not be read, or may not be, is unknown, and the write
// goes on.
func TestNoLookup(t *testing.T) {
	t.Parallel()
	check := func(more string, refuse, reads int) {
		cms := &fieldCMS{posts: map[string]post{"a": {State: "live"}, "b": {State: "live"}}, refuse: refuse}
		receiver := demo.NewReceiver(demo.ReceiverOptions{})
		p := startField(t, cms, receiver, more, `topics: ["*.*"]`)
		for _, id := range []string{"a", "b"} {
			if status, _, err := ask(http.MethodPut, "http://"+p.proxy+"/posts/"+id, `{"title":"new"}`, nil); err != nil || status != http.StatusOK {
				t.Errorf("%s %d: %d %v", more, refuse, status, err)
			}
			if line := p.waitLine(t, "msg=captured"); !hasAll(line, []string{"topic=Post.update", "before=unknown"}) {
				t.Errorf("%s %d: %s", more, refuse, line)
			}
		}
		received(t, receiver, 2)
		cms.mu.Lock()
		defer cms.mu.Unlock()
		if len(cms.reads) != reads {
			t.Errorf("%s %d: %v", more, refuse, cms.reads)
		}
	}
	check("lookup: off", 0, 0)
	check("", http.StatusInternalServerError, 2)
	check("", http.StatusTooManyRequests, 1) // then it is left in peace
}

// TestDeletesHaveTypes: a filter on the content type works for deletes, of what
// cmstap saw and of what it reads before.
func TestDeletesHaveTypes(t *testing.T) {
	t.Parallel()
	cms := &fieldCMS{posts: map[string]post{"old": {Kind: "news", Title: "Old"}, "page": {Kind: "page"}}}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	p := startField(t, cms, receiver, "", `topics: [Post.delete], on_unknown: skip, filter: 'entity.content_type == "news"'`)
	send := func(method, id, body string, want int) {
		if status, _, err := ask(method, "http://"+p.proxy+"/posts/"+id, body, nil); err != nil || status != want {
			t.Errorf("%s: %d %v", id, status, err)
		}
	}
	send(http.MethodPut, "new", `{"kind":"news","title":"New"}`, 200)
	send(http.MethodDelete, "new", "", 204)
	send(http.MethodDelete, "page", "", 204)
	send(http.MethodDelete, "old", "", 204)
	send(http.MethodDelete, "none", "", 404)
	bodies := map[string]bool{}
	for _, call := range received(t, receiver, 2) {
		bodies[string(call.Body)] = true
	}
	if !bodies[`{"id":"new","kind":"news","title":"New"}`] || !bodies[`{"id":"old","kind":"news","title":"Old"}`] {
		t.Error(bodies)
	}
}

// TestTwoWriters: however the answers to two writers overtake one another, what
// was published and unpublished follows the CMS's versions, and no state goes
// backwards. CMSTAP_WRITES is how often each of them writes.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	writes := 150
	if text := os.Getenv("CMSTAP_WRITES"); text != "" {
		writes, _ = strconv.Atoi(text)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	cms := &fieldCMS{posts: map[string]post{}, hold: func() {
		mu.Lock()
		wait := random.IntN(4)
		mu.Unlock()
		<-time.After(time.Duration(wait) * time.Millisecond)
	}}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	p := startField(t, cms, receiver, "", `topics: ["*.*"]`)
	var writers sync.WaitGroup
	for n := range 2 {
		writers.Go(func() {
			own := rand.New(rand.NewPCG(3, uint64(n)))
			for range writes {
				state := []string{"live", "draft"}[own.IntN(2)]
				if status, _, err := ask(http.MethodPut, "http://"+p.proxy+"/posts/1", `{"state":"`+state+`"}`, nil); err != nil || status != http.StatusOK {
					t.Errorf("%d %v", status, err)
				}
			}
		})
	}
	writers.Wait()
	last, late, was := 0, 0, "draft"
	transitions := map[string]int{}
	for _, call := range received(t, receiver, 2*writes) {
		var got post
		if err := json.Unmarshal([]byte(call.Body), &got); err != nil {
			t.Fatal(err)
		}
		topic := call.Header.Get("X-Topic")
		if call.Header.Get("X-Cmstap-Late") != "" {
			if late++; got.Version > last || topic != "Post.update" {
				t.Errorf("version %d is late after %d, %s", got.Version, last, topic)
			}
			continue
		}
		if got.Version <= last || got.State != cms.history[got.Version-1] {
			t.Errorf("version %d comes after %d, %s", got.Version, last, got.State)
		}
		want := "Post.update"
		switch {
		case was != "live" && got.State == "live":
			want = "Post.publish"
		case was == "live" && got.State != "live":
			want = "Post.unpublish"
		}
		if topic != want {
			t.Errorf("version %d, after %s %s: %s", got.Version, was, got.State, topic)
		}
		transitions[topic]++
		last, was = got.Version, got.State
	}
	if final := cms.history[len(cms.history)-1]; last != len(cms.history) || was != final {
		t.Errorf("the last state is %s of version %d, not %s of %d", was, last, final, len(cms.history))
	}
	if between := transitions["Post.publish"] - transitions["Post.unpublish"]; between < 0 || between > 1 || late == 0 {
		t.Errorf("%v, %d late", transitions, late)
	}
	t.Logf("%d writes: %v, %d late", 2*writes, transitions, late)
}
