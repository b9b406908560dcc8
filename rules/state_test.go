package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// stateDialect publishes by a field, and reads what was before.
const stateDialect = `
name: test
query: { form: form }
resources: [{ type: Post, paths: /posts, routes: post }]
before: { get: "${uri}?context=edit", payload: full }
keeps: [thin]
routes:
  post:
    - on: POST
      action: create
      payload: full
    - on: PUT /{id}
      needs: before
      payload: full
      actions:
        - { action: publish, when: 'response.post.state == "live" and before?.post.state != "live"' }
        - { action: unpublish, when: 'response.post.state != "live" and before?.post.state == "live"' }
        - { action: update }
    - { on: "PATCH /{id}", action: touch, payload: thin }
    - { on: "POST /{id}/move", action: move, payload: identity }
    - { on: "DELETE /{id}", action: delete, gone: true, payload: gone, needs: before }
event:
  id: ${path.id ?? response.post.id}
  version: ${response.post.at}
  content_type: ${response.post.kind}
payloads:
  identity: { id: "${entity.id}" }
  full: { post: "${response.post}" }
  thin: { id: "${entity.id}", action: "${action}" }
  gone: { id: "${entity.id}", kind: "${entity.content_type}", was: { title: "${before.post.title}" } }
`

// memory keeps what events say of their entities, as the outbox does.
type memory struct {
	t      *testing.T
	r      *rules.Rules
	links  event.Links
	states map[string]event.State
	seq    uint64
}

func newMemory(t *testing.T, dialect string, webhooks ...rules.Webhook) *memory {
	t.Helper()
	d, err := rules.ParseDialect("test.yaml", []byte(dialect))
	if err != nil {
		t.Fatal(err)
	}
	return &memory{t: t, r: rules.New(d, webhooks), states: map[string]event.State{}}
}

// begin starts a write.
func (m *memory) begin(method, path string) *event.Exchange {
	m.t.Helper()
	plan := m.r.Classify(event.Head{Method: method, Path: path, Headers: headers{}}, m.links)
	if plan.Class != event.Write {
		m.t.Fatalf("%s %s is no write", method, path)
	}
	plan.Intent.ID = "i"
	plan.Intent.Last = m.states[plan.Intent.Entity].Last
	return &event.Exchange{Intent: plan.Intent}
}

// end gives it its answer, and keeps what its events say.
func (m *memory) end(x *event.Exchange, answer string) []event.Event {
	m.t.Helper()
	x.Outcome, x.Status, x.Answer = event.Done, 200, event.Copy{Bytes: []byte(answer)}
	return m.derive(x)
}

// derive makes the events of an exchange, and keeps what they say.
func (m *memory) derive(x *event.Exchange) []event.Event {
	keys, content := m.r.Recall(x, m.links)
	known := map[string]event.State{}
	for _, key := range keys {
		state := m.states[key]
		if !content {
			state.Payload = nil
		}
		known[key] = state
	}
	events := m.r.Derive(x, m.links, known)
	for _, e := range events {
		if e.Late {
			continue
		}
		m.seq++
		s := m.states[e.Key()]
		if !e.Confirmed {
			s.Seq, s.Payload, s.Shown, s.Gone, s.Known = m.seq, nil, "", false, false
			m.states[e.Key()] = s
			continue
		}
		s.Seq, s.Version, s.ContentType, s.Gone = m.seq, e.Entity.Version, e.Entity.ContentType, e.Gone
		switch {
		case e.Shows == event.ShowsAll:
			s.Payload, s.Shown = e.Payload, e.ID
		case e.Shows == event.ShowsNothing, e.Gone:
			s.Payload, s.Shown = nil, ""
		}
		s.Known = s.Gone || s.Payload != nil
		m.states[e.Key()] = s
	}
	return events
}

func (m *memory) write(method, path, answer string) event.Event {
	m.t.Helper()
	return m.end(m.begin(method, path), answer)[0]
}

// TestLookupPath: what would break out of a request line is not read.
func TestLookupPath(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(`
name: test
query: { at: at, form: form }
uri: ${query.at}
resources: [{ type: Post, paths: /posts, routes: post }]
before: { get: "${uri}?form=${query.form}" }
routes: { post: [{ on: "PUT /{id}", needs: before, actions: [{ action: save, when: before.a }, { action: save }] }] }
event: { id: "${path.id}" }
`))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	for query, want := range map[string]string{
		"at=/posts/7&form=a%26b":      "/posts/7?form=a%26b",
		"at=/posts/7%0d%0aX:y&form=a": "", "at=/posts/7%20a&form=a": "", "at=/posts/7%23&form=a": "",
		"at=/posts/7&form=a%0d%0a": "/posts/7?form=a%0D%0A",
	} {
		plan := r.Classify(event.Head{Method: "PUT", Path: "/", Query: query, Headers: headers{}}, nil)
		if got := r.Lookup(plan.Intent); got != want {
			t.Errorf("%s: %s is read, want %s", query, got, want)
		}
	}
}

