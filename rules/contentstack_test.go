package rules_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

func contentstack(t testing.TB, name string) *rules.Rules {
	t.Helper()
	d, err := rules.LoadDialect(name)
	if err != nil {
		t.Fatal(err)
	}
	return rules.New(d, nil)
}

// stack is the head that every request to a stack has.
var stack = headers{"api_key": "bltapikey"}

// readJSON reads a file of testdata.
func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// channels are the vendor's channels, by topic.
func channels(t *testing.T) map[string]string {
	t.Helper()
	var table map[string]string
	readJSON(t, "channels-contentstack.json", &table)
	return table
}

// bodies are what the requests to some routes hold, by the end of their path.
var bodies = map[string]string{
	"/entries/{entry_uid}/publish":   `{"entry":{"environments":["production"],"locales":["en-us"]},"locale":"en-us","version":1}`,
	"/entries/{entry_uid}/unpublish": `{"entry":{"environments":["production"],"locales":["en-us"]},"locale":"en-us","version":1}`,
	"/entries/{entry_uid}/workflow":  `{"workflow":{"workflow_stage":{"uid":"stage1"}}}`,
	"/assets/{asset_uid}/publish":    `{"asset":{"environments":["production"],"locales":["en-us"]},"version":1}`,
	"/assets/{asset_uid}/unpublish":  `{"asset":{"environments":["production"],"locales":["en-us"]},"version":1}`,
	"/bulk/publish":                  `{"entries":[{"uid":"e","content_type":"blog"}],"environments":["production"],"locales":["en-us"]}`,
	"/bulk/unpublish":                `{"entries":[{"uid":"e","content_type":"blog"}],"environments":["production"],"locales":["en-us"]}`,
	"/bulk/delete":                   `{"entries":[{"uid":"e","content_type":"blog","locale":"en-us"}]}`,
	"/bulk/workflow":                 `{"entries":[{"uid":"e","content_type":"blog","locale":"en-us"}],"workflow":{"workflow_stage":{"uid":"stage1"}}}`,
	"/releases/{uid}/deploy":         `{"release":{"environments":["production"],"locales":["en-us"],"action":"publish"}}`,
	"/stacks/branches":               `{"branch":{"uid":"feature-x","source":"main"}}`,
	"/discussions/{discussion_uid}":  `{"discussion":{"status":"resolved"}}`,
}

func bodyFor(path string) string {
	for end, body := range bodies {
		if strings.HasSuffix(path, end) {
			return body
		}
	}
	return "{}"
}

