package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

const jobDialect = `
name: test
resources: [{ type: Item, paths: /items, routes: item }]
routes:
  item:
    - { on: [POST, "PUT /{id}"], success: [2xx], action: save }
job: result
jobs:
  result:
    when: status == 202 and response.data.type == "job"
    job: ${response.data.id}
    poll: /job-results/{job}
    deadline: 10m
    running: response.data.attributes.status == 102
    failed: response.data.attributes.status >= 400
    unsure: response.data.attributes.payload.meta.failed > 0
    answer: ${response.data.attributes.payload}
event: { id: "${path.id ?? response.data.id}" }
payloads: { identity: { id: "${entity.id}" } }
`

// TestJob: what the answer only promises makes its events when the result is
// known.
func TestJob(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("test.yaml", []byte(jobDialect))
	if err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, nil)
	promise := func(method, path string, status int, answer string) (*event.Exchange, *event.Intent) {
		x := exchange(r, method, path, nil, status, answer)
		return x, r.Job(x)
	}
	const accepted = `{"data":{"type":"job","id":"j 1"}}`
	if x, job := promise("PUT", "/items/a", 200, `{"data":{"id":"a"}}`); job != nil || len(r.Derive(x, nil, nil)) != 1 {
		t.Errorf("a save is a job: %+v", job)
	}
	if _, job := promise("PUT", "/items/a", 202, `{"data":{"type":"item","id":"a"}}`); job != nil {
		t.Errorf("%+v", job)
	}
	if _, job := promise("PUT", "/items/a", 500, accepted); job != nil {
		t.Errorf("what is in doubt is a job: %+v", job)
	}
	x, job := promise("POST", "/items", 202, accepted)
	if job == nil || job.Job.ID != "j 1" || job.Job.Poll != "/job-results/j%201" || job.Job.Until.Sub(at).Minutes() != 10 || job.ID == x.Intent.ID {
		t.Fatalf("%+v", job)
	}
	if events := r.Derive(x, nil, nil); len(events) != 0 {
		t.Errorf("a promise makes %s", short(events))
	}
	open := &event.Exchange{Intent: job}
	if r.Job(open) != nil {
		t.Error("a job becomes a job")
	}
	check := func(status int, result string, verdict event.Verdict, want ...string) {
		t.Helper()
		got, done := r.Result(open, event.Finding{Status: status, Entity: event.Copy{Bytes: []byte(result)}})
		var events []event.Event
		if got == event.Accepted {
			events = r.Derive(done, nil, nil)
		}
		if diff := cmp.Diff(want, short(events)); diff != "" || got != verdict {
			t.Errorf("%d %s: %v %s", status, result, got, diff)
		}
	}
	check(404, `{}`, event.Doubt)
	check(401, `{"data":{"attributes":{"status":200}}}`, event.Doubt)
	check(200, `not JSON`, event.Doubt)
	check(200, `{"data":{"attributes":{"status":102}}}`, event.Doubt)
	check(200, `{"data":{"attributes":{"status":422,"payload":{}}}}`, event.Rejected)
	check(200, `{"data":{"attributes":{"status":200,"payload":{"data":{"id":"new"}}}}}`, event.Accepted, "Item.save new")
	check(200, `{"data":{"attributes":{"status":200,"payload":{"meta":{"failed":1}}}}}`, event.Accepted, "Item.save  ?")
	check(200, `{"data":{"attributes":{"status":200}}}`, event.Accepted, "Item.save ")
	if unseen := r.Derive(open, nil, nil); len(unseen) != 1 || unseen[0].Confirmed {
		t.Errorf("after the deadline: %s", short(unseen))
	}

	poll := func(method, path string) string {
		plan := r.Classify(event.Head{Method: method, Path: path, Headers: headers{}}, nil)
		if plan.Class != event.Observe {
			return ""
		}
		return r.Poll(&event.Exchange{Intent: plan.Intent})
	}
	if poll("GET", "//job-results/%6A%201/") != job.Job.Poll || poll("GET", "/job-results/other") == job.Job.Poll || poll("POST", "/job-results/j") != "" {
		t.Error("a poll that passes is not known")
	}
}