// TestRecall: writes to different entities have no key in common, so that none
// waits for another one's commit.
func TestRecall(t *testing.T) {
	t.Parallel()
	m := newMemory(t, stateDialect)
	x := m.begin("POST", "/posts")
	for answer, want := range map[string]string{`{"post":{"id":"a"}}`: event.Key("", "", "Post", "a", ""), `{}`: ""} {
		x.Outcome, x.Status, x.Answer = event.Done, 200, event.Copy{Bytes: []byte(answer)}
		if keys, _ := m.r.Recall(x, nil); strings.Join(keys, "|") != want || len(keys) > 1 || slices.Contains(keys, "") {
			t.Errorf("%s: %q", answer, keys)
		}
	}
}

// TestTransitions: what happened follows from what was before.
func TestTransitions(t *testing.T) {
	t.Parallel()
	m := newMemory(t, stateDialect)
	n := 0
	post := func(state string) string {
		n++
		return fmt.Sprintf(`{"post":{"id":"a","state":%q,"kind":"news","title":"T%d","at":"2026-01-02T03:04:%02dZ"}}`, state, n, n)
	}
	check := func(method, path, answer, want string) {
		t.Helper()
		e := m.write(method, path, answer)
		got := e.Action + " " + e.Entity.ContentType
		if e.BeforeUnseen != "" {
			got += " unknown"
		}
		if got != want {
			t.Errorf("%s %s: got %s, want %s", method, path, got, want)
		}
	}
	check("PUT", "/posts/a", post("live"), "update news unknown")
	check("PUT", "/posts/a", post("live"), "update news")
	check("PUT", "/posts/a", post("draft"), "unpublish news")
	check("PUT", "/posts/a", post("live"), "publish news")
	check("PATCH", "/posts/a", `{}`, "touch news") // the payload is no state, and changes none
	check("PUT", "/posts/a", post("live"), "update news")
	check("POST", "/posts/a/move", `{}`, "move news") // only what names it was seen
	check("PUT", "/posts/a", post("draft"), "update news unknown")
	check("DELETE", "/posts/a", `{}`, "delete news")
	check("PUT", "/posts/a", post("live"), "publish news") // it was gone, so it was not live
	check("DELETE", "/posts/a", `{}`, "delete news")
	check("DELETE", "/posts/b", `{}`, "delete  unknown")

	gone := m.write("DELETE", "/posts/b", `{}`)
	if string(gone.Before) != "null" {
		t.Errorf("what is gone twice was there: %s", gone.Before)
	}
	created := m.write("POST", "/posts", post("live"))
	if string(created.Before) != "" || created.BeforeUnseen != "" { // nobody asks
		t.Errorf("%+v", created)
	}
	gone = m.write("DELETE", "/posts/a", `{}`)
	if want := fmt.Sprintf(`{"id":"a","kind":"news","was":{"title":"T%d"}}`, n); string(gone.Payload) != want {
		t.Errorf("got %s, want %s", gone.Payload, want)
	}
}

// TestLate: an answer that is older than what another write to the entity made
// meanwhile changes nothing; that of a write that began later is the truth.
func TestLate(t *testing.T) {
	t.Parallel()
	m := newMemory(t, stateDialect)
	post := func(state, at string) string {
		return fmt.Sprintf(`{"post":{"id":"a","state":%q,"at":"2026-01-02T03:04:%sZ"}}`, state, at)
	}
	is := func(events []event.Event, want string) {
		t.Helper()
		if got := fmt.Sprint(events[0].Action, " ", events[0].Late); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	m.write("PUT", "/posts/a", post("draft", "01"))
	first, second := m.begin("PUT", "/posts/a"), m.begin("PUT", "/posts/a")
	is(m.end(second, post("draft", "05")), "update false")
	is(m.end(first, post("live", "04")), "update true") // it is a draft already
	is([]event.Event{m.write("PUT", "/posts/a", post("live", "06"))}, "publish false")
	// Somebody put an older one back, or the CMS's clock was set.
	is([]event.Event{m.write("PUT", "/posts/a", post("draft", "03"))}, "unpublish false")
	is([]event.Event{m.write("PUT", "/posts/a", post("draft", "03"))}, "update false")
}

// TestDeletedMeanwhile: of an answer that a delete overtook nobody knows whether it
// is that of a change before it, or of one that made the entity again. Two deletes
// are one.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	m := newMemory(t, stateDialect)
	const live = `{"post":{"id":"a","state":"live","kind":"news"}}`
	m.write("PUT", "/posts/a", live)
	put, first, second := m.begin("PUT", "/posts/a"), m.begin("DELETE", "/posts/a"), m.begin("DELETE", "/posts/a")
	m.end(first, `{}`)
	if e := m.end(second, `{}`)[0]; string(e.Before) != "null" {
		t.Errorf("%s %s", e.Before, e.BeforeUnseen)
	}
	if e := m.end(put, live)[0]; e.Action != "update" || e.BeforeUnseen == "" {
		t.Errorf("%s, before %s", e.Action, e.Before)
	}
	m.write("DELETE", "/posts/a", `{}`)
	if e := m.write("PUT", "/posts/a", live); e.Action != "publish" || string(e.Before) != "null" {
		t.Errorf("%s, before %s", e.Action, e.Before)
	}
}

