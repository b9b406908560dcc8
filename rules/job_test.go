package rules_test

import (
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
	if x, job := promise("PUT", "/items/a", 200, `{"data":{"id":"a"}}`); job != nil || len(r.Derive(x, nil)) != 1 {
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
	if events := r.Derive(x, nil); len(events) != 0 {
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
			events = r.Derive(done, nil)
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
	if unseen := r.Derive(open, nil); len(unseen) != 1 || unseen[0].Confirmed {
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

// TestBulkAction: the result of Contentful's bulk actions, both forms.
func TestBulkAction(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	const env = "/spaces/s/environments/e/bulk_actions"
	const items = `[{"sys":{"type":"Link","linkType":"Entry","id":"a"}},{"sys":{"type":"Link","linkType":"Asset","id":"b"}},{"sys":{"type":"Link","linkType":"Entry","id":"c"}}]`
	check := func(path, body, result, poll string, want ...string) {
		t.Helper()
		head := event.Head{Method: "POST", Path: path, Headers: headers{}}
		plan := r.Identify(head, event.Copy{Bytes: []byte(body)}, nil)
		plan.Intent.ID, plan.Intent.Time = "i", at
		x := &event.Exchange{Intent: plan.Intent, Status: 201, Outcome: event.Done, Time: at,
			Answer: event.Copy{Bytes: []byte(`{"sys":{"type":"BulkAction","id":"B1","status":"created"}}`)}}
		if diff := cmp.Diff([]string{"BulkAction.create B1"}, short(r.Derive(x, nil))); diff != "" {
			t.Error(diff)
		}
		job := r.Job(x)
		if job.Job.Poll != poll {
			t.Errorf("polls %s", job.Job.Poll)
		}
		verdict, done := r.Result(&event.Exchange{Intent: job}, event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(result)}})
		var events []event.Event
		if verdict == event.Accepted {
			events = r.Derive(done, nil)
		}
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		for _, e := range events {
			if e.Type == "BulkAction" {
				continue
			}
			text := ""
			for _, h := range e.Native.Headers {
				text += h.Name + ": " + h.Value + "\n"
			}
			if e.Cause != "bulk" || e.Partial == "" || e.Environment != "e" || !strings.Contains(text, "X-Contentful-Bulk-Action-Id: B1\n") || !strings.Contains(text, "ContentManagement."+e.Topic()+"\n") {
				t.Errorf("%+v %s", e, text)
			}
		}
	}
	succeeded := `{"sys":{"id":"B1","status":"succeeded"}}`
	failed := `{"sys":{"id":"B1","status":"failed"},"error":{"details":{"errors":[{"entity":{"sys":{"linkType":"Entry","id":"a"}}}]}}}`
	v1 := `{"entities":{"sys":{"type":"Array"},"items":` + items + `}}`
	check(env+"/publish", v1, succeeded, env+"/actions/B1", "BulkAction.execute B1", "Entry.publish a", "Entry.publish c", "Asset.publish b")
	check(env+"/unpublish", v1, failed, env+"/actions/B1", "BulkAction.execute B1", "Entry.unpublish c", "Asset.unpublish b")
	check(env+"/validate", v1, succeeded, env+"/actions/B1", "BulkAction.execute B1")
	check(env+"/publish", v1, `{"sys":{"status":"inProgress"}}`, env+"/actions/B1")
	check(env+"/publish", v1, `{"sys":{"status":"canceled"}}`, env+"/actions/B1")
	v2 := `{"action":"publish","entities":[{"entity":{"sys":{"type":"Link","linkType":"Entry","id":"a"}},"add":{}}]}`
	check(env, v2, succeeded, env+"/B1", "BulkAction.execute B1", "Entry.publish a")
}