// later plays a promise of Contentful and its result; read answers what is asked
// besides.
func later(t *testing.T, method, path, body, result, poll string, read func(path string) string) []event.Event {
	t.Helper()
	r := rules.New(contentful(t), nil)
	head := event.Head{Method: method, Path: path, Headers: headers{}}
	plan := r.Identify(head, event.Copy{Bytes: []byte(body)}, nil)
	plan.Intent.ID, plan.Intent.Time = "i", at
	x := &event.Exchange{
		Intent: plan.Intent, Status: r.UsualStatus(plan.Intent), Outcome: event.Done, Time: at,
		Answer: event.Copy{Bytes: []byte(`{"sys":{"id":"J1","status":"created"}}`)},
	}
	if at := short(r.Derive(x, nil, nil)); len(at) != 1 || !strings.HasSuffix(at[0], ".create J1") {
		t.Errorf("at once: %s", at)
	}
	job := r.Job(x)
	if job.Job.Poll != poll {
		t.Errorf("polls %s, want %s", job.Job.Poll, poll)
	}
	verdict, done := r.Result(&event.Exchange{Intent: job}, event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(result)}})
	if verdict != event.Accepted {
		return nil
	}
	done.Read = map[string]event.Copy{}
	for wanted := r.Reads(done); len(wanted) > 0; wanted = r.Reads(done) {
		for _, path := range wanted {
			text := read(path)
			done.Read[path] = event.Copy{Bytes: []byte(text)}
			if text == "" {
				done.Read[path] = event.Copy{Err: "the CMS answered 500"}
			}
		}
	}
	return r.Derive(done, nil, nil)
}

// TestBulkOperation: all that is known of it is that it ended.
func TestBulkOperation(t *testing.T) {
	t.Parallel()
	const at = "/spaces/s/environments/e/bulk_operations"
	for status, want := range map[string]string{
		"succeeded": "[BulkContentOperation.complete J1]", "failed": "[BulkContentOperation.complete J1]", "created": "[]", "inProgress": "[]", "canceled": "[]",
	} {
		events := later(t, "POST", at+"/entries/create", `{}`, `{"sys":{"id":"J1","status":"`+status+`"}}`, at+"/J1", nil)
		if got := fmt.Sprint(short(events)); got != want {
			t.Errorf("%s: %s", status, got)
		}
	}
}

// native are the native headers of an event, as one text.
func native(e event.Event) (text string) {
	for _, h := range e.Native.Headers {
		text += h.Name + ": " + h.Value + "\n"
	}
	return text
}

