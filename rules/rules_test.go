package rules_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// headers implements event.Headers.
type headers map[string]string

func (h headers) Get(name string) string {
	for key, value := range h {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

func contentful(t testing.TB) *rules.Dialect {
	t.Helper()
	d, err := rules.LoadDialect("contentful")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var at = time.Date(2026, 1, 2, 3, 10, 0, 0, time.UTC)

// exchange classifies a request and answers it; nil if it is no write.
func exchange(r *rules.Rules, method, path string, h headers, status int, answer string) *event.Exchange {
	head := event.Head{Method: method, Path: path, Headers: h}
	plan := r.Classify(head, nil)
	if plan.Body {
		plan = r.Identify(head, event.Copy{Bytes: []byte("{}")}, nil)
	}
	if plan.Class != event.Write {
		return nil
	}
	plan.Intent.ID, plan.Intent.Time = "intent-1", at
	x := &event.Exchange{Intent: plan.Intent, Status: status, Time: at, Answer: event.Copy{Bytes: []byte(answer)}}
	switch {
	case status == 0:
		x.Outcome = event.Unknown
	case plan.Judge.Judge(status) == event.Accepted:
		x.Outcome = event.Done
	case plan.Judge.Judge(status) == event.Rejected:
		return nil
	}
	return x
}

// topics returns the topics of what a request makes.
func topics(r *rules.Rules, method, path string, h headers, status int) []string {
	x := exchange(r, method, path, h, status, `{"sys":{"id":"from-answer","version":3}}`)
	if x == nil {
		return nil
	}
	var list []string
	for _, e := range r.Derive(x, nil, nil) {
		list = append(list, e.Topic())
	}
	return list
}

func TestWhatARequestMeans(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	check := func(method, path string, h headers, status int, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, topics(r, method, path, h, status)); diff != "" {
			t.Errorf("%s %s %d: %s", method, path, status, diff)
		}
	}
	v1 := headers{"x-contentful-version": "1"}
	check("GET", "/spaces/s/environments/e/entries", nil, 200)
	check("HEAD", "/spaces/s/entries/x", nil, 200)
	check("POST", "/spaces/s/environments/e/entries", nil, 201, "Entry.create")
	check("POST", "/spaces/s/entries", nil, 201, "Entry.create")
	check("POST", "/spaces/s/entries/", nil, 201, "Entry.create")
	check("POST", "//spaces//s/entries", nil, 201, "Entry.create")
	check("PUT", "/spaces/s/%65ntries/a%2Fb", v1, 200, "Entry.save")
	check("POST", "/spaces/s/entries", nil, 422)
	check("POST", "/spaces/s/entries", nil, 501)
	check("POST", "/spaces/s/entries", nil, 503)
	check("POST", "/spaces/s/entries", nil, 500, "Entry.create")
	check("PUT", "/spaces/s/entries/x", nil, 502, "Entry.create")
	check("PUT", "/spaces/s/entries/x", nil, 202, "Entry.create")
	check("POST", "/spaces/s/entries", nil, 0, "Entry.create")
	check("PUT", "/spaces/s/entries/x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/entries/x", headers{"X-Contentful-Version": "0"}, 201, "Entry.create")
	check("PUT", "/spaces/s/entries/x", nil, 201, "Entry.create")
	check("PUT", "/spaces/s/entries/x", nil, 0, "Entry.create")
	check("PUT", "/spaces/s/entries/x", headers{"X-Contentful-Version": "0"}, 0, "Entry.create")
	check("PUT", "/spaces/s/entries/x", v1, 0, "Entry.save")
	check("PUT", "/spaces/s/entries/x", headers{"X-Contentful-Version": "4", "X-Contentful-UI-Content-Auto-Save": "true"}, 200, "Entry.auto_save")
	check("PATCH", "/spaces/s/entries/x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/entries/x/published", v1, 200, "Entry.publish")
	check("PUT", "/spaces/s/entries/x/published", headers{"x-contentful-validate-only": "true"}, 200)
	check("DELETE", "/spaces/s/entries/x/published", nil, 200, "Entry.unpublish")
	check("PUT", "/spaces/s/assets/x/archived", nil, 200, "Asset.archive")
	check("DELETE", "/spaces/s/assets/x/archived", nil, 200, "Asset.unarchive")
	check("PUT", "/spaces/s/content_types/x/archived", nil, 200)
	check("DELETE", "/spaces/s/content_types/x", nil, 204, "ContentType.delete")
	check("PUT", "/spaces/s/environments/e/assets/x/files/en/process", v1, 204)
	check("PUT", "/spaces/s/environments/e/locales/x", v1, 200)
	check("PUT", "/spaces/s/environments/e/releases/r/entries/x", v1, 200, "ReleaseEntry.save")
	check("PUT", "/spaces/s/environments/e/releases/r/published", v1, 202, "ReleaseAction.create")
	check("PATCH", "/spaces/s/environments/e/releases/r/entries/x", v1, 200, "ReleaseEntry.save")
	check("POST", "/spaces/s/environments/e/releases/r/validate", nil, 200)
	check("PUT", "/spaces/s/environment_aliases/a", nil, 200, "EnvironmentAlias.create")
	check("PUT", "/spaces/s/environment_aliases/a", v1, 200, "EnvironmentAlias.change_target")
	check("PUT", "/spaces/s/environment_aliases/a", nil, 409)
	check("POST", "/spaces/s/environments/e/bulk_actions/validate", nil, 201, "BulkAction.create")
	check("POST", "/spaces/s/environments/e/workflows/w/versions/3/comments", nil, 201, "Comment.create")
	check("PUT", "/spaces/s/environments/e/workflows/w/complete", v1, 204, "Workflow.complete")
	check("PUT", "/spaces/s/./entries/x", v1, 200, "Entry.save")
	check("PUT", "/./spaces/s/y/../entries/x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/%2e/entries/x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/y/%2E%2e/entries/x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/y/.%2e/entries/x", v1, 200, "Entry.save")
	check("PUT", "/../spaces/s/entries/x/.", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/entries/.x", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/entries/x/..", v1, 200)
	check("PUT", "/spaces/s/entries/..%2Fx", v1, 200, "Entry.save")
	check("PUT", "/spaces/s/entries%2Fx", v1, 200)
	check("POST", "/", nil, 201)
	check("POST", "", nil, 201)
}

// Not parallel: AllocsPerRun counts everyone's allocations.
func TestClassifyPassAllocatesNothing(t *testing.T) {
	r := rules.New(contentful(t), nil)
	head := event.Head{Method: "PUT", Path: "/spaces/s/environments/v1.2/locales/en", Headers: headers{}}
	if got := testing.AllocsPerRun(100, func() { r.Classify(head, nil) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestRoutes walks the vendor's routes: those with a topic give exactly that,
// for every path form and every status that means success, and the others give
// nothing.
func TestRoutes(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	fill := strings.NewReplacer("{space}", "s", "{env}", "staging", "{id}", "x", "{locale}", "en-US", "{rest}", "y", "{op}", "create",
		"{release}", "r", "{entry}", "e", "{app_definition}", "x")
	type count struct{ rows, requests, right int }
	table := map[string]*count{}
	for _, row := range routeRows(t) {
		var want []string
		kind := row.Mode + " without a topic"
		if row.Topic != nil && row.excepted() == "" {
			want, kind = []string{*row.Topic}, row.Mode+" with a topic"
		}
		c := table[kind]
		if c == nil {
			c = &count{}
			table[kind] = c
		}
		c.rows++
		for _, path := range row.paths() {
			for _, method := range row.methods() {
				for _, status := range row.Success {
					got := vendorTopics(r, method, fill.Replace(path), row.headers(), status)
					c.requests++
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s %s %d: %s", method, path, status, diff)
						continue
					}
					c.right++
				}
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(table)) {
		t.Logf("%-24s %3d rows, %3d requests, %3d right", kind, table[kind].rows, table[kind].requests, table[kind].right)
	}
	if c := table["sync with a topic"]; c == nil || c.rows < 88 {
		t.Errorf("too few rows: %+v", c)
	}
}

// excepted says why a row's topic is not expected, if it is not.
func (r routeRow) excepted() string {
	if *r.Method == "POST" && strings.HasSuffix(*r.Path, "/releases/{id}/validate") {
		return "a validation changes nothing, and nobody knows whether the vendor calls a webhook then"
	}
	return ""
}

// routeRow is a route of the vendor's API.
type routeRow struct {
	Method, Path  *string
	AltPath       *string `json:"alt_path"`
	Action, Topic *string
	Mode          string
	Success       []int
}

// routeRows returns the routes that a request leads to.
func routeRows(t *testing.T) []routeRow {
	t.Helper()
	text, err := os.ReadFile("testdata/routes-contentful.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []routeRow
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(rows, func(row routeRow) bool { return row.Method == nil })
}

func (r routeRow) paths() []string {
	if r.AltPath == nil {
		return []string{*r.Path}
	}
	return []string{*r.Path, *r.AltPath}
}

func (r routeRow) methods() []string {
	if *r.Method == "*" {
		return []string{"POST", "PUT", "PATCH", "DELETE"}
	}
	return []string{*r.Method}
}

// headers are those that tell the row from another of the same path.
func (r routeRow) headers() headers {
	switch {
	case r.Action == nil:
	case *r.Action == "auto_save":
		return headers{"X-Contentful-UI-Content-Auto-Save": "true"}
	case *r.Action == "change_target":
		return headers{"X-Contentful-Version": "1"}
	}
	return headers{}
}

// vendorTopics returns what a request makes, as X-Contentful-Topic says it.
func vendorTopics(r *rules.Rules, method, path string, h headers, status int) []string {
	x := exchange(r, method, path, h, status, `{"sys":{"id":"from-answer","version":3}}`)
	if x == nil {
		return nil
	}
	var list []string
	for _, e := range r.Derive(x, nil, nil) {
		for _, h := range e.Native.Headers {
			if h.Name == "X-Contentful-Topic" {
				list = append(list, h.Value)
			}
		}
	}
	return list
}

// TestWebhookSamples compares payload and headers with the vendor's own calls.
func TestWebhookSamples(t *testing.T) {
	t.Parallel()
	check := func(file string, status int, answer func(body string) string, but ...string) {
		t.Helper()
		text, err := os.ReadFile("testdata/webhook-samples/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var sample struct {
			CausedBy struct {
				Method, Path string
				Headers      headers
			} `json:"caused_by"`
			Request struct {
				Headers map[string]string
				Body    json.RawMessage
			}
		}
		if err := json.Unmarshal(text, &sample); err != nil {
			t.Fatal(err)
		}
		r := rules.New(contentful(t), nil)
		x := exchange(r, sample.CausedBy.Method, sample.CausedBy.Path, sample.CausedBy.Headers, status, answer(string(sample.Request.Body)))
		e := r.Derive(x, nil, nil)[0]
		var want, got any
		_ = json.Unmarshal(sample.Request.Body, &want)
		if err := json.Unmarshal(e.Payload, &got); err != nil {
			t.Fatalf("%s: %v in %s", file, err, e.Payload)
		}
		for _, path := range but { // what only a last state can give
			remove(want, strings.Split(path, "."))
			remove(got, strings.Split(path, "."))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		for _, h := range e.Native.Headers {
			if h.PerCall != "" {
				continue
			}
			want, exists := sample.Request.Headers[h.Name]
			if !exists || h.Value != want && h.Name != "X-Contentful-Idempotency-Key" && h.Name != "X-Contentful-Event-Datetime" {
				t.Errorf("%s: header %s is %q, want %q", file, h.Name, h.Value, want)
			}
		}
		if e.Native.ContentType != sample.Request.Headers["Content-Type"] {
			t.Errorf("%s: content type %s", file, e.Native.ContentType)
		}
	}
	same := func(body string) string { return body }
	check("contentful.Asset.create.json", 201, same)
	check("contentful.Entry.save.json", 200, same)
	check("contentful.Entry.publish.json", 200, func(body string) string {
		return strings.Replace(body, `"revision": 1`, `"version": 2, "publishedCounter": 1, "publishedAt": "x"`, 1)
	})
	times := []string{"sys.createdAt", "sys.updatedAt", "sys.deletedAt"}
	check("contentful.Entry.unpublish.json", 200, func(string) string {
		return `{"sys":{"contentType":{"sys":{"type":"Link","linkType":"ContentType","id":"post"}},"publishedCounter":1,
			"version":5,"updatedBy":{"sys":{"type":"Link","linkType":"User","id":"u1"}}},"fields":{}}`
	}, times...)
	check("contentful.Entry.delete.json", 204, func(string) string { return "" },
		append(times, "sys.contentType", "sys.revision", "sys.deletedBy")...)
}

func remove(value any, path []string) {
	object, ok := value.(map[string]any)
	if !ok {
		return
	}
	if len(path) == 1 {
		delete(object, path[0])
		return
	}
	remove(object[path[0]], path[1:])
}

func TestEvent(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	derive := func(method, path string, h headers, status int, answer string) event.Event {
		t.Helper()
		return r.Derive(exchange(r, method, path, h, status, answer), nil, nil)[0]
	}
	const entry = `{"sys":{"id":"x","version":7,"contentType":{"sys":{"id":"post"}},"updatedBy":{"sys":{"id":"u"}}},"fields":{"n":9007199254740993}}`
	if dotted := derive("PUT", "/spaces/s/y/../entries/x", nil, 200, ""); dotted.Space != "s" || dotted.Entity.ID != "x" {
		t.Errorf("got %+v", dotted)
	}
	e := derive("PUT", "/spaces/s/entries/x", headers{"traceparent": "00-1", "User-Agent": "ua", "Authorization": "Bearer secret"}, 200, entry)
	want := event.Entity{Type: "Entry", ID: "x", ContentType: "post", Version: 7}
	if e.Entity != want || e.Space != "s" || e.Environment != "master" || e.Actor != "u" || !e.Confirmed || e.Partial != "" {
		t.Errorf("got %+v", e)
	}
	if string(e.Payload) != entry {
		t.Errorf("the payload was changed: %s", e.Payload)
	}
	if e.Request.Traceparent != "00-1" || e.Request.UserAgent != "ua" || len(e.ID) != 64 {
		t.Errorf("got %+v", e.Request)
	}
	if text, _ := json.Marshal(e); strings.Contains(string(text), "secret") {
		t.Error("a credential was kept")
	}

	published := derive("PUT", "/spaces/s/entries/x/published", nil, 200, entry)
	if !strings.Contains(string(published.Payload), `{"n":9007199254740993}`) {
		t.Errorf("numbers were rounded: %s", published.Payload)
	}
	orphan := derive("PUT", "/spaces/s/environments/staging/entries/x/published", nil, 0, "")
	if orphan.Confirmed || orphan.Partial == "" || orphan.Entity.ID != "x" || orphan.Environment != "staging" {
		t.Errorf("got %+v", orphan)
	}
	if got := string(orphan.Payload); !strings.Contains(got, `"id":"staging"`) || !json.Valid(orphan.Payload) {
		t.Errorf("got %s", got)
	}
	if again := derive("PUT", "/spaces/s/environments/staging/entries/x/published", nil, 200, entry); again.ID != orphan.ID {
		t.Error("the same write gives two ids, in doubt and confirmed")
	}
	doubtful := derive("PUT", "/spaces/s/entries/x", nil, 500, `{"sys":{"type":"Error","id":"ServerError","version":9}}`)
	if doubtful.Confirmed || doubtful.Entity.ID != "x" || doubtful.Entity.Version != 0 || strings.Contains(string(doubtful.Payload), "Error") {
		t.Errorf("an error was taken for the entity: %+v %s", doubtful, doubtful.Payload)
	}
	for answer, problem := range map[string]string{
		`{"sys":`: "the answer is not JSON", `<html>`: "the answer is not JSON", "{\"a\":\"\xff\"}": "the answer is not JSON",
		`{"sys":{"id":"y","version":9},"sys":{}}`:                           "the answer has a key twice",
		strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000): "the answer is nested too deeply",
	} {
		broken := derive("PUT", "/spaces/s/entries/x", nil, 200, answer)
		if broken.PayloadError != problem || broken.Entity.ID != "x" || broken.Entity.Version != 0 || !json.Valid(broken.Payload) || !broken.Confirmed {
			t.Errorf("%.50s: got %+v", answer, broken)
		}
	}
	created := derive("POST", "/spaces/s/entries", nil, 0, "")
	if created.Entity.ID != "" || !json.Valid(created.Payload) {
		t.Errorf("got %+v %s", created, created.Payload)
	}
}

// TestResourceEvent: a resource may say where its events belong.
func TestResourceEvent(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	derive := func(method, path string, status int, answer string) event.Event {
		t.Helper()
		return r.Derive(exchange(r, method, path, nil, status, answer), nil, nil)[0]
	}
	payload := func(e event.Event, want string) {
		t.Helper()
		var a, b any
		if err := json.Unmarshal([]byte(want), &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(e.Payload, &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %s", e.Topic(), diff)
		}
	}
	const space = `"space":{"sys":{"type":"Link","linkType":"Space","id":"s"}}`
	const master = `"environment":{"sys":{"type":"Link","linkType":"Environment","id":"master"}}`
	alias := derive("DELETE", "/spaces/s/environment_aliases/a", 204, "")
	if alias.Environment != "" || alias.EnvironmentUnseen != "" || alias.Entity.ID != "a" {
		t.Errorf("got %+v", alias)
	}
	payload(alias, `{"sys":{"type":"EnvironmentAlias","id":"a",`+space+`}}`)
	scheduled := derive("PUT", "/spaces/s/scheduled_actions/a", 200, `{"sys":{"id":"a"},"environment":{"sys":{"id":"staging"}}}`)
	if scheduled.Environment != "staging" || scheduled.EnvironmentUnseen != "" {
		t.Errorf("got %+v", scheduled)
	}
	copied := derive("PUT", "/spaces/s/environments/e/releases/r/entries/x", 200, `{"sys":{"id":"x","version":9}}`)
	if copied.Entity.Version != 0 || copied.Entity.ID != "x" || copied.Environment != "e" {
		t.Errorf("got %+v", copied)
	}
	if orphan := derive("PUT", "/spaces/s/scheduled_actions/a", 0, ""); orphan.Environment != "" || !strings.Contains(orphan.EnvironmentUnseen, "no answer") {
		t.Errorf("got %+v", orphan)
	}
	task := derive("PUT", "/spaces/s/entries/e/tasks/k", 200, `{"sys":{"id":"k","version":2},"body":"do"}`)
	payload(task, `{"sys":{"idempotencyId":"`+task.ID+`",`+space+`,`+master+`,
		"newTask":{"sys":{"type":"Task","id":"k","version":2,`+space+`,`+master+`},"body":"do"}}}`)
	if task.Partial != "" || !slices.Equal(task.Gaps, []string{"sys"}) {
		t.Errorf("what the task was is not unseen: %+v", task)
	}
	comment := derive("DELETE", "/spaces/s/entries/e/comments/k", 204, "")
	payload(comment, `{"sys":{"idempotencyId":"`+comment.ID+`",`+space+`,`+master+`,
		"oldComment":{"sys":{"type":"Comment","id":"k",`+space+`,`+master+`}}}}`)
	if comment.Partial == "" {
		t.Errorf("what the comment was is not unseen: %+v", comment)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	post := `{"sys":{"type":"Entry","id":"x","contentType":{"sys":{"id":"post"}}},"fields":{"n":{"en":1}}}`
	check := func(yaml string, e event.Event, wanted bool, reason string) {
		t.Helper()
		var s rules.Subscription
		if err := setting.Decode("t.yaml", []byte(yaml), &s, func(c setting.Check) { s.Validate(c) }); err != nil {
			t.Fatal(err)
		}
		r := rules.New(contentful(t), []rules.Webhook{{Name: "w", Subscription: s}})
		got := r.Match(&e, nil)[0]
		if got.Wanted != wanted || !strings.Contains(got.Reason, reason) {
			t.Errorf("%s: wanted %v because %q", yaml, got.Wanted, got.Reason)
		}
		if undecided := got.Undecided != ""; undecided != (wanted && reason != "") {
			t.Errorf("%s: undecided is %q", yaml, got.Undecided)
		}
	}
	e := event.Event{
		Type: "Entry", Action: "publish", Environment: "master", Confirmed: true, Payload: []byte(post),
		Entity: event.Entity{Type: "Entry", ID: "x", ContentType: "post"},
	}
	check(`topics: ["*.*"]`, e, true, "")
	check(`topics: [entry.PUBLISH]`, e, true, "")
	check(`topics: ["Entry.*"]`, e, true, "")
	check(`topics: ["*.publish"]`, e, true, "")
	check(`topics: ["*.save", Asset.publish]`, e, false, "topics")
	check(`{topics: ["*.*"], environments: [master, x]}`, e, true, "")
	check(`{topics: ["*.*"], environments: [Master]}`, e, false, "environments")
	const any = `topics: ["*.*"], filter: `
	check(`{`+any+`'payload.sys.contentType.sys.id in ["post", "author"]'}`, e, true, "")
	check(`{`+any+`'payload.sys.contentType.sys.id == "page"'}`, e, false, "filter is false")
	check(`{`+any+`'payload.sys.contentTyp.sys.id != "page"'}`, e, false, "missing: payload.sys.contentTyp")
	check(`{`+any+`'entity.content_type == "post" and action == "publish" and confirmed and not accepted'}`, e, true, "")
	check(`{`+any+`'entity.locale == "en"'}`, e, false, "missing")
	check(`{`+any+`'alias == "x"'}`, e, false, "missing")
	check(`{`+any+`'payload.fields.n.en + "a" == 1'}`, e, false, "failed")
	check(`{`+any+`'before.fields.n != nil'}`, e, true, "before")
	check(`{`+any+`'changed("fields.n")'}`, e, true, "change")
	check(`{on_unknown: skip, `+any+`'before.fields.n != nil'}`, e, false, "unknown")

	unplaced := e
	unplaced.Environment, unplaced.EnvironmentUnseen = "", "no answer was seen"
	check(`topics: ["*.*"]`, unplaced, true, "")
	check(`{topics: ["*.*"], environments: [x]}`, unplaced, true, "no answer was seen")
	check(`{topics: ["*.*"], environments: [x], filter: 'action == "save"'}`, unplaced, false, "filter is false")
	check(`{topics: ["*.*"], environments: [x], on_unknown: skip}`, unplaced, false, "unknown")
	check(`{`+any+`'environment == "x"'}`, unplaced, true, "no answer was seen")
	unplaced.EnvironmentUnseen = ""
	check(`{topics: ["*.*"], environments: [x]}`, unplaced, false, "environments")

	orphan := e
	orphan.Confirmed, orphan.Partial = false, "no answer was seen"
	orphan.Payload, orphan.Entity.ContentType = []byte(`{"sys":{"type":"Entry","id":"x"}}`), ""
	check(`{`+any+`'payload.sys.contentType.sys.id == "post"'}`, orphan, true, "no answer was seen")
	check(`{`+any+`'entity.content_type == "post"'}`, orphan, true, "no answer was seen")
	check(`{`+any+`'payload.sys.id == "y" and payload.fields.a == 1'}`, orphan, false, "filter is false")
	check(`{`+any+`'actor == "u"'}`, orphan, true, "no answer was seen")
}

// hint follows an expression that ends too early.
const hint = "; it ends too early: in YAML a # after a space begins a comment, unless all is in quotes"

// TestDocumentedFilters: the filters of the docs can be written as they stand there.
func TestDocumentedFilters(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		var s rules.Subscription
		if err := setting.Decode("docs", []byte("topics: ['*.*']\n"+block[1]), &s, s.Validate); err != nil || s.Filter == "" {
			t.Errorf("%s%v", block[1], err)
		}
	}
}

func TestSubscriptionMistakes(t *testing.T) {
	t.Parallel()
	check := func(yaml, want string) {
		t.Helper()
		var s rules.Subscription
		err := setting.Decode("t.yaml", []byte(yaml), &s, func(c setting.Check) { s.Validate(c) })
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", yaml, err, want)
		}
	}
	check(`environments: [a]`, `t.yaml: topics: name at least one topic, for example [Entry.publish, "Asset.*"]; "*.*" is all`)
	check(`topics: [publish]`, `t.yaml:1: topics[0]: want Type.Action with * on either side, for example Entry.publish or "*.*", not "publish"`)
	check(`topics: [a.b.c]`, `t.yaml:1: topics[0]: want Type.Action with * on either side, for example Entry.publish or "*.*", not "a.b.c"`)
	for _, none := range []string{"", "*"} {
		check("topics: ['*.*']\nenvironments: ['"+none+"']", "t.yaml:2: environments[0]: is no name of an environment; leave environments out for all of them")
	}
	check("topics: ['*.*']\non_unknown: maybe", `t.yaml:2: on_unknown: must be deliver or skip`)
	check("topics: ['*.*']\nfilter: payload.x ==", `t.yaml:2: filter: in "payload.x ==": 1:12: unexpected token EOF`+hint)
	check("topics: ['*.*']\nfilter: any(payload.list, # == 1)", `t.yaml:2: filter: in "any(payload.list,": 1:17: unexpected token EOF`+hint)
	check("topics: ['*.*']\nfilter: payloat.x == 1", `t.yaml:2: filter: in "payloat.x == 1": 1:1: unknown name payloat; known are: type, action, topic, space, environment, alias, target, entity, actor, payload, before, request, confirmed, accepted, cause, changes`)
}

func TestDialectMistakes(t *testing.T) {
	t.Parallel()
	check := func(yaml string, want ...string) {
		t.Helper()
		_, err := rules.ParseDialect("d.yaml", []byte(yaml))
		if err == nil {
			t.Fatalf("%s: no error", yaml)
		}
		if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Errorf("%s: %s", yaml, diff)
		}
	}
	check("name: a\nhost: other", "d.yaml:2: host: must be upstream or preserve")
	check("name: a\nmatch: both", "d.yaml:2: match: must be address or target")
	check("name: a\nroutes:\n  w:\n  - {on: POST, action: b, types: [a b]}",
		`d.yaml:4: routes.w[0].types[0]: want a word of letters, digits, - and _, not "a b"; it is the first half of a topic`)
	check("name: a\nskip: header.x ==", `d.yaml:2: skip: in "header.x ==": 1:11: unexpected token EOF`+hint)
	check("name: a\nresources:\n- {type: A, paths: [a], routes: [w]}\nroutes:\n  w:\n  - {on: POST, success: [201], action: create}",
		`d.yaml:3: resources[0].paths[0]: the path "a" must start with a slash`)
	check("name: a\nresources:\n- {type: A, paths: [/a], routes: [x]}", `d.yaml:3: resources[0].routes[0]: there is no group "x" under routes; there is none`)
	check("name: a\nresources:\n- type: A\n  paths: /a\n  event:\n    place: x\n    id: ${response.}", `d.yaml:6: resources[0].event.place: unknown key; known here: actor, alias, cause, content_type, environment, id, locale, space, target, version, within`,
		`d.yaml:7: resources[0].event.id: in "response.": 1:9: unexpected end of expression`)
	check("name: a\npayloads:\n  p:\n    a${nope}: b", `d.yaml:4: payloads.p.a${nope}: in "nope": 1:1: unknown name nope; known are: path, header, query, uri, body, status, response, location, item, before, job, read, set, type, action, topic, space, environment, target, aliases, links, cause, entity, time, id, related`)
	check("name: a\nroutes:\n  w:\n  - on: POST\n    success: [201]\n    payload: none\n    action: b", `d.yaml:6: routes.w[0].payload: there is no payload "none" under payloads; there is none`)
	check("name: a\nroutes:\n  w:\n  - {on: post, action: b}",
		`d.yaml:4: routes.w[0].on: want a method and what follows the path, for example PUT /{id}, not "post"`)
	check("name: a\nroutes:\n  w:\n  - {on: POST, success: [201]}", `d.yaml:4: routes.w[0]: name the action, or a list of actions; or say pass: true if nothing changes`)
	check("name: a\npayloads:\n  p:\n    a: ${type", `d.yaml:4: payloads.p.a: in "${type": a ${ has no closing brace; if the text goes on after a #, put it in quotes`)
	check("name: a\npayloads:\n  p:\n    a: ${nope}", `d.yaml:4: payloads.p.a: in "nope": 1:1: unknown name nope; known are: path, header, query, uri, body, status, response, location, item, before, job, read, set, type, action, topic, space, environment, target, aliases, links, cause, entity, time, id, related`)
	// Names that are not there, and routes that nothing reaches.
	check(`
name: a
headers: { version: X-Version }
resources: [{ type: A, paths: "/as/{space}", routes: w, set: { kind: k } }]
routes:
  w:
  - { on: "PUT /{id}", body: { ids: request.ids }, when: body.idds != nil, action: save }
  - { on: "DELETE /{id}", when: path.idd == "1", action: de lete }
  - { on: PATCH, when: header.versoin == "1" and query.x == "2", action: save }
event: { id: "${path.di}" }
payloads: { p: { a: "${entity.idd}", b: "${set.kin}" } }
`, `d.yaml:7: routes.w[0].when: in "body.idds != nil": there is no body.idds; did you mean ids?`,
		`d.yaml:8: routes.w[1].actions[0]: want a word of letters, digits, - and _, not "de lete"; it is the second half of a topic`,
		`d.yaml:8: routes.w[1].when: in "path.idd == \"1\"": there is no path.idd; did you mean id?`,
		`d.yaml:9: routes.w[2].when: in "header.versoin == \"1\" and query.x == \"2\"": there is no header.versoin; did you mean version?`,
		`d.yaml:10: event.id: in "path.di": there is no path.di; did you mean id?`,
		`d.yaml:11: payloads.p.a: in "entity.idd": there is no entity.idd; did you mean id?`,
		`d.yaml:11: payloads.p.b: in "set.kin": there is no set.kin; did you mean kind?`)
	check("name: a\nresources: [{ type: A, paths: [/a, '/{x}'], routes: w }]\nroutes:\n  w:\n  - { on: POST, action: a }\n  - { on: POST, action: b }",
		"d.yaml:2: resources[0].paths[0]: POST /a is never reached: POST /a comes before it",
		"d.yaml:2: resources[0].paths[1]: POST /{x} is never reached: POST /{x} comes before it")
	credential := func(header string) {
		t.Helper()
		check("name: a\nheaders:\n  h: "+header, "d.yaml:3: headers.h: "+header+" holds a credential, and what a dialect reads is kept on disk; leave it out")
	}
	for name, source := range map[string]string{"pw": "request.user.password", "k": "request.api_key", "x": `request["session-id"]`} {
		check("name: a\nroutes:\n  w:\n  - { on: POST, action: b, body: { "+name+": '"+source+"' } }",
			"d.yaml:4: routes.w[0].body."+name+": "+source+" holds a credential, and what a dialect reads is kept on disk; leave it out")
	}
	check("name: a\nroutes:\n  w:\n  - { on: POST, action: b, body: { all: request } }",
		"d.yaml:4: routes.w[0].body.all: it is all of the body, and what a dialect reads is kept on disk; name what is needed of it")
	check("name: a\nresources: [{ type: A, paths: '/a?x=1', routes: w }]\nroutes: { w: [{ on: POST, action: b }] }",
		`d.yaml:2: resources[0].paths[0]: the path "/a?x=1": each part is a word or a parameter such as {id}; a parameter has letters, digits, - and _, and no query follows`)
	credential("Authorization")
	credential("access_key")
	credential("JWT")
	credential("proxy-authorization")
	credential("Cookie")
	credential("Set-Cookie")
	credential("X-Auth-Token")
	credential("X-Client-SECRET")
	credential("X-Api-Key")
	credential("apikey")
	credential("X-Password")
	if _, err := rules.LoadDialect("strapy"); err == nil || !strings.Contains(err.Error(), "built in: contentful") {
		t.Errorf("got %v", err)
	}
	if _, err := rules.LoadDialect("./none.yaml"); err == nil {
		t.Error("no error for a file that is not there")
	}
}

func FuzzDerive(f *testing.F) {
	r := rules.New(contentful(f), nil)
	f.Add("PUT", "/spaces/s/entries/x/published", 200, []byte(`{"sys":{"id":"x"}}`))
	f.Add("DELETE", "/spaces/s/entries/%zz", 204, []byte(``))
	f.Add("POST", "/spaces/s/content_types", 201, []byte(`{"sys":[]}`))
	f.Fuzz(func(t *testing.T, method, path string, status int, answer []byte) {
		x := exchange(r, method, path, nil, status, string(answer))
		if x == nil {
			return
		}
		for _, e := range r.Derive(x, nil, nil) {
			if !json.Valid(e.Payload) {
				t.Errorf("not JSON: %q", e.Payload)
			}
		}
	})
}