// idOf is the id of what a request is about: what its body names, its path, or the
// answer.
func idOf(path string) string {
	parts := strings.Split(path, "/")
	if slices.Contains([]string{"publish", "unpublish", "workflow", "import", "deploy", "move"}, parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	last := parts[len(parts)-1]
	switch {
	case slices.Contains(parts, "bulk"):
		return "e"
	case strings.HasPrefix(last, "{"):
		return last
	case last == "branches":
		return "feature-x"
	}
	return "new"
}

// TestContentstackRoutes walks the vendor's routes: those with a channel give
// exactly one event, of that channel and of the right entity, and the others none.
func TestContentstackRoutes(t *testing.T) {
	t.Parallel()
	r, table := contentstack(t, "contentstack"), channels(t)
	var rows []struct {
		routeRow
		Type string
	}
	readJSON(t, "routes-contentstack.json", &rows)
	rowsOf, right := map[string]int{}, map[string]int{}
	for _, row := range rows {
		if row.Method == nil {
			rowsOf["not derivable"]++
			t.Logf("not derivable: %s, which no request causes", *row.Topic)
			continue
		}
		kind := row.Mode + " without a topic"
		var want []string
		if row.Topic != nil {
			kind, want = row.Mode+" with a topic", []string{*row.Topic}
		}
		rowsOf[kind]++
		statuses := row.Success
		if statuses == nil {
			statuses = []int{200, 201}
		}
		var problems string
		for _, status := range statuses {
			events, _ := tell(t, r, story{method: *row.Method, path: *row.Path, headers: stack, body: bodyFor(*row.Path), status: status, answer: fmt.Sprintf(`{"notice":"ok",%q:{"uid":"new"}}`, row.Type)})
			var got []string
			for _, e := range events {
				if id := idOf(*row.Path); e.Entity.ID != id {
					problems += fmt.Sprintf("the id is %q, want %q", e.Entity.ID, id)
				}
				got = append(got, table[e.Topic()])
				if later := row.Mode != "sync"; e.Accepted != later || !e.Confirmed {
					problems += "accepted is wrong"
				}
			}
			problems += cmp.Diff(want, got)
		}
		if problems == "" {
			right[kind]++
		} else {
			t.Errorf("%s %s: %s", *row.Method, *row.Path, problems)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(rowsOf)) {
		t.Logf("%-24s %3d rows, %3d right", kind, rowsOf[kind], right[kind])
	}
	if rowsOf["sync with a topic"] < 30 {
		t.Errorf("too few rows: %v", rowsOf)
	}
}

// TestContentstackTopics: each topic has its channel, and each channel a topic.
func TestContentstackTopics(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"contentstack", "contentstack-concise"} {
		d, err := rules.LoadDialect(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(channels(t))), d.Topics()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestContentstackWarnings: that a bulk request names the type does not mean
// that any type may come.
func TestContentstackWarnings(t *testing.T) {
	t.Parallel()
	d, err := rules.LoadDialect("contentstack")
	if err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]string{
		`{topics: [Entry.publish, Asset.delete], environments: [main], filter: accepted and payload.data.locale == "de"}`: "",
		"topics: [Entri.publish]": "1: topics[0]: no request makes such an event (dialect contentstack); did you mean Entry.publish?",
		"{topics: ['Branch.*'], environments: [main]}": "1: topics[0]: never matches: Branch belongs to a space, not to an environment; " +
			"leave environments out, or give it a webhook of its own",
	} {
		if got := warningsOf(t, d, yaml); got != want {
			t.Errorf("%s: %s", yaml, got)
		}
	}
}

// TestContentstackEvents: what one request makes, by its body, query and headers.
func TestContentstackEvents(t *testing.T) {
	t.Parallel()
	r := contentstack(t, "contentstack")
	check := func(request, body string, status int, answer string, want ...string) {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		path, query, _ := strings.Cut(path, "?")
		events, _ := tell(t, r, story{method, path, query, stack, body, status, answer})
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}
	const entries, ok = "/v3/content_types/blog/entries", `{"notice":"ok"}`
	const entry = `{"notice":"ok","entry":{"uid":"e1","locale":"en-us","_version":2}}`
	check("POST "+entries, "", 201, entry, "Entry.create e1")
	check("POST "+entries+"?locale=fr-fr", "", 201, entry, "Entry.create e1")
	check("PUT "+entries+"/e1", "", 200, entry, "Entry.update e1")
	check("PUT "+entries+"/e1", "", 0, "", "Entry.update e1 ?")
	check("PUT "+entries+"/e1", "", 422, ok)
	check("DELETE "+entries+"/e1", "", 200, ok, "Entry.delete e1")
	check("DELETE "+entries+"/e1?locale=fr-fr", "", 200, ok, "Entry.delete e1")
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a","b"],"locales":["en-us","fr-fr"]}}`, 201, ok,
		"Entry.publish e1", "Entry.publish e1", "Entry.publish e1", "Entry.publish e1")
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a"]},"locale":"de"}`, 201, ok, "Entry.publish e1")
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a","b"]}}`, 201, ok, "Entry.publish e1", "Entry.publish e1")
	check("POST /v3/assets/a1/unpublish", `{"asset":{"environments":["a","b"]}}`, 201, ok, "Asset.unpublish a1", "Asset.unpublish a1")
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a"],"locales":["de"]},"scheduled_at":"2027-01-01T00:00:00.000Z"}`, 201, ok)
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a"],"locales":["de"]},"scheduled_at":null}`, 201, ok, "Entry.publish e1")
	check("POST "+entries+"/e1/publish", `{"entry":`, 201, ok, "Entry.publish e1")
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a"],"locales":["de"]}}`, 401, `{"error_code":161}`)
	check("POST "+entries+"/e1/workflow", `{"workflow":{"publishing_rule":{"uid":"r","action":"publish"}}}`, 200, ok)
	check("POST "+entries+"/e1/discussions", "{}", 201, `{"discussion":{"uid":"d1"}}`, "Discussion.create d1")
	check("PUT "+entries+"/e1/discussions/d1", `{"discussion":{"status":"open"}}`, 200, ok, "Discussion.reopen d1")
	check("POST /v3/assets", "--x", 201, `{"asset":{"uid":"a1"}}`, "Asset.create a1")
	check("POST /v3/assets/folders", `{}`, 201, `{"asset":{"uid":"f1"}}`)
	check("POST /v3/bulk/publish", `{"entries":[{"uid":"e1","_content_type_uid":"blog","locale":"en-us"}],"assets":[{"uid":"a1"}],
		"environments":["a","b"],"locales":["en-us"]}`, 200, ok,
		"Entry.publish e1", "Entry.publish e1", "Asset.publish a1", "Asset.publish a1")
	check("POST /v3/bulk/unpublish", `{"entries":[{"uid":"e1","content_type":"blog","locale":"en-us"}],"environments":["a"]}`, 200, ok, "Entry.unpublish e1")
	check("POST /v3/bulk/publish", `{"entries":[{"uid":"e1"}],"environments":["a"],"scheduled_at":"2027-01-01T00:00:00.000Z"}`, 200, ok)
	check("POST /v3/bulk/publish", `{"entries":[`, 200, ok, "Entry.publish ", "Asset.publish ")
	check("POST /v3/bulk/delete", `{"entries":[{"uid":"e1","content_type":"blog","locale":"en-us"}],"assets":[{"uid":"a1"}]}`, 200, ok,
		"Entry.delete e1", "Asset.delete a1")
	check("POST /v3/releases/r1/deploy", `{"release":{"environments":["a","b"],"action":"publish"}}`, 200, ok, "Release.deploy r1", "Release.deploy r1")
	check("POST /v3/releases/r1/deploy", `{"release":{"environments":["a"],"scheduled_at":"2027-01-01T00:00:00.000Z"}}`, 200, ok)
	check("DELETE /v3/releases/r1/items", `{"items":[]}`, 200, ok)
	check("POST /v3/taxonomies/t1?locale=de", "", 201, `{"taxonomy":{"uid":"t1"}}`, "Taxonomy.localize t1")
	check("DELETE /v3/taxonomies/t1/terms/x?locale=de", "", 204, "", "Term.unlocalize x")
	check("DELETE /v3/taxonomies/t1/terms/x", "", 204, "", "Term.delete x")
	check("PUT /v3/stacks/branch_aliases/deploy", `{}`, 200, `{"branch_alias":{"uid":"feature-x","source":"main","alias":"deploy"}}`, "BranchAlias.assigned deploy")
	check("GET /v3/workflows/w1/enable", "", 200, ok)
}

// TestContentstackTargets: a publish to two environments in two locales is four
// events with ids of their own, of one entity.
func TestContentstackTargets(t *testing.T) {
	t.Parallel()
	events, _ := tell(t, contentstack(t, "contentstack"), story{
		method: "POST", path: "/v3/content_types/blog/entries/e1/publish", headers: stack, status: 201, answer: "{}",
		body: `{"entry":{"environments":["a","b"],"locales":["en-us","fr-fr"]},"locale":"en-us","version":3}`,
	})
	var got []string
	ids, keys := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		var payload struct {
			Data struct {
				Locale      string
				Environment struct{ Name string }
				Entry       struct{ Locale string }
			}
		}
		if err := json.Unmarshal(e.Payload, &payload); err != nil {
			t.Fatal(err)
		}
		got = append(got, payload.Data.Environment.Name+" "+payload.Data.Locale+" "+payload.Data.Entry.Locale)
		ids[e.ID], keys[e.Key()] = true, true
	}
	if diff := cmp.Diff([]string{"a en-us en-us", "a fr-fr fr-fr", "b en-us en-us", "b fr-fr fr-fr"}, got); diff != "" {
		t.Error(diff)
	}
	if len(ids) != 4 || len(keys) != 1 {
		t.Errorf("%d ids, %d entities", len(ids), len(keys))
	}
}

