package rules_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

func datocms(t testing.TB, webhooks ...rules.Webhook) *rules.Rules {
	t.Helper()
	d, err := rules.LoadDialect("datocms")
	if err != nil {
		t.Fatal(err)
	}
	return rules.New(d, webhooks)
}

// webhook is one with the settings of a subscription.
func webhook(t *testing.T, yaml string) rules.Webhook {
	t.Helper()
	var s rules.Subscription
	if err := setting.Decode("t.yaml", []byte(yaml), &s, s.Validate); err != nil {
		t.Fatal(err)
	}
	return rules.Webhook{Name: "w", Subscription: s}
}

// promised is the answer that becomes a job.
const promised = `{"data":{"type":"job","id":"4235"}}`

// afterJob lets the dialect see a write that becomes a job, and its result.
func afterJob(t *testing.T, r *rules.Rules, s story, status int, payload string, links event.Links) (event.Verdict, []event.Event) {
	t.Helper()
	head := event.Head{Method: s.method, Path: s.path, Query: s.query, Headers: s.headers}
	plan := r.Identify(head, event.Copy{Bytes: []byte(s.body)}, links)
	if plan.Class != event.Write {
		return event.Rejected, nil
	}
	plan.Intent.ID, plan.Intent.Time = "intent", at
	x := &event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 202, Time: at, Answer: event.Copy{Bytes: []byte(promised)}}
	job := r.Job(x)
	if job == nil || job.Job.Poll != "/job-results/4235" {
		t.Fatalf("%s %s becomes %+v", s.method, s.path, job)
	}
	if events, learned := r.Derive(x, links, nil), r.Learn(x); len(events)+len(learned) > 0 || plan.Judge.Judge(202) != event.Accepted {
		t.Errorf("%s %s: a promise makes %s and teaches %v", s.method, s.path, short(events), learned)
	}
	open := &event.Exchange{Intent: job}
	if verdict, _ := r.Result(open, event.Finding{Status: 404, Entity: event.Copy{Bytes: []byte(`{"data":[]}`)}}); verdict != event.Doubt {
		t.Errorf("a job that runs is %v", verdict)
	}
	result := fmt.Sprintf(`{"data":{"type":"job_result","id":"4235","attributes":{"status":%d,"payload":%s}}}`, status, payload)
	verdict, done := r.Result(open, event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(result)}})
	if verdict != event.Accepted {
		return verdict, nil
	}
	done.Time = at
	return verdict, r.Derive(done, links, nil)
}

// resourceOf is an answer about a record, a model or something else.
func resourceOf(typ, id, status string) string {
	return fmt.Sprintf(`{"type":%q,"id":%q,"attributes":{"title":"Hello"},
		"relationships":{"item_type":{"data":{"type":"item_type","id":"MDL1"}}},"meta":{"status":%q}}`, typ, id, status)
}

func dataOf(resources ...string) string {
	if len(resources) == 1 {
		return `{"data":` + resources[0] + `}`
	}
	return `{"data":[` + strings.Join(resources, ",") + `]}`
}

// bulk is the body of a bulk request.
func bulk(kind string, ids ...string) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf(`{"type":%q,"id":%q}`, strings.TrimSuffix(kind, "s"), id))
	}
	return fmt.Sprintf(`{"data":{"type":"x","relationships":{%q:{"data":[%s]}}}}`, kind, strings.Join(list, ","))
}

// datoBody and datoAnswer are what a route is asked and answers.
func datoBody(path string) string {
	switch {
	case strings.Contains(path, "/bulk/"):
		return bulk(strings.Split(path, "/")[1], "b1")
	case strings.HasSuffix(path, "/fork"), strings.HasSuffix(path, "/rename"):
		return `{"data":{"type":"environment","id":"my-sandbox"}}`
	}
	return "{}"
}

func datoAnswer(typ, path string) string {
	switch {
	case strings.Contains(path, "/bulk/"):
		return `{"data":[],"meta":{"successful":1,"failed":0}}`
	case strings.HasSuffix(path, "/restore"):
		return dataOf(resourceOf("item", "x1", "draft"), resourceOf("item_version", "v2", ""))
	}
	return dataOf(resourceOf(typ, "x1", "draft"))
}