// TestBulkAction: the result of Contentful's bulk actions, both forms.
func TestBulkAction(t *testing.T) {
	t.Parallel()
	const env = "/spaces/s/environments/e"
	const items = `[{"sys":{"type":"Link","linkType":"Entry","id":"a"}},{"sys":{"type":"Link","linkType":"Asset","id":"b"}},{"sys":{"type":"Link","linkType":"Entry","id":"c"}}]`
	read := func(path string) string {
		switch path {
		case env + "/entries?sys.id%5Bin%5D=a,c&limit=100":
			return `{"items":[{"sys":{"id":"c","version":9,"contentType":{"sys":{"id":"post"}}},"fields":{"n":1}},{"sys":{"id":"a","version":4,"contentType":{"sys":{"id":"post"}}},"fields":{"n":2}}]}`
		case env + "/entries?sys.id%5Bin%5D=a&limit=100", env + "/entries?sys.id%5Bin%5D=c&limit=100":
			return `{"items":[]}`
		case env + "/assets?sys.id%5Bin%5D=b&limit=100", env + "/assets?sys.id%5Bin%5D=a&limit=100":
			return "" // it can not be read
		}
		t.Errorf("%s was read", path)
		return ""
	}
	check := func(path, body, result, poll string, want ...string) []event.Event {
		t.Helper()
		events := later(t, "POST", env+path, body, result, env+poll, read)
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		for _, e := range events {
			if e.Type != "BulkAction" && (e.Cause != "bulk" || e.Environment != "e" || !strings.Contains(native(e), "X-Contentful-Bulk-Action-Id: J1\n")) {
				t.Errorf("%+v", e)
			}
		}
		return events
	}
	succeeded := `{"sys":{"id":"J1","status":"succeeded"}}`
	failed := `{"sys":{"id":"J1","status":"failed"},"error":{"details":{"errors":[{"entity":{"sys":{"linkType":"Entry","id":"a"}}}]}}}`
	v1 := `{"entities":{"sys":{"type":"Array"},"items":` + items + `}}`
	events := check("/bulk_actions/publish", v1, succeeded, "/bulk_actions/actions/J1", "BulkAction.execute J1", "Entry.publish a", "Entry.publish c", "Asset.publish b")
	if a, b := events[1], events[3]; a.Entity.Version != 0 || a.Entity.ContentType != "post" || !strings.Contains(string(a.Payload), `"fields":{"n":2}`) || a.Partial != "" ||
		b.Partial == "" || !strings.Contains(string(b.Payload), `"id":"b"`) {
		t.Errorf("%+v %s\n%+v %s", a, a.Payload, b, b.Payload)
	}
	check("/bulk_actions/unpublish", v1, failed, "/bulk_actions/actions/J1", "BulkAction.execute J1", "Entry.unpublish c", "Asset.unpublish b")
	check("/bulk_actions/validate", v1, succeeded, "/bulk_actions/actions/J1", "BulkAction.execute J1")
	for _, nothing := range []string{`{"sys":{"status":"inProgress"}}`, `{"sys":{"status":"new"}}`, `{}`, `[]`, `"x"`, `{"sys":{"status":7}}`} {
		check("/bulk_actions/publish", v1, nothing, "/bulk_actions/actions/J1")
	}
	check("/bulk_actions/publish", v1, `{"sys":{"status":"failed"}}`, "/bulk_actions/actions/J1",
		"BulkAction.execute J1 ?", "Entry.publish a ?", "Entry.publish c ?", "Asset.publish b ?")
	for _, errors := range []string{`[]`, `[{"name":"BadRequest"}]`, `[{"entity":{"sys":{"linkType":"Entry","id":"a"}}},{"name":"BadRequest"}]`, `"many"`} {
		check("/bulk_actions/publish", v1, `{"sys":{"status":"failed"},"error":{"details":{"errors":`+errors+`}}}`, "/bulk_actions/actions/J1",
			"BulkAction.execute J1 ?", "Entry.publish a ?", "Entry.publish c ?", "Asset.publish b ?") // nobody knows which of them failed
	}
	check("/bulk_actions/publish", `{"entities":`, succeeded, "/bulk_actions/actions/J1", "BulkAction.execute J1", "Entry.publish ", "Asset.publish ")
	check("/bulk_actions/validate", `{"entities":`, succeeded, "/bulk_actions/actions/J1", "BulkAction.execute J1")
	check("/bulk_actions/unpublish", strings.ReplaceAll(v1, `"id":"b"`, `"id":"a"`), failed, "/bulk_actions/actions/J1", "BulkAction.execute J1", "Entry.unpublish c", "Asset.unpublish a")
	check("/bulk_actions/publish", v1, `{"sys":{"status":"canceled"}}`, "/bulk_actions/actions/J1")
	v2 := `{"action":"publish","entities":[{"entity":{"sys":{"type":"Link","linkType":"Entry","id":"a"}},"add":{}}]}`
	check("/bulk_actions", v2, succeeded, "/bulk_actions/J1", "BulkAction.execute J1", "Entry.publish a")
}