// TestContentstackBulkLimits: the largest bulk request that the vendor takes,
// and one of many more items.
func TestContentstackBulkLimits(t *testing.T) {
	t.Parallel()
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	body := `{"entries":` + list(10, `{"uid":"blt0123456789abcdef","content_type":"a_content_type_with_a_long_name","version":12,"locale":"en-us"}`) +
		`,"locales":` + list(10, `"en-us"`) + `,"environments":` + list(10, `"blt0123456789abcdef"`) + `}`
	events, _ := tell(t, contentstack(t, "contentstack"), story{method: "POST", path: "/v3/bulk/publish", headers: stack, body: body, status: 200, answer: "{}"})
	ids := map[string]bool{}
	for _, e := range events {
		ids[e.ID] = true
	}
	if len(events) != 1000 || len(ids) != 1000 {
		t.Errorf("%d events with %d ids", len(events), len(ids))
	}
}

// TestContentstackPlace: whose event it is, and where.
func TestContentstackPlace(t *testing.T) {
	t.Parallel()
	r := contentstack(t, "contentstack")
	links := event.Links{{Space: "bltapikey", Name: "deploy"}: "feature-x", {Space: "bltapikey", Name: "a"}: "feature-x", {Space: "other", Name: "b"}: "feature-x"}
	check := func(branch, environment, target, want string) {
		t.Helper()
		h := headers{"api_key": "bltapikey"}
		if branch != "" {
			h["Branch"] = branch
		}
		events, _ := tellWith(t, r, story{method: "PUT", path: "/v3/content_types/blog/entries/e1", headers: h, status: 200, answer: `{"entry":{}}`}, links)
		e := events[0]
		if e.Space != "bltapikey" || e.Environment != environment || e.Target != target || e.Entity.ContentType != "blog" {
			t.Errorf("%s: %+v", branch, e)
		}
		var payload struct {
			Data struct{ Branch json.RawMessage }
		}
		if err := json.Unmarshal(e.Payload, &payload); err != nil || string(payload.Data.Branch) != want {
			t.Errorf("%s: %v %s", branch, err, payload.Data.Branch)
		}
	}
	check("", "main", "", `{"alias":[],"source":"","uid":"main"}`)
	check("deploy", "deploy", "feature-x", `{"alias":["a","deploy"],"uid":"feature-x"}`)
	check("feature-x", "feature-x", "", `{"alias":["a","deploy"],"uid":"feature-x"}`)
	check("other", "other", "", `{"alias":[],"uid":"other"}`)
	alias, _ := tellWith(t, r, story{method: "DELETE", path: "/v3/stacks/branch_aliases/deploy", headers: headers{"api_key": "bltapikey", "branch": "main"}, status: 200}, links)
	if e := alias[0]; e.Environment != "" || e.EnvironmentUnseen != "" || strings.Contains(string(e.Payload), `"branch":`) {
		t.Errorf("%+v %s", e, e.Payload)
	}
}

