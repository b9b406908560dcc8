package rules_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// story is one request and its answer.
type story struct {
	method, path, query string
	headers             headers
	body                string
	status              int // 0: no answer was seen
	answer              string
}

// tell lets a dialect see a story; ok is false if it is no write.
func tell(t *testing.T, r *rules.Rules, s story) (events []event.Event, ok bool) {
	t.Helper()
	return tellWith(t, r, s, nil)
}

// tellWith is tell where something is known of aliases.
func tellWith(t *testing.T, r *rules.Rules, s story, links event.Links) (events []event.Event, ok bool) {
	t.Helper()
	head := event.Head{Method: s.method, Path: s.path, Query: s.query, Headers: s.headers}
	plan := r.Classify(head, links)
	if plan.Body {
		plan = r.Identify(head, event.Copy{Bytes: []byte(s.body)}, links)
	}
	if plan.Class != event.Write {
		return nil, false
	}
	plan.Intent.ID = "intent"
	x := &event.Exchange{Intent: plan.Intent, Status: s.status, Answer: event.Copy{Bytes: []byte(s.answer)}, Outcome: event.Unknown}
	if s.status != 0 {
		x.Outcome = map[event.Verdict]event.Outcome{
			event.Doubt: event.Unknown, event.Accepted: event.Done, event.Rejected: event.Refused,
		}[plan.Judge.Judge(s.status)]
	}
	if x.Outcome == event.Refused {
		return nil, true
	}
	return r.Derive(x, links, nil), true
}

// short is an event in short: Type.action id.
func short(events []event.Event) (lines []string) {
	for _, e := range events {
		line := e.Topic() + " " + e.Entity.ID
		if e.Entity.Locale != "" {
			line += " " + e.Entity.Locale
		}
		if !e.Confirmed {
			line += " ?"
		}
		lines = append(lines, line)
	}
	return lines
}

const language = `
name: test
headers: { override: X-HTTP-Method-Override, tenant: X-Tenant }
query: { method: _method, id: id, route: route, locale: locale }
method: ${header.override ?? query.method}
uri: ${query.route}
skip: uri matches "/drafts/"
resources:
  - type: Post
    paths: [/v1/posts, /posts]
    routes: [wrapped]
  - type: Page
    paths: [/pages]
    routes: [by_query]
  - type: Menu
    paths: [/menus]
    routes: [silent]
  - type: ${path.plural}
    paths: ["/any/{plural}"]
    routes: [plain]
  - type: Call
    paths: [/graphql]
    routes: [graphql]
  - type: Target
    paths: ["/targets/{id}"]
    routes: [targets]
  - type: Thing
    paths: ["/.../things"]
    routes: [plain]
routes:
  # {"posts":[...]}, publish in a field, delete by a list in the body
  wrapped:
    - on: [POST, "PUT /{id}"]
      each: response.posts
      event: { id: "${path.id ?? item.id}" }
      actions:
        - { action: [save, publish], when: 'item.state == "live"' }
        - { action: save }
    - on: POST /delete
      body: { ids: request.ids }
      each: body.ids
      event: { id: "${item}" }
      action: delete
      gone: true
    - { on: POST /validate, pass: true }
  by_query:
    - { on: [PUT, DELETE], event: { id: "${query.id}", locale: "${query.locale}" }, action: change }
  silent:
    - { on: "PUT /{id}", success: 204, action: save }
  plain:
    - { on: POST, success: [2xx], final: [500], action: create }
    - { on: "PUT /{id}", success: [200], actions: [{ action: save, when: "response.ok" }] }
    - { on: "DELETE /{id}", action: delete }
  graphql:
    - on: POST
      body: { mutation: 'request.query matches "^\\s*mutation"', id: "request?.variables?.id" }
      when: body.mutation
      success: 200
      event: { id: "${body.id}" }
      action: mutate
  targets:
    - on: POST /publish
      body: { targets: "flatten(map(request.envs, let e = #; map(request.langs, ({'env': e, 'lang': #}))))" }
      each: body.targets
      event: { environment: "${item.env}", locale: "${item.lang}" }
      action: publish
event:
  id: ${path.id ?? response.id}
  space: ${header.tenant}
payloads:
  identity: { id: "${entity.id}" }
`

