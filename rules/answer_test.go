package rules_test

import (
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

const answers = `
name: test
query: { envelope: _envelope, posts: "post[]" }
wrapped: { when: '"envelope" in query', status: response.status, answer: response.body }
without: [password, meta.secret]
resources:
  - { type: Post, paths: [/posts], routes: [post] }
  - { type: Call, paths: [/xmlrpc], routes: [call] }
  - { type: File, paths: [/files], routes: [file] }
  - { type: Link, paths: [/links], routes: [link] }
routes:
  post:
    - { on: "PUT /{id}", success: [200], final: [500], action: save }
    - { on: "POST /trash", each: 'split(query.posts, ",")', event: { id: "${item}" }, action: trash }
  call:
    - on: POST
      format: text
      event: { id: '${split(split(response, "<id>")[1], "<")[0]}' }
      payload: identity
      actions: [{ action: call, when: not (response contains "<fault>") }]
  file:
    - on: POST
      format: event-stream
      each: 'map(filter(response, #.event == "done"), #.data.file)'
      event: { id: "${item.id}" }
      action: create
  link:
    - { on: POST, success: [302], event: { id: '${split(location, "/")[2]}' }, payload: identity, action: create }
event: { id: "${path.id ?? response.id}" }
payloads: { identity: { id: "${entity.id}" } }
`

// TestAnswers: answers in other forms, and what is left out of payloads.
func TestAnswers(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(answers))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	check := func(s story, want ...string) {
		t.Helper()
		events, _ := tell(t, r, s)
		var got []string
		for _, e := range events {
			got = append(got, strings.TrimSpace(e.Topic()+" "+e.Entity.ID)+" "+string(e.Payload))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: %s", s.method, s.path, diff)
		}
	}
	put := story{method: "PUT", path: "/posts/7", status: 200}
	with := func(s story, query, answer string) story {
		s.query, s.answer = query, answer
		return s
	}
	// The answer in an answer
	check(with(put, "", `{"id":7}`), `Post.save 7 {"id":7}`)
	check(with(put, "_envelope", `{"body":{"id":7},"status":200}`), `Post.save 7 {"id":7}`)
	check(with(put, "_envelope=1", `{"body":{"code":"gone"},"status":404}`))
	check(with(put, "_envelope=1", `{"body":{"code":"broken"},"status":500}`))
	check(with(put, "_envelope=1", `{"body":{"id":7},"status":418}`))
	check(with(put, "_envelope=1", `{"id":7}`), `Post.save 7 {"id":7}`)
	check(with(put, "_envelope=1", `oops`), `Post.save 7 {"id":"7"}`)
	// What is left out
	check(with(put, "", `{ "password":"x", "id":7, "meta":{"secret":1,"n":[1, 2],"password":"y"} }`), `Post.save 7 {"id":7,"meta":{"n":[1, 2],"password":"y"}}`)
	check(with(put, "", `{"meta":{"secret":1},"password":null}`), `Post.save 7 {"meta":{}}`)
	check(with(put, "", `{"meta":"secret","list":[{"password":1}]}`), `Post.save 7 {"meta":"secret","list":[{"password":1}]}`)
	check(with(put, "", `{"pass\u0077ord":"x"}`), `Post.save 7 {}`)
	check(with(put, "", `["password"]`), `Post.save 7 ["password"]`)
	// A list in the query
	trash := story{method: "POST", path: "/posts/trash", status: 200, answer: "{}"}
	check(with(trash, "post[]=1&post%5B%5D=2&x=y&post[]=3", "{}"), `Post.trash 1 {"id":"1"}`, `Post.trash 2 {"id":"2"}`, `Post.trash 3 {"id":"3"}`)
	// Text
	call := story{method: "POST", path: "/xmlrpc", status: 200}
	check(with(call, "", "<ok><id>31</id></ok>"), `Call.call 31 {"id":"31"}`)
	check(with(call, "", "<fault>no</fault>"))
	check(with(call, "", ""), `Call.call {}`)
	// Messages
	file := story{method: "POST", path: "/files", status: 200}
	stream := "event: start\ndata: {\"n\":2}\n\nevent: done\r\ndata: {\"file\":\ndata:{\"id\":1}}\r\n\r\n: note\nevent: failed\ndata: no\n\n" +
		"event: done\ndata: {\"file\":{\"id\":2}}\n\nevent: done\ndata: {\"file\":{\"id\":3}}\n"
	check(with(file, "", stream), `File.create 1 {"id":1}`, `File.create 2 {"id":2}`)
	check(with(file, "", "event: failed\ndata: no\n\n"))
	check(with(file, "", ""), `File.create {}`)
}

// TestLocation: an event may be told by the answer's header.
func TestLocation(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(answers))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	plan := r.Classify(event.Head{Method: "POST", Path: "/links", Headers: headers{}}, nil)
	for _, x := range []struct {
		location, want string
		outcome        event.Outcome
	}{{"/links/12", "Link.create 12", event.Done}, {"", "Link.create ", event.Done}, {"/links/12", "Link.create  ?", event.Unknown}} {
		events := r.Derive(&event.Exchange{Intent: plan.Intent, Outcome: x.outcome, Status: 302, Location: x.location}, nil, nil)
		if got := short(events); len(got) != 1 || got[0] != x.want {
			t.Errorf("%q: %q", x.location, got)
		}
	}
}

// TestAnswerMistakes: they are found when the dialect is loaded.
func TestAnswerMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"wrapped: { when: 'true' }":               "wrapped needs when, status and answer",
		"without: [a..b]":                         "want a path such as entry.createdBy, not \"a..b\"",
		"routes: { a: [{ on: GET, format: x }] }": "must be json, text, event-stream",
	} {
		_, err := rules.ParseDialect("d.yaml", []byte("name: d\n"+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