// TestContentstackLinks: which answers tell where aliases lead to.
func TestContentstackLinks(t *testing.T) {
	t.Parallel()
	r := contentstack(t, "contentstack")
	check := func(method, path, answer string, want ...event.Link) {
		t.Helper()
		plan := r.Classify(event.Head{Method: method, Path: path, Headers: stack}, nil)
		if plan.Class == event.Pass {
			t.Fatalf("%s %s is passed", method, path)
		}
		got := r.Learn(&event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 200, Answer: event.Copy{Bytes: []byte(answer)}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: %s", method, path, diff)
		}
	}
	const aliases = "/v3/stacks/branch_aliases"
	deploy, none := event.Link{Space: "bltapikey", Alias: "deploy", Target: "dev"}, event.Link{Space: "bltapikey", Alias: "deploy"}
	check("PUT", aliases+"/deploy", `{"notice":"ok","branch_alias":{"uid":"dev","source":"main","alias":"deploy"}}`, deploy)
	check("GET", aliases+"/deploy", `{"branch_alias":{"uid":"dev","source":"main","alias":"deploy"}}`, deploy)
	check("GET", aliases, `{"branch_aliases":[{"uid":"dev","source":"main","alias":"deploy"}]}`, deploy)
	check("GET", "/v3/stacks/branches", `{"branches":[{"uid":"dev","source":"main","alias":[{"uid":"deploy"}]},{"uid":"main","source":"","alias":[]}]}`, deploy)
	check("DELETE", aliases+"/deploy", `{"notice":"ok"}`, none)
	check("GET", aliases, `{"branch_aliases":3}`)
}