func TestLanguage(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(language))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	check := func(s story, want ...string) {
		t.Helper()
		events, ok := tell(t, r, s)
		if !ok {
			events = []event.Event{{Type: "no", Action: "write"}}
		}
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%+v: %s", s, diff)
		}
	}
	const no = "no.write  ?"
	posts := `{"posts":[{"id":"a","state":"live"},{"id":"b","state":"draft"}]}`
	check(story{method: "POST", path: "/v1/posts", status: 201, answer: posts}, "Post.save a", "Post.publish a", "Post.save b")
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: `{"posts":[{"state":"live"}]}`}, "Post.save a", "Post.publish a")
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: `{"posts":[]}`})
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: `{"posts":null}`})
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: `{"posts":{"state":"live"}}`}, "Post.save a", "Post.publish a")
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: `{}`}, "Post.save a") // something was written
	check(story{method: "PUT", path: "/posts/a", status: 500}, "Post.save a ?")
	check(story{method: "PUT", path: "/posts/a", status: 200, answer: "<html>"}, "Post.save a")
	check(story{method: "PUT", path: "/posts/a", status: 422})
	check(story{method: "POST", path: "/posts/delete", body: `{"ids":["a",7]}`, status: 204}, "Post.delete a", "Post.delete 7")
	check(story{method: "POST", path: "/posts/delete", body: `{"ids":["a","a"]}`}, "Post.delete a ?", "Post.delete a ?")
	check(story{method: "POST", path: "/posts/delete", body: `{"ids":[`, status: 204}, "Post.delete ")
	check(story{method: "POST", path: "/posts/delete", body: `{"id":1}`, status: 204}, "Post.delete ")
	check(story{method: "POST", path: "/posts/validate", status: 200, answer: posts}, no)

	check(story{method: "PUT", path: "/pages", query: "id=7&locale=de%2DAT&x=y", status: 200, answer: `{}`}, "Page.change 7 de-AT")
	check(story{method: "POST", path: "/pages", query: "_method=delete&id=7", status: 200}, "Page.change 7")
	check(story{method: "GET", path: "/pages", query: "id=1;2", headers: headers{"x-http-method-override": "DELETE"}, status: 200}, "Page.change 1;2")
	check(story{method: "PUT", path: "/pages", headers: headers{"X-HTTP-Method-Override": "GET"}, status: 200}, "Page.change ")
	check(story{method: "POST", path: "/posts", query: "_method=zz", status: 200, answer: posts}, "Post.save a", "Post.publish a", "Post.save b")
	check(story{method: "DELETE", path: "/pages", query: strings.Repeat("a=b&", 20_000) + "id=7", status: 200}, "Page.change 7")
	check(story{method: "PUT", path: "/", query: "route=%2Fmenus%2Fm%3Fa=b", status: 204}, "Menu.save m")
	check(story{method: "PUT", path: "/", query: "route=%2Fmenus%2Fm", status: 204}, "Menu.save m")
	check(story{method: "PUT", path: "/menus/m", status: 204}, "Menu.save m")
	check(story{method: "PUT", path: "/menus/m", status: 200, answer: "{}"}, "Menu.save m ?")

	check(story{method: "POST", path: "/any/books", status: 299, answer: `{"id":5}`}, "books.create 5")
	check(story{method: "POST", path: "/any/books", status: 500})
	check(story{method: "POST", path: "/any/books", status: 502}, "books.create  ?")
	check(story{method: "PUT", path: "/any/books/5", status: 200, answer: `{"ok":true}`}, "books.save 5")
	check(story{method: "PUT", path: "/any/books/5", status: 200, answer: `{"ok":false}`})
	check(story{method: "PUT", path: "/any/books/5", status: 200, answer: `{}`})
	check(story{method: "PUT", path: "/any/books/5"}, "books.save 5 ?")
	check(story{method: "PUT", path: "/any/books/drafts/5", status: 200}, no)
	check(story{method: "PUT", path: "/any/books/%64rafts/5", status: 200}, no)
	check(story{method: "POST", path: "/any/books", status: 200, answer: `{"id":1234567890123456789}`}, "books.create 1234567890123456789")
	check(story{method: "PUT", path: "/any/books/%ff", status: 200, answer: `{"ok":true}`}, "books.save \uFFFD")

	check(story{method: "POST", path: "/graphql", body: `{"query":" mutation { a }","variables":{"id":"x"}}`, status: 200, answer: `{}`}, "Call.mutate x")
	check(story{method: "POST", path: "/graphql", body: `{"query":"{ a }"}`, status: 200, answer: `{}`}, no)
	check(story{method: "POST", path: "/graphql", body: `{"query":"{ a }","query":"mutation"}`, status: 200, answer: `{}`}, "Call.mutate ")
	check(story{method: "POST", path: "/graphql", headers: headers{"Content-Type": "application/x-www-form-urlencoded"}, body: `query=mutation+%7B`, status: 200}, "Call.mutate ")
	check(story{method: "POST", path: "/graphql", headers: headers{"Content-Type": "multipart/form-data; boundary=x"},
		body: "--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nmutation\r\n--x--\r\n", status: 200}, "Call.mutate ")

	// What can not be read, or is not what it was made for, decides nothing.
	form := headers{"Content-Type": "multipart/form-data; boundary=x"}
	for _, cut := range []string{
		"--y\r\n\r\n", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\n",
	} {
		check(story{method: "POST", path: "/graphql", headers: form, body: cut, status: 200}, "Call.mutate ")
	}
	check(story{method: "POST", path: "/graphql", headers: headers{"Content-Type": "application/x-www-form-urlencoded; charset=a; charset=b"}, body: "query=mutation", status: 200}, "Call.mutate ")
	check(story{method: "POST", path: "/graphql", body: `{"query":7}`, status: 200}, "Call.mutate ")
	check(story{method: "POST", path: "/posts/delete", body: `{"ids":[1234567890123456789]}`, status: 200}, "Post.delete 1234567890123456789")

	check(story{method: "POST", path: "/targets/t/publish", body: `{"envs":["p","s"],"langs":["en","de"]}`, status: 200, answer: `{}`},
		"Target.publish t en", "Target.publish t de", "Target.publish t en", "Target.publish t de")

	check(story{method: "POST", path: "/things", status: 200, answer: `{"id":1}`}, "Thing.create 1")
	check(story{method: "PUT", path: "/a/b//c/things/9/", status: 200, answer: `{"ok":true}`}, "Thing.save 9")
	check(story{method: "PUT", path: "/things", status: 200}, no)
}