// TestLookup: an entity is read before a write only if something depends on what
// it was, and nothing is kept of it.
func TestLookup(t *testing.T) {
	t.Parallel()
	m := newMemory(t, stateDialect)
	look := func(r *rules.Rules, method, path string, last event.Last) string {
		intent := r.Classify(event.Head{Method: method, Path: path, Headers: headers{}}, nil).Intent
		intent.Last = last
		return r.Lookup(intent)
	}
	for request, want := range map[string]string{
		"PUT /posts/a": "/posts/a?context=edit", "PUT /posts/a%2Fb%3F": "/posts/a%2Fb%3F?context=edit", "PATCH /posts/a": "", "POST /posts": "",
		"DELETE /posts/a": "/posts/a?context=edit",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := look(m.r, method, path, event.Last{}); got != want {
			t.Errorf("%s: %q", request, got)
		}
		if got := look(m.r, method, path, event.Last{Known: true}); got != "" {
			t.Errorf("%s is read though it is known: %q", request, got)
		}
	}
	quiet := strings.Replace(stateDialect, `, was: { title: "${before.post.title}" }`, "", 1)
	if got := look(newMemory(t, quiet).r, "DELETE", "/posts/a", event.Last{}); got != "" {
		t.Errorf("nobody asks, and %s is read", got)
	}
	for _, filter := range []string{"before.post.state == 'live'", `changed("post.title")`, "entity.content_type == 'news'", "payload.kind == 'news'"} {
		asks := newMemory(t, quiet, webhook(t, "{topics: ['*.*'], filter: \""+strings.ReplaceAll(filter, `"`, `\"`)+"\"}"))
		if look(asks.r, "DELETE", "/posts/a", event.Last{}) == "" {
			t.Errorf("%s asks, and nothing is read", filter)
		}
	}

	check := func(status int, body, want string) {
		t.Helper()
		m := newMemory(t, stateDialect)
		x := m.begin("PUT", "/posts/a")
		x.Before = &event.Finding{Status: status, Entity: event.Copy{Bytes: []byte(body)}}
		e := m.end(x, `{"post":{"state":"live"}}`)[0]
		if got := fmt.Sprintf("%s %s %s %s", e.Action, e.Entity.ContentType, e.Before, e.BeforeUnseen); got != want {
			t.Errorf("%d %s:\n got %s\nwant %s", status, body, got, want)
		}
	}
	const unknown = "update   the state before is not known"
	check(200, `{"post":{"state":"live","kind":"news"},"links":{}}`, `update news {"post":{"state":"live","kind":"news"}} `)
	check(200, `{"post":{"state":"draft"}}`, `publish  {"post":{"state":"draft"}} `)
	check(404, `{"error":"none"}`, `publish  null `)
	check(404, ``, `publish  null `)
	check(404, `<html>`, unknown) // no answer of the CMS's API
	check(200, `<html>`, unknown)
	check(200, ``, unknown)
	check(401, `{"post":{"state":"draft"}}`, unknown)

	// What was read is no news once another write was stored.
	m = newMemory(t, stateDialect)
	x, other := m.begin("PUT", "/posts/a"), m.begin("PATCH", "/posts/a")
	x.Before = &event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(`{"post":{"state":"live"}}`)}}
	m.end(other, `{}`)
	if e := m.end(x, `{"post":{"state":"live"}}`)[0]; e.BeforeUnseen == "" {
		t.Errorf("%+v", e)
	}
}

