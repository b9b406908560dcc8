package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

// contentstackTable says for each operation of the story what is delivered:
// module and event, the locale and the environment of a publish, the branch
// unless it is main, and whether it was only accepted.
const contentstackTable = `
contentType.create             | content_type.create
contentType.update             | content_type.update
globalField.create             | global_field.create
globalField.delete             | global_field.delete
entry.create                   | entry.create
entry.update                   | entry.update
entry.update in a locale       | entry.update
entry.publish                  | entry.publish en-us development accepted, entry.publish fr-fr development accepted, entry.publish en-us production accepted, entry.publish fr-fr production accepted
entry.publish later            |
entry.unpublish                | entry.unpublish en-us production accepted
entry.workflow                 | entry.workflow
entry.delete in a locale       | entry.delete
entry.delete                   | entry.delete
asset.create                   | asset.create
asset.update                   | asset.update
asset.publish                  | asset.publish en-us production accepted
asset.delete                   | asset.delete
bulk.publish                   | entry.publish en-us development accepted, entry.publish en-us production accepted, asset.publish en-us development accepted, asset.publish en-us production accepted
bulk.publish later             |
bulk.unpublish                 | entry.unpublish en-us development accepted, entry.unpublish en-us production accepted
bulk.delete                    | entry.delete accepted, asset.delete accepted
bulk.workflow                  | entry.workflow accepted
release.create                 |
release.item.delete            |
release.deploy                 | release.deploy production accepted, release.deploy uat accepted
taxonomy.create                | taxonomy.create
taxonomy.localize              | taxonomy.localize
term.create                    | term.create
term.delete                    | term.delete
taxonomy.delete                | taxonomy.delete
branch.create                  | branch.create_initiated on feature-x [] accepted
alias.assign                   | branch_alias.assigned
entry.create on the branch     | entry.create on feature-x [deploy]
entry.create on its alias      | entry.create on feature-x [deploy]
alias.assign again             | branch_alias.assigned
entry.create on the moved alias | entry.create
alias.unassign                 | branch_alias.unassigned
entry.create on no alias       | entry.create on deploy []
aliases.list                   |
entry.create on the listed alias | entry.create on feature-x [listed]
branch.delete                  | branch.delete_initiated on feature-x [] accepted
workflow.enable                |
webhook.create                 |
contentType.delete             | content_type.delete
`

// TestContentstackSDK drives cmstap with Contentstack's own client, unmodified.
func TestContentstackSDK(t *testing.T) {
	t.Parallel()
	need(t, "node")
	needClient(t, "testdata/contentstack", "@contentstack/management")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: contentstack }
outbox: { path: %q }
admin: { listen: "" }
webhooks:
  - { name: all, url: %[3]s/all, topics: ["*.*"], filter: 'space == "bltapikey"' }
  - { name: feature, url: %[3]s/feature, topics: [Entry.create], environments: [feature-x] }
  - { name: accepted, url: %[3]s/accepted, topics: ["Release.*"], filter: accepted }