// TestContentstackSamples compares payloads and headers with the vendor's own
// calls. What is listed as missing must be missing, so that the list stays true;
// after a + comes what is there on top.
func TestContentstackSamples(t *testing.T) {
	t.Parallel()
	check := func(dialect, file, body, answer string, missing ...string) {
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
		if answer == "" {
			text, _ := json.Marshal(map[string]any{"notice": "ok", "entry": want["data"].(map[string]any)["entry"]})
			answer = string(text)
		}
		events, _ := tell(t, contentstack(t, dialect), story{
			method: sample.CausedBy.Method, path: sample.CausedBy.Path, headers: stack, body: body, status: 201, answer: answer,
		})
		e := events[0]
		var got map[string]any
		if err := json.Unmarshal(e.Payload, &got); err != nil {
			t.Fatal(err)
		}
		for _, path := range missing {
			if path, more := strings.CutPrefix(path, "+"); more {
				remove(got, strings.Split(path, "."))
				continue
			}
			before := len(cmp.Diff(nil, got))
			remove(want, strings.Split(path, "."))
			if remove(got, strings.Split(path, ".")); len(cmp.Diff(nil, got)) != before {
				t.Errorf("%s: %s is there; take it off the list of what is missing", file, path)
			}
		}
		want["triggered_at"] = "0001-01-01T00:00:00.000Z" // the time of the answer
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		for _, h := range e.Native.Headers {
			if h.Value != sample.Request.Headers[h.Name] {
				t.Errorf("%s: header %s is %q", file, h.Name, h.Value)
			}
		}
		if len(e.Native.Headers) != 1 || e.Native.ContentType != sample.Request.Headers["Content-Type"] {
			t.Errorf("%s: %+v", file, e.Native)
		}
	}
	under := func(path, names string) (paths []string) {
		for name := range strings.FieldsSeq(names) {
			paths = append(paths, path+"."+name)
		}
		return paths
	}
	const performed = `{"notice":"The requested action has been performed."}`
	check("contentstack", "contentstack.entry.update.json", "", "",
		under("data.content_type", "created_at created_by updated_by updated_at title description schema options")...)
	check("contentstack-concise", "contentstack.entry.update.concise.json", "",
		`{"entry":{"uid":"blte1","title":"T2","locale":"en-us","_version":2,"tags":[]}}`, "data.content_type.title")
	environment := under("data.environment", "servers urls deploy_content uid created_by updated_by created_at updated_at ACL _version")
	check("contentstack", "contentstack.entry.publish.json",
		`{"entry":{"environments":["production"],"locales":["en-us"]},"locale":"en-us","version":1}`, performed,
		append(append(environment, "data.status", "+data.content_type"), under("data.entry", "title tags created_by updated_by created_at updated_at ACL _in_progress")...)...)
	check("contentstack", "contentstack.asset.publish.json", `{"asset":{"environments":["production"],"locales":["en-us"]},"version":1}`, performed,
		append(append(environment, "data.status", "+data.branch", "+data.asset.locale"), under("data.asset", `created_at updated_at created_by updated_by content_type file_size tags
			filename url ACL is_dir parent_uid title description publish_details`)...)...)
}