// datoID is the id of what a route is about: what its body names, its path, or the
// answer.
func datoID(path string) string {
	parts := strings.Split(path, "/")
	switch last := parts[len(parts)-1]; {
	case slices.Contains(parts, "bulk"):
		return "b1"
	case parts[1] == "fields", parts[1] == "fieldsets":
		return "MDL1"
	case parts[1] == "maintenance-mode":
		return "maintenance_mode"
	case last == "fork", last == "rename":
		return "my-sandbox"
	case len(parts) == 2, last == "duplicate", last == "restore":
		return "x1"
	}
	return parts[2]
}

// TestDatoCMSRoutes walks the vendor's routes: those with a topic give exactly
// one event, of that topic and the right entity, jobs with their result, and the
// others none.
func TestDatoCMSRoutes(t *testing.T) {
	t.Parallel()
	r := datocms(t)
	var rows []struct {
		routeRow
		Type string
	}
	readJSON(t, "routes-datocms.json", &rows)
	rowsOf, right := map[string]int{}, map[string]int{}
	for _, row := range rows {
		if row.Method == nil {
			rowsOf["not derivable"]++
			t.Logf("not derivable: %s, which no request causes", *row.Topic)
			continue
		}
		kind, want := row.Mode+" without a topic", []string(nil)
		if row.Topic != nil {
			kind, want = row.Mode+" with a topic", []string{*row.Topic}
		}
		rowsOf[kind]++
		s := story{method: *row.Method, path: *row.Path, body: datoBody(*row.Path), status: 200, answer: datoAnswer(row.Type, *row.Path)}
		if row.Success != nil {
			s.status = row.Success[0]
		}
		var events []event.Event
		switch {
		case row.Mode == "job":
			_, events = afterJob(t, r, s, 200, s.answer, nil)
		case s.status == 204:
			s.answer = ""
			fallthrough
		default:
			events, _ = tell(t, r, s)
		}
		var got []string
		named := true
		for _, e := range events {
			got = append(got, e.Topic())
			named = named && e.Confirmed && e.Entity.ID == datoID(*row.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" || !named {
			t.Errorf("%s %s: %s %+v", s.method, s.path, diff, events)
		} else {
			right[kind]++
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(rowsOf)) {
		t.Logf("%-22s %3d rows, %3d right", kind, rowsOf[kind], right[kind])
	}
	if rowsOf["sync with a topic"] < 15 || rowsOf["job with a topic"] < 20 {
		t.Errorf("too few rows: %v", rowsOf)
	}
}

// TestDatoCMSTopics: there is no topic that the vendor does not have.
func TestDatoCMSTopics(t *testing.T) {
	t.Parallel()
	d, err := rules.LoadDialect("datocms")
	if err != nil {
		t.Fatal(err)
	}
	var rows []routeRow
	readJSON(t, "routes-datocms.json", &rows)
	vendor := map[string]bool{}
	for _, row := range rows {
		if row.Topic != nil && row.Method != nil {
			vendor[*row.Topic] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(vendor)), d.Topics()); diff != "" {
		t.Error(diff)
	}
}

// TestDatoCMSEvents: what an answer makes that is no promise.
func TestDatoCMSEvents(t *testing.T) {
	t.Parallel()
	r := datocms(t)
	check := func(request string, status int, answer string, want ...string) {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		events, _ := tell(t, r, story{method: method, path: path, body: datoBody(path), status: status, answer: answer})
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}
	record := func(status string) string { return dataOf(resourceOf("item", "a", status)) }
	check("POST /items", 200, record("draft"), "item.create a")
	check("POST /items", 201, record("draft"), "item.create a")
	check("POST /items", 200, record("published"), "item.create a", "item.publish a")
	check("POST /items", 422, `{"data":[]}`)
	check("POST /items", 0, "", "item.create  ?", "item.publish  ?") // nobody knows whether it has drafts
	check("POST /items", 200, `<html>`, "item.create ", "item.publish ")
	check("POST /items", 200, `{}`, "item.create ")
	check("PUT /items/a", 200, record("draft"), "item.update a")
	check("PUT /items/a", 200, record("updated"), "item.update a")
	check("PUT /items/a", 200, record("published"), "item.update a", "item.publish a")
	check("PUT /items/a", 0, "", "item.update a ?", "item.publish a ?")
	check("PUT /items/a/publish", 200, record("updated"), "item.publish a")
	check("PUT /items/a/publish", 422, `{"data":[]}`)
	check("DELETE /items/a", 200, record("published"), "item.unpublish a", "item.delete a")
	check("DELETE /items/a", 0, "", "item.unpublish a ?", "item.delete a ?")
	check("POST /items/validate", 204, "")
	check("POST /items/a/validate", 204, "")
	check("PUT /fields/f", 200, dataOf(resourceOf("field", "f", "")), "item_type.update MDL1")
	check("PUT /fields/f", 0, "", "item_type.update  ?")
	check("PUT /maintenance-mode/activate", 200, dataOf(resourceOf("maintenance_mode", "maintenance_mode", "")), "maintenance_mode.change maintenance_mode")
	check("POST /build-triggers/7/trigger", 204, "", "build_trigger.deploy_started 7")
	check("PUT /environments/old/rename", 200, dataOf(resourceOf("environment", "my-sandbox", "")), "environment.update my-sandbox")
	check("POST /items/bulk/publish", 200, `{"data":[],"meta":{"successful":1,"failed":0}}`, "item.publish b1")
}

// TestDatoCMSJobs: what the results of jobs make.
func TestDatoCMSJobs(t *testing.T) {
	t.Parallel()
	r := datocms(t)
	check := func(request, body string, status int, payload string, want ...string) {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		verdict, events := afterJob(t, r, story{method: method, path: path, body: body}, status, payload, nil)
		if diff := cmp.Diff(want, short(events)); diff != "" || (verdict == event.Rejected) != (len(want) == 0) {
			t.Errorf("%s: %v %s", request, verdict, diff)
		}
		for _, e := range events {
			if strings.Contains(path, "/bulk/") && (e.Cause != "bulk" || e.Partial == "") {
				t.Errorf("%s: %+v", request, e)
			}
		}
	}
	counts := func(successful, failed int) string {
		return fmt.Sprintf(`{"data":[],"meta":{"successful":%d,"failed":%d}}`, successful, failed)
	}
	three := bulk("items", "a", "b", "c")
	check("POST /items/bulk/publish", three, 200, counts(3, 0), "item.publish a", "item.publish b", "item.publish c")
	check("POST /items/bulk/publish", three, 200, counts(2, 1), "item.publish a ?", "item.publish b ?", "item.publish c ?")
	check("POST /items/bulk/publish", three, 200, counts(0, 3))
	check("POST /items/bulk/publish", bulk("items", "a"), 200, counts(0, 0), "item.publish a ?")
	check("POST /items/bulk/publish", bulk("items", "a"), 200, `null`, "item.publish a ?")
	check("POST /items/bulk/publish", bulk("items", "a"), 200, `{"data":[]}`, "item.publish a ?")
	check("POST /items/bulk/publish", three, 422, `{"data":[]}`)
	check("POST /items/bulk/publish", `{"data":`, 200, counts(1, 0), "item.publish ")
	check("POST /items/bulk/unpublish", three, 200, counts(3, 0), "item.unpublish a", "item.unpublish b", "item.unpublish c")
	check("POST /items/bulk/destroy", three, 200, counts(1, 2), "item.delete a ?", "item.delete b ?", "item.delete c ?")
	check("POST /items/bulk/move-to-stage", bulk("items", "a"), 200, counts(1, 0), "item.update a")
	check("POST /uploads/bulk/tag", bulk("uploads", "u", "v"), 200, counts(2, 0), "upload.update u", "upload.update v")
	check("POST /uploads/bulk/destroy", bulk("uploads", "u"), 200, counts(1, 0), "upload.delete u")
	check("POST /items/a/duplicate", "", 200, dataOf(resourceOf("item", "copy", "draft")), "item.create copy")
	check("POST /items/a/duplicate", "", 200, dataOf(resourceOf("item", "copy", "published")), "item.create copy", "item.publish copy")
	check("POST /items/a/duplicate", "", 500, `null`)
	check("DELETE /items/a", "", 200, dataOf(resourceOf("item", "a", "draft")), "item.delete a")
	check("DELETE /items/a", "", 200, dataOf(resourceOf("item", "a", "published")), "item.unpublish a", "item.delete a")
	check("DELETE /items/a", "", 200, dataOf(resourceOf("item", "a", "updated")), "item.unpublish a", "item.delete a")
	check("DELETE /items/a", "", 200, `null`, "item.delete a")
	check("DELETE /items/a", "", 422, `{"data":[]}`)
	check("POST /versions/v/restore", "", 200, dataOf(resourceOf("item", "a", "draft"), resourceOf("item_version", "w", "")), "item.update a")
	check("PUT /items/a", "", 200, dataOf(resourceOf("item", "a", "published")), "item.update a", "item.publish a") // any write may be one
	check("POST /uploads", "", 200, dataOf(resourceOf("upload", "new", "")), "upload.create new")
	check("DELETE /fields/f", "", 200, dataOf(resourceOf("field", "f", "")), "item_type.update MDL1")
	check("POST /environments/main/fork", `{"data":{"id":"copy"}}`, 200, dataOf(resourceOf("environment", "copy", "ready")), "environment.create copy")
}

// TestDatoCMSEnvironments: where an event is, and what is known of the primary.
func TestDatoCMSEnvironments(t *testing.T) {
	t.Parallel()
	r := datocms(t)
	known := event.Links{{Name: "primary"}: "main"}
	check := func(s story, links event.Links, environment, resolved, payload string, partial bool) {
		t.Helper()
		if s.status = 200; s.answer == "" {
			s.answer = dataOf(resourceOf("item", "a", "draft"))
		}
		events, _ := tellWith(t, r, s, links)
		var got struct {
			Environment string `json:"environment"`
			Primary     *bool  `json:"is_environment_primary"`
		}
		if err := json.Unmarshal(events[0].Payload, &got); err != nil {
			t.Fatal(err)
		}
		text := got.Environment
		if got.Primary != nil {
			text += fmt.Sprint(" ", *got.Primary)
		}
		if e := events[0]; e.Environment != environment || e.Resolved() != resolved || text != payload || (e.Partial != "") != partial {
			t.Errorf("%s %v: %q is %q, payload %q, partial %q", s.path, s.headers, e.Environment, e.Resolved(), text, e.Partial)
		}
	}
	save := story{method: "PUT", path: "/items/a"}
	in := func(environment string) story {
		return story{method: "PUT", path: "/items/a", headers: headers{"X-Environment": environment}}
	}
	check(save, nil, "primary", "primary", " true", true)
	check(save, known, "primary", "main", "main true", false)
	check(in("main"), nil, "main", "main", "main", true)
	check(in("main"), known, "main", "main", "main true", false)
	check(in("dev"), known, "dev", "dev", "dev false", false)
	environment := func(id string, primary bool) string {
		return fmt.Sprintf(`{"data":{"type":"environment","id":%q,"meta":{"status":"ready","primary":%v}}}`, id, primary)
	}
	promote := story{method: "PUT", path: "/environments/dev/promote", answer: environment("dev", true)}
	check(promote, known, "dev", "dev", "dev true", false)
	check(story{method: "DELETE", path: "/environments/dev", answer: environment("dev", false)}, known, "dev", "dev", "dev false", false)
	check(story{method: "PUT", path: "/environments/old/rename", body: `{"data":{"id":"dev"}}`, answer: environment("dev", false)}, known, "dev", "dev", "dev false", false)
}

// TestDatoCMSLinks: which answers tell of the primary environment.
func TestDatoCMSLinks(t *testing.T) {
	t.Parallel()
	r := datocms(t)
	check := func(request, answer string, want ...event.Link) {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		plan := r.Identify(event.Head{Method: method, Path: path, Headers: headers{}}, event.Copy{Bytes: []byte("{}")}, nil)
		got := r.Learn(&event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 200, Answer: event.Copy{Bytes: []byte(answer)}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}
	main, dev := event.Link{Alias: "primary", Target: "main"}, event.Link{Alias: "primary", Target: "dev"}
	check("GET /environments", `{"data":[{"id":"dev","meta":{"primary":false}},{"id":"main","meta":{"primary":true}}]}`, main)
	check("GET /environments", `{"data":[]}`)
	check("GET /environments", `{"data":3}`)
	check("GET /environments/main", `{"data":{"id":"main","meta":{"primary":true}}}`, main)
	check("GET /environments/dev", `{"data":{"id":"dev","meta":{"primary":false}}}`)
	check("PUT /environments/dev/promote", `{"data":{"id":"dev","meta":{"primary":true}}}`, dev)
	check("PUT /environments/dev/promote", promised)
	check("PUT /environments/main/rename", `{"data":{"id":"dev","meta":{"primary":true}}}`, dev)
	check("PUT /environments/x/rename", `{"data":{"id":"dev","meta":{"primary":false}}}`)
}

// TestDatoCMSMatch: webhooks name an environment or the primary one; what nobody
// knows delivers.
func TestDatoCMSMatch(t *testing.T) {
	t.Parallel()
	check := func(header string, links event.Links, environments, want string) {
		t.Helper()
		r := datocms(t, webhook(t, "{topics: ['*.*'], environments: "+environments+"}"))
		s := story{method: "PUT", path: "/items/a", status: 200, answer: dataOf(resourceOf("item", "a", "draft"))}
		if header != "" {
			s.headers = headers{"X-Environment": header}
		}
		events, _ := tellWith(t, r, s, links)
		decision := r.Match(&events[0], links)[0]
		got := map[bool]string{true: "yes", false: "no"}[decision.Wanted]
		if decision.Undecided != "" {
			got = "undecided"
		}
		if got != want {
			t.Errorf("in %q, known %v, environments %s: %s, %s", header, links, environments, got, decision.Reason)
		}
	}
	known := event.Links{{Name: "primary"}: "main"}
	check("", known, "[main]", "yes")
	check("", known, "[primary]", "yes")
	check("", known, "[dev]", "no")
	check("main", known, "[primary]", "yes")
	check("dev", known, "[primary]", "no")
	check("dev", known, "[dev, primary]", "yes")
	check("", nil, "[primary]", "yes")
	check("", nil, "[main]", "undecided")
	check("main", nil, "[main]", "yes")
	check("main", nil, "[primary]", "undecided")
	check("main", nil, "[dev]", "no")
}

// TestDatoCMSSamples compares payloads and headers with the vendor's own calls.
// What is listed as missing must be missing, so that the list stays true.
func TestDatoCMSSamples(t *testing.T) {
	t.Parallel()
	check := func(file string, missing ...string) {
		t.Helper()
		var sample struct {
			CausedBy struct{ Method, Path string } `json:"caused_by"`
			Request  struct {
				Headers map[string]string
				Body    map[string]any
			}
		}
		readJSON(t, "webhook-samples/"+file, &sample)
		want := sample.Request.Body
		data := func(entity any) string {
			answer, _ := json.Marshal(map[string]any{"data": entity})
			return string(answer)
		}
		m := memory{t: t, r: datocms(t), links: event.Links{{Name: "primary"}: "main"}, states: map[string]event.State{}}
		if related, _ := want["related_entities"].([]any); len(related) == 1 { // both were written before
			m.write("PUT", "/item-types/"+related[0].(map[string]any)["id"].(string), data(related[0]))
			m.write(sample.CausedBy.Method, sample.CausedBy.Path, data(want["previous_entity"]))
		}
		events := m.end(m.begin(sample.CausedBy.Method, sample.CausedBy.Path), data(want["entity"]))
		if len(events) != 1 {
			t.Fatalf("%s: %s", file, short(events))
		}
		var got map[string]any
		if err := json.Unmarshal(events[0].Payload, &got); err != nil {
			t.Fatal(err)
		}
		for _, key := range missing {
			if _, there := got[key]; there {
				t.Errorf("%s: %s is there; take it off the list of what is missing", file, key)
			}
			delete(want, key)
		}
		want["event_triggered_at"] = "0001-01-01T00:00:00Z" // the time of the answer
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		native := events[0].Native
		if native.ContentType != sample.Request.Headers["Content-Type"] || len(native.Headers) != 1 || native.Headers[0].Value != sample.Request.Headers["Accept"] {
			t.Errorf("%s: %+v", file, native)
		}
	}
	check("datocms.item.update.json", "site_id", "webhook_id", "webhook_call_id", "attempted_auto_retries_count")
	check("datocms.maintenance_mode.change.json", "site_id", "webhook_id", "webhook_call_id", "attempted_auto_retries_count")
}

// TestDatoCMSPayloads: those of which there is no sample, and what filters read
// of them.
func TestDatoCMSPayloads(t *testing.T) {
	t.Parallel()
	known := event.Links{{Name: "primary"}: "main"}
	check := func(request string, status int, answer, entity, contentType, filter string, wanted bool) {
		t.Helper()
		r := datocms(t, webhook(t, "{topics: ['*.*'], filter: '"+filter+"', on_unknown: deliver}"))
		method, path, _ := strings.Cut(request, " ")
		events, _ := tellWith(t, r, story{method: method, path: path, body: datoBody(path), status: status, answer: answer}, known)
		var got struct{ Entity json.RawMessage }
		if err := json.Unmarshal(events[0].Payload, &got); err != nil {
			t.Fatal(err)
		}
		if e := events[0]; string(got.Entity) != entity || e.Entity.ContentType != contentType || r.Match(&e, known)[0].Wanted != wanted {
			t.Errorf("%s: %s %q %+v", request, e.Payload, e.Entity.ContentType, r.Match(&e, known))
		}
	}
	const item = `{"id":"a","type":"item","attributes":{"title":"x"},"relationships":{"item_type":{"data":{"id":"MDL1"}}},"meta":{"status":"draft"}}`
	const scheduled = `{"data":{"type":"scheduled_publication","id":"1"},"included":[` + item + `]}`
	const model = `payload.entity.relationships.item_type.data.id == "MDL2"`
	check("PUT /items/a", 200, `{"data":`+item+`}`, item, "MDL1", model, false)
	check("PUT /items/a", 200, `{"data":`+item+`}`, item, "MDL1", `payload.entity.attributes.slug == "x"`, false)
	check("PUT /items/a", 0, ``, `{"id":"a","type":"item"}`, "", model, true)
	check("POST /items/a/scheduled-publication", 200, scheduled, item, "MDL1", model, false)
	check("POST /items/a/scheduled-publication", 200, `{"data":{"id":"1"}}`, `{"id":"a","type":"item"}`, "", model, true)
	check("POST /versions/v/restore", 200, `{"data":[`+item+`,{"type":"item_version","id":"w"}]}`, item, "MDL1", model, false)
	check("POST /items/bulk/publish", 200, `{"data":[],"meta":{"successful":1,"failed":0}}`, `{"id":"b1","type":"item"}`, "", model, true)
	check("PUT /fields/f", 200, `{"data":{"id":"f","relationships":{"item_type":{"data":{"id":"M"}}}},"included":[{"id":"M","attributes":{"name":"A"}}]}`,
		`{"id":"M","type":"item_type","attributes":{"name":"A"}}`, "", `payload.entity.attributes.name == "A"`, true)
	check("PUT /fields/f", 200, `{"data":{"id":"f","relationships":{"item_type":{"data":{"id":"M"}}}}}`,
		`{"id":"M","type":"item_type"}`, "", `payload.entity.attributes.name == "A"`, true)
	check("DELETE /uploads/u", 200, `{"data":{"id":"u","type":"upload","attributes":{"size":3}}}`,
		`{"id":"u","type":"upload","attributes":{"size":3}}`, "", `payload.entity.attributes.size > 3`, false)
	check("POST /build-triggers/7/trigger", 204, ``, `{"id":"7","type":"build_trigger"}`, "", `payload.entity.id == "7"`, true)
}

// TestDatoCMSWarnings: what no payload has is told early.
func TestDatoCMSWarnings(t *testing.T) {
	t.Parallel()
	d, err := rules.LoadDialect("datocms")
	if err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]string{
		`{topics: [item.publish, "upload.*"], environments: [main], filter: payload.is_environment_primary}`: "",
		"topics: [Item.publish]":                "",
		"topics: [sso_user.create]":             "1: topics[0]: no request makes such an event (dialect datocms); its types are build_trigger, environment, item, item_type, maintenance_mode, upload",
		"topics: [build_trigger.deploy_failed]": "1: topics[0]: no request makes such an event (dialect datocms); the actions of build_trigger are deploy_started",
		"{topics: [item.update], filter: payload.previous_entity.meta.status == 'draft'}": "",
		"{topics: [item.delete], filter: payload.previous_entity.meta.status == 'draft'}": "1: filter: reads payload.previous_entity, which a payload of item.delete never has: " +
			"the filter is false there, or undecided if the CMS's answer was empty",
	} {
		if got := warningsOf(t, d, yaml); got != want {
			t.Errorf("%s: %s", yaml, got)
		}
	}
}