// TestChanges: filters may ask what changed.
func TestChanges(t *testing.T) {
	t.Parallel()
	check := func(before, after, filter string, want bool, changes ...string) {
		t.Helper()
		m := newMemory(t, stateDialect, webhook(t, "{topics: ['*.*'], on_unknown: skip, filter: '"+filter+"'}"))
		if before != "" {
			m.write("PUT", "/posts/a", before)
		}
		e := m.write("PUT", "/posts/a", after)
		if got := m.r.Match(&e, nil)[0].Wanted; got != want {
			t.Errorf("%s -> %s: %s is %t", before, after, filter, got)
		}
		if diff := cmp.Diff(append([]string{}, changes...), append([]string{}, e.Changes...)); diff != "" {
			t.Errorf("%s -> %s: %s", before, after, diff)
		}
	}
	const a = `{"post":{"title":{"en":"A","de":"B"},"tags":["x"],"n":1,"note":null}}`
	check(a, a, `changed("post")`, false)
	check(a, `{"post":{"title":{"en":"A","de":"C"},"tags":["x"],"n":1,"note":null}}`, `changed("post.title.de") and not changed("post.title.en")`, true, "post.title.de")
	check(a, `{"post":{"title":{"en":"A","de":"C"},"tags":["x"],"n":1,"note":null}}`, `changed("post.title")`, true, "post.title.de")
	check(a, `{"post":{"title":{"en":"A","de":"B"},"tags":["x","y"],"n":1,"note":null}}`, `changed("post.tags.1")`, true, "post.tags")
	check(a, `{"post":{"title":{"en":"A","de":"B"},"tags":["x"],"n":1}}`, `"post.note" in changes`, true, "post.note")
	check(a, `{"post":{"title":"none","tags":["x"],"n":1,"note":null}}`, `changed("post.title.en")`, true, "post.title")
	check(a, `{"post":{"tags":["x"],"n":1,"note":null}}`, `len(changes) == 2`, true, "post.title.de", "post.title.en")
	check(`{"post":{"n":9007199254740993}}`, `{"post":{"n":9007199254740992}}`, `changed("post.n")`, true, "post.n")
	check("", a, `changed("post.n")`, false) // not known, and on_unknown: skip
	check(a, a, `before.post.n == 1 and before.post.title.en == "A"`, true)
	check(a, a, `before.post.nothing != 1`, false)

	m := newMemory(t, stateDialect, webhook(t, `{topics: ['*.*'], filter: 'changed("post.n") and before == nil'}`))
	if e := m.write("POST", "/posts", a); !m.r.Match(&e, nil)[0].Wanted || len(e.Changes) != 5 {
		t.Errorf("%+v", e)
	}
	m = newMemory(t, stateDialect, webhook(t, `{topics: [Post.delete], on_unknown: skip, filter: 'changed("post.n") and before.post.n == 1 and payload.was.title.en == "A"'}`))
	m.write("PUT", "/posts/a", a)
	if e := m.write("DELETE", "/posts/a", `{}`); !m.r.Match(&e, nil)[0].Wanted {
		t.Errorf("%+v %v", e, m.r.Match(&e, nil))
	}
	// Of what was not seen nobody says that it is missing.
	if e := m.write("DELETE", "/posts/b", `{}`); m.r.Match(&e, nil)[0].Wanted {
		t.Errorf("%+v", e)
	}
	m = newMemory(t, stateDialect, webhook(t, `{topics: [Post.delete], filter: 'payload.was.title == "A"'}`))
	if e := m.write("DELETE", "/posts/b", `{}`); m.r.Match(&e, nil)[0].Undecided == "" {
		t.Errorf("%+v", m.r.Match(&e, nil))
	}

	// Much of it is not listed.
	var many strings.Builder
	for n := range 2000 {
		fmt.Fprintf(&many, `"k%d":%d,`, n, n)
	}
	check(a, `{"post":{`+strings.TrimSuffix(many.String(), ",")+`}}`, `changed("post.k5")`, false)
}

// TestShowsAll: only what a payload says of its entity counts as what it is.
func TestShowsAll(t *testing.T) {
	t.Parallel()
	const dialect = `
name: test
resources: [{ type: Post, paths: /posts, routes: post }]
routes:
  post:
    - { on: "PUT /{id}", action: save, payload: inner }
event: { id: "${path.id}" }
payloads:
  identity: { id: "${entity.id}" }
  inner: ${response.post}
`
	m := newMemory(t, dialect)
	for answer, want := range map[string]event.Shows{`{"post":{"n":1}}`: event.ShowsAll, `{"queued":true}`: event.ShowsNothing} {
		if e := m.write("PUT", "/posts/a", answer); e.Shows != want {
			t.Errorf("%s: %s shows %d", answer, e.Payload, e.Shows)
		}
	}
}