// TestContentstackPayloads: those of which there is no sample.
func TestContentstackPayloads(t *testing.T) {
	t.Parallel()
	r := contentstack(t, "contentstack")
	const main = `"branch":{"alias":[],"source":"","uid":"main"}`
	check := func(request, body string, status int, answer, want string, partial bool) {
		t.Helper()
		method, path, _ := strings.Cut(request, " ")
		path, query, _ := strings.Cut(path, "?")
		events, _ := tell(t, r, story{method, path, query, stack, body, status, answer})
		var got struct {
			Module, Event string
			APIKey        string `json:"api_key"`
			Data          any
		}
		if err := json.Unmarshal(events[0].Payload, &got); err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(got.Data)
		if line := got.Module + " " + got.Event + " " + string(data); line != want || got.APIKey != "bltapikey" {
			t.Errorf("%s:\n got %s\nwant %s", request, line, want)
		}
		if e := events[0]; (e.Partial != "" || len(e.Gaps) > 0) != partial {
			t.Errorf("%s: partial is %q, its gaps are %v", request, e.Partial, e.Gaps)
		}
	}
	const entries, ok = "/v3/content_types/blog/entries", `{"notice":"ok"}`
	check("PUT "+entries+"/e1?locale=de", "", 0, "", `entry update {`+main+`,"content_type":{"uid":"blog"},"entry":{"locale":"de","uid":"e1"}}`, true)
	check("DELETE "+entries+"/e1", "", 200, ok, `entry delete {`+main+`,"content_type":{"uid":"blog"},"entry":{"uid":"e1"}}`, true)
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["blt0123456789ab"],"locales":["de"]}}`, 201, ok,
		`entry publish {"action":"publish",`+main+`,"content_type":{"uid":"blog"},"entry":{"locale":"de","uid":"e1"},"environment":{"uid":"blt0123456789ab"},"locale":"de"}`, true)
	check("POST "+entries+"/e1/publish", `{"entry":`, 201, ok,
		`entry publish {"action":"publish",`+main+`,"content_type":{"uid":"blog"},"entry":{"uid":"e1"}}`, true)
	check("POST "+entries+"/e1/publish", `{"entry":{"environments":["a"]}}`, 201, ok,
		`entry publish {"action":"publish",`+main+`,"content_type":{"uid":"blog"},"entry":{"uid":"e1"},"environment":{"name":"a"}}`, true)
	check("POST "+entries+"/e1/publish?locale=de", `{"entry":{"environments":["a"]}}`, 201, ok,
		`entry publish {"action":"publish",`+main+`,"content_type":{"uid":"blog"},"entry":{"locale":"de","uid":"e1"},"environment":{"name":"a"},"locale":"de"}`, true)
	check("POST /v3/bulk/unpublish", `{"assets":[{"uid":"a1","version":3}],"environments":["production"],"locales":["de"]}`, 200, ok,
		`asset unpublish {"action":"unpublish","asset":{"_version":3,"locale":"de","uid":"a1"},`+main+`,"environment":{"name":"production"},"locale":"de"}`, true)
	check("POST /v3/bulk/delete", `{"entries":[{"uid":"e1","content_type":"blog","locale":"de"}]}`, 200, ok,
		`entry delete {`+main+`,"content_type":{"uid":"blog"},"entry":{"locale":"de","uid":"e1"}}`, true)
	check("POST /v3/content_types", "", 201, `{"content_type":{"uid":"new","title":"New","schema":[]}}`,
		`content_type create {`+main+`,"schema":[],"title":"New","uid":"new"}`, false)
	check("DELETE /v3/global_fields/seo", "", 200, ok, `global_field delete {`+main+`,"uid":"seo"}`, true)
	check("PUT "+entries+"/e1/discussions/d1/comments/c1", "", 200, `{"comment":{"uid":"c1"}}`,
		`comment update {`+main+`,"comment":{"uid":"c1"},"content_type":{"uid":"blog"},"discussion":{"uid":"d1"},"entry":{"uid":"e1"}}`, false)
	check("POST /v3/releases/r1/deploy", `{"release":{"environments":["production"],"action":"publish"}}`, 200, ok,
		`release deploy {"action":"deploy",`+main+`,"environment":{"name":"production"},"release":{"uid":"r1"}}`, true)
	check("PUT /v3/stacks/branch_aliases/deploy", "", 200, `{"branch_alias":{"uid":"dev","source":"main","alias":"deploy"}}`,
		`branch_alias assigned {"branch_alias":{"alias":"deploy","source":"main","uid":"dev"}}`, false)
}