`, serve(t, contentstackAPI()).URL, t.TempDir(), serve(t, receiver).URL))
	told := runStory(t, "testdata/contentstack", p.proxy)
	events := eventsOf(t, p, len(told))
	calls := callsOf(t, receiver, "/all", events)
	got := make([]string, len(told))
	for i := range told {
		var lines []string
		for _, id := range events[i] {
			lines = append(lines, contentstackLine(t, calls[id]))
		}
		got[i] = strings.TrimSpace(told[i].Op + " | " + strings.Join(lines, ", "))
	}
	table := regexp.MustCompile(` +\|`).ReplaceAllString(strings.TrimSpace(contentstackTable), " |")
	if diff := cmp.Diff(strings.Split(table, "\n"), got); diff != "" {
		t.Error(diff)
	}
	for at, want := range map[string]int{"/feature": 3, "/accepted": 2} {
		if found := demo.On(receiver.Calls(), at); len(found) != want {
			t.Errorf("%s got %d calls, want %d", at, len(found), want)
		}
	}
	status, _, err := ask(http.MethodPost, "http://"+p.proxy+"/v3/releases/last/deploy", `{"release":{"environments":["uat"]}}`, map[string]string{"api_key": "marks"})
	if err != nil || status != 200 {
		t.Fatal(status, err)
	}
	p.waitLine(t, "msg=captured", "entity=last", "accepted=true")
}

// contentstackLine is a delivery as the table has it.
func contentstackLine(t *testing.T, call demo.Call) string {
	t.Helper()
	var body struct {
		Module, Event string
		Data          struct {
			Locale      string
			Environment struct{ Name string }
			Branch      struct {
				UID   string
				Alias []string
			}
		}
	}
	if err := json.Unmarshal(call.Body, &body); err != nil {
		t.Fatalf("%v in %s", err, call.Body)
	}
	line := body.Module + "." + body.Event
	for _, word := range []string{body.Data.Locale, body.Data.Environment.Name} {
		line = strings.TrimSpace(line + " " + word)
	}
	if branch := body.Data.Branch; branch.UID != "" && branch.UID != "main" {
		line += fmt.Sprintf(" on %s %v", branch.UID, branch.Alias)
	}
	if call.Header.Get("User-Agent") != "Contentstack" || call.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %v", line, call.Header)
	}
	return line + either(call.Header.Get("X-Cmstap-Accepted") == "true", " accepted", "")
}

// contentstackAPI answers as the content management API does, and keeps nothing.
func contentstackAPI() http.Handler {
	mux := http.NewServeMux()
	notice := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { reply(w, status, map[string]any{"notice": "ok"}) }
	}
	for kind, at := range map[string]string{
		"content_type": "/v3/content_types", "entry": "/v3/content_types/{type}/entries", "asset": "/v3/assets", "global_field": "/v3/global_fields",
		"release": "/v3/releases", "taxonomy": "/v3/taxonomies", "term": "/v3/taxonomies/{taxonomy}/terms", "branch": "/v3/stacks/branches", "webhook": "/v3/webhooks",
	} {
		mux.HandleFunc("POST "+at, entityOf(kind, 201))
		mux.HandleFunc("GET "+at+"/{id}", entityOf(kind, 200))
		mux.HandleFunc("PUT "+at+"/{id}", entityOf(kind, 200))
		mux.HandleFunc("DELETE "+at+"/{id}", notice(either(kind == "taxonomy" || kind == "term", http.StatusNoContent, http.StatusOK)))
		mux.HandleFunc("POST "+at+"/{id}/publish", notice(201))
		mux.HandleFunc("POST "+at+"/{id}/unpublish", notice(201))
	}
	mux.HandleFunc("POST /v3/content_types/{type}/entries/{id}/workflow", notice(200))
	mux.HandleFunc("POST /v3/taxonomies/{id}", entityOf("taxonomy", 201))
	mux.HandleFunc("POST /v3/bulk/{verb}", notice(200))
	mux.HandleFunc("POST /v3/releases/{id}/deploy", notice(200))
	mux.HandleFunc("GET /v3/workflows/{id}/enable", notice(200))
	mux.HandleFunc("DELETE /v3/releases/{id}/items", func(w http.ResponseWriter, r *http.Request) {
		if fieldsOf(r)["items"] == nil { // its body must arrive
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		reply(w, http.StatusOK, map[string]any{"notice": "ok"})
	})
	mux.HandleFunc("PUT /v3/stacks/branch_aliases/{id}", func(w http.ResponseWriter, r *http.Request) {
		asked, _ := fieldsOf(r)["branch_alias"].(map[string]any)
		reply(w, 200, map[string]any{"branch_alias": map[string]any{"uid": asked["target_branch"], "source": "main", "alias": r.PathValue("id")}})
	})
	mux.HandleFunc("GET /v3/stacks/branch_aliases", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"branch_aliases": []any{map[string]any{"uid": "feature-x", "source": "main", "alias": "listed"}}})
	})
	mux.HandleFunc("DELETE /v3/stacks/branch_aliases/{id}", notice(200))
	return mux
}

// entityOf answers with what was sent, the uid of the path or a new one, and a
// version.
func entityOf(kind string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		entity, _ := fieldsOf(r)[kind].(map[string]any)
		if entity == nil {
			entity = map[string]any{"title": "a title"}
		}
		if entity["uid"] == nil {
			entity["uid"] = either(r.PathValue("id") != "", r.PathValue("id"), "blt"+path.Base(r.URL.Path))
		}
		entity["_version"] = 1
		if kind == "entry" {
			entity["locale"] = "en-us"
		}
		reply(w, status, map[string]any{"notice": "ok", kind: entity})
	}
}

// fieldsOf are the fields of a JSON body; a form has none here.
func fieldsOf(r *http.Request) (fields map[string]any) {
	_ = json.NewDecoder(r.Body).Decode(&fields)
	return fields
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