// TestPromiseUnseen: nobody saw, or could read, the promise of a bulk action. Then
// its events go out at once, unconfirmed.
func TestPromiseUnseen(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	head := event.Head{Method: "POST", Path: "/spaces/s/environments/e/bulk_actions/publish", Headers: headers{}}
	plan := r.Identify(head, event.Copy{Bytes: []byte(`{"entities":{"items":[{"sys":{"linkType":"Entry","id":"a"}}]}}`)}, nil)
	plan.Intent.ID = "i"
	unseen := &event.Exchange{Intent: plan.Intent}
	if diff := cmp.Diff([]string{"BulkAction.create  ?", "BulkAction.execute  ?", "Entry.publish a ?"}, short(r.Derive(unseen, nil, nil))); diff != "" {
		t.Error(diff)
	}
	broken := &event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 201, Answer: event.Copy{Bytes: []byte("<html>")}}
	if diff := cmp.Diff([]string{"BulkAction.create ", "BulkAction.execute  ?", "Entry.publish a ?"}, short(r.Derive(broken, nil, nil))); diff != "" || r.Job(broken) != nil {
		t.Error(diff)
	}
}

// TestLargeBulk: 200 entities are read 100 at a time.
func TestLargeBulk(t *testing.T) {
	t.Parallel()
	var items []string
	for i := range 200 {
		items = append(items, fmt.Sprintf(`{"sys":{"linkType":"Entry","id":"e%d"}}`, i))
	}
	reads := 0
	events := later(t, "POST", "/spaces/s/environments/e/bulk_actions/publish", `{"entities":{"items":[`+strings.Join(items, ",")+`]}}`,
		`{"sys":{"status":"succeeded"}}`, "/spaces/s/environments/e/bulk_actions/actions/J1", func(path string) string {
			reads++
			_, ids, _ := strings.Cut(path, "=")
			ids, _, _ = strings.Cut(ids, "&")
			var found []string
			for id := range strings.SplitSeq(ids, ",") {
				found = append(found, `{"sys":{"id":"`+id+`","version":2},"fields":{}}`)
			}
			return `{"items":[` + strings.Join(found, ",") + `]}`
		})
	if len(events) != 201 || reads != 2 {
		t.Fatalf("%d events, %d reads", len(events), reads)
	}
	for _, e := range events[1:] {
		if e.Partial != "" || !strings.Contains(string(e.Payload), "fields") {
			t.Fatalf("%+v", e)
		}
	}
}

// TestRelease: what a release holds is read when it was published.
func TestRelease(t *testing.T) {
	t.Parallel()
	const env = "/spaces/s/environments/e"
	read := func(path string) string {
		switch path {
		case env + "/releases/r":
			return `{"sys":{"id":"r"},"entities":{"items":[{"sys":{"linkType":"Entry","id":"a"}},{"sys":{"linkType":"Asset","id":"b"}}]}}`
		case env + "/entries?sys.id%5Bin%5D=a&limit=100":
			return `{"items":[{"sys":{"id":"a","version":4},"fields":{}}]}`
		case env + "/assets?sys.id%5Bin%5D=b&limit=100":
			return `{"items":[{"sys":{"id":"b","version":2},"fields":{}}]}`
		}
		t.Errorf("%s was read", path)
		return ""
	}
	check := func(method, result string, read func(string) string, want ...string) {
		t.Helper()
		events := later(t, method, env+"/releases/r/published", "", result, env+"/releases/r/actions/J1", read)
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", method, diff)
		}
		for _, e := range events {
			if e.Type != "ReleaseAction" && (e.Cause != "release" || !strings.Contains(native(e), "X-Contentful-Release-Action-Id: J1\nX-Contentful-Release-Id: r\n")) {
				t.Errorf("%+v", e)
			}
		}
	}
	succeeded := `{"sys":{"status":"succeeded"}}`
	check("PUT", succeeded, read, "ReleaseAction.execute J1", "Entry.publish a", "Asset.publish b")
	check("DELETE", succeeded, read, "ReleaseAction.execute J1", "Entry.unpublish a", "Asset.unpublish b")
	check("PUT", `{"sys":{"status":"failed"}}`, read)
	check("PUT", succeeded, func(string) string { return "" }, "ReleaseAction.execute J1", "Entry.publish ", "Asset.publish ")
}