// TestSeveralEvents: what one request makes of several entities.
func TestSeveralEvents(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(language))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	events, _ := tell(t, r, story{method: "POST", path: "/posts", status: 200, answer: `{"posts":[{"id":"a","state":"live"},{"id":"a","state":"x"}]}`})
	ids := map[string]bool{}
	for _, e := range events {
		ids[e.ID] = true
		if !strings.Contains(string(e.Payload), `"id":"a"`) || e.Partial != "" {
			t.Errorf("payload %s, %s", e.Payload, e.Partial)
		}
	}
	if len(events) != 3 || len(ids) != 3 {
		t.Errorf("%d events, %d ids", len(events), len(ids))
	}
	named, _ := tell(t, r, story{method: "POST", path: "/posts/delete", headers: headers{"X-Tenant": "acme"}, body: `{"ids":["a"]}`, status: 200, answer: `{"n":1}`})
	if got := string(named[0].Payload); got != `{"id":"a"}` || named[0].Partial == "" || named[0].Space != "acme" || !named[0].Gone {
		t.Errorf("%s %+v", got, named[0])
	}
	unseen, _ := tell(t, r, story{method: "POST", path: "/posts"})
	if len(unseen) != 1 || unseen[0].Confirmed || !strings.Contains(unseen[0].Partial, "no answer") {
		t.Errorf("%+v", unseen)
	}
}

// TestManyItems: a list without end costs neither time nor memory without end, and
// what is beyond the bound makes an event all the same.
func TestManyItems(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(`
name: test
include: rest
resources: [{ type: Post, paths: /posts, routes: many }]
routes: { many: [{ on: POST, each: response.items, event: { id: "${item.id}" }, action: save, payload: all }] }
payloads: { all: { item: "${item}", all: "${response}" } }
`))
	if err != nil {
		t.Fatal(err)
	}
	answer := `{"items":[` + strings.Repeat(`{"id":1},`, 12_000) + `{"id":2}],"text":"` + strings.Repeat("x", 1<<20) + `"}`
	events, _ := tell(t, rules.New(d, nil), story{method: "POST", path: "/posts", status: 200, answer: answer})
	bytes := 0
	for i := range events {
		bytes += len(events[i].Payload)
	}
	if last := events[len(events)-1]; len(events) != 10_001 || last.Entity.ID != "" || last.Partial == "" || bytes > 40<<20 {
		t.Errorf("%d events of %d bytes", len(events), bytes)
	}
}

// TestInclude: a dialect may stand on another one.
func TestInclude(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("mine.yaml", []byte(`
name: mine
include: contentful
host: preserve
resources:
  - type: Snippet
    paths: ["/spaces/{space}/snippets"]
    routes: [write]
  - type: Locale
    paths: ["/spaces/{space}/environments/{environment}/locales"]
    routes: [own]
routes:
  own:
    - { on: "PUT /{id}", action: save }
`))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	for path, want := range map[string]string{
		"/spaces/s/snippets/x": "Snippet.create x", "/spaces/s/environments/e/locales/x": "Locale.save x", "/spaces/s/entries/x": "Entry.save x",
	} {
		status := 200
		if strings.HasPrefix(want, "Snippet") {
			status = 201
		}
		events, _ := tell(t, r, story{method: "PUT", path: path, status: status, answer: `{"sys":{"version":1}}`})
		if diff := cmp.Diff([]string{want}, short(events)); diff != "" {
			t.Error(diff)
		}
		if len(events) == 1 && len(events[0].Native.Headers) == 0 {
			t.Errorf("%s has no native headers", want)
		}
	}
	skipped, _ := rules.ParseDialect("mine.yaml", []byte("name: mine\ninclude: contentful\nheaders: { dry: X-Dry }\nskip: header.dry == \"1\"\n"+
		"resources: [{ type: Snippet, paths: '/spaces/{space}/snippets', routes: write }]\nevent: { actor: 'me' }"))
	for _, path := range []string{"/spaces/s/snippets/x", "/spaces/s/entries/x"} {
		for _, h := range []headers{{"X-Dry": "1"}, {"X-Contentful-Validate-Only": "true"}} {
			if _, ok := tell(t, rules.New(skipped, nil), story{method: "PUT", path: path, headers: h, status: 200}); ok {
				t.Errorf("%s %s is a write", path, h)
			}
		}
		if events, _ := tell(t, rules.New(skipped, nil), story{method: "PUT", path: path, status: 200}); events[0].Actor != "me" {
			t.Errorf("%s: the event is not the own one", path)
		}
	}
	if d.Host != "preserve" || d.Credentials[0] != "Authorization" {
		t.Errorf("host %s, credentials %s", d.Host, d.Credentials)
	}
	if _, err := rules.ParseDialect("mine.yaml", []byte("name: a\ninclude: nothing")); err == nil || !strings.Contains(err.Error(), "mine.yaml:2: include: there is no dialect") {
		t.Error(err)
	}
}

// TestIncludedPayloads: a payload of the including file takes the place of the
// included one.
func TestIncludedPayloads(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("mine.yaml", []byte("name: mine\ninclude: contentful\npayloads: { published: { id: \"${entity.id}\" } }"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/spaces/s/entries/x/published": `{"id":"x"}`, "/spaces/s/entries/x/archived": `{"a":1}`} {
		events, _ := tell(t, rules.New(d, nil), story{method: "PUT", path: path, status: 200, answer: `{"a":1}`})
		if got := string(events[0].Payload); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// TestItemTypes: items may be of several types. If nobody knows of which, there
// are events of each.
func TestItemTypes(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("mixed.yaml", []byte(`
name: mixed
resources: [{ type: "${item.type}", paths: /bulk, routes: bulk }]
routes:
  bulk:
  - on: POST /delete
    body: { items: request.items }
    each: body.items
    types: [Post, Page]
    event: { id: "${item.id}" }
    action: delete
    accepted: true
payloads: { identity: { id: "${entity.id}" } }
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Page.delete", "Post.delete"}, d.Topics()); diff != "" {
		t.Error(diff)
	}
	for body, want := range map[string][]string{
		`{"items":[{"type":"Page","id":1},{"type":"Post","id":2}]}`: {"Page.delete 1", "Post.delete 2"},
		`{"items":[]}`: nil,
		`{"items":`:    {"Post.delete ", "Page.delete "},
	} {
		events, _ := tell(t, rules.New(d, nil), story{method: "POST", path: "/bulk/delete", body: body, status: 200, answer: `{}`})
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
		for _, e := range events {
			if !e.Accepted || !e.Confirmed {
				t.Errorf("%s: %+v", body, e)
			}
		}
	}
}

// TestDirectus: a dialect that a user wrote from docs/dialects.md alone, for a
// CMS whose requests name one entity or a list of them in many ways.
func TestDirectus(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/directus/directus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines >= 80 {
		t.Errorf("%d lines", lines)
	}
	d, err := rules.ParseDialect("directus.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	var traffic []struct {
		Method, Path, Request, Response, Note string
		Headers                               headers
		Status                                int
		Events                                []string
	}
	text, err = os.ReadFile("testdata/directus/traffic.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &traffic); err != nil {
		t.Fatal(err)
	}
	for i, row := range traffic {
		path, query, _ := strings.Cut(row.Path, "?")
		events, _ := tell(t, rules.New(d, nil), story{row.Method, path, query, row.Headers, row.Request, row.Status, row.Response})
		if diff := cmp.Diff(row.Events, short(events), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("row %d, %s %s %d %s: %s", i, row.Method, row.Path, row.Status, row.Note, diff)
		}
	}
	if len(traffic) < 20 {
		t.Errorf("%d rows", len(traffic))
	}
}
