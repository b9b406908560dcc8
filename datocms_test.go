package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

// datoCMSTable says for each entity of the story what is delivered, in order:
// the event, the record's status, the environment unless it is main (none if it
// is not known), and a ? if it is unconfirmed.
const datoCMSTable = `
build_trigger 7                | deploy_started
environment dev                | create in dev, promote in dev
environment new                | update in new
environment other              | delete in other
item a                         | create draft, update draft, publish published, update updated, publish updated, update updated, update updated, unpublish draft, delete draft
item b                         | create published, publish published, update published, publish published, unpublish published, delete published
item bad1                      | publish ?
item by-name                   | create draft
item copy-of-limited           | create draft
item d1                        | delete
item d2                        | delete
item early                     | create draft in
item in-dev                    | create draft in dev
item in-dev2                   | delete draft in dev
item late                      | create draft in dev
item limited                   | create draft
item m1                        | update
item of-v1                     | update draft
item p1                        | publish
item p2                        | publish
item q1                        | publish ?
item u1                        | unpublish
item_type M1                   | create, update
item_type M2                   | update
item_type M3                   | update
item_type M4                   | update
item_type M5                   | delete
maintenance_mode maintenance_mode | change
upload UP1                     | create
upload UP2                     | update
upload UP3                     | delete
upload t1                      | update
upload t2                      | delete
upload t3                      | delete
`

// TestDatoCMSSDK drives cmstap with DatoCMS's own client, unmodified.
func TestDatoCMSSDK(t *testing.T) {
	t.Parallel()
	need(t, "node")
	needClient(t, "testdata/datocms", "@datocms/cma-client-node")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: datocms }
outbox: { path: %q }
admin: { listen: "" }
webhooks:
  - { name: all, url: %[3]s/all, topics: ["*.*"] }
  - { name: main, url: %[3]s/main, topics: [item.create], environments: [main] }
  - { name: primary, url: %[3]s/primary, topics: [item.create], environments: [primary] }
  - { name: live, url: %[3]s/live, topics: [item.publish], filter: 'payload.entity.relationships.item_type.data.id == "LIVE"', on_unknown: skip }
`, serve(t, newDatoCMS().handler()).URL, t.TempDir(), serve(t, receiver).URL))
	told := runStory(t, "testdata/datocms", p.proxy)
	for _, o := range told {
		if failed := o.Result == nil; failed != (o.Op == "items.destroy locked") {
			t.Errorf("%s: %s", o.Op, o.Result)
		}
	}
	want := strings.Split(regexp.MustCompile(` +\|`).ReplaceAllString(strings.TrimSpace(datoCMSTable), " |"), "\n")
	total := strings.Count(datoCMSTable, ",") + len(want)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(demo.On(calls, "/all")) >= total }); err != nil {
		t.Error(err)
	}
	p.stopped(t, "msg=waiting deliveries=0 writes=0")
	lines := map[string]string{}
	for _, call := range demo.On(receiver.Calls(), "/all") {
		entity, line := datoCMSLine(t, call)
		lines[entity] += either(lines[entity] == "", " | ", ", ") + line
	}
	var got []string
	for _, entity := range slices.Sorted(maps.Keys(lines)) {
		got = append(got, entity+lines[entity])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for at, want := range map[string][]string{
		"/main":    {"item b", "item by-name", "item copy-of-limited", "item early ?", "item limited", "item a"},
		"/primary": {"item b", "item by-name", "item copy-of-limited", "item early", "item late", "item limited", "item a"},
		"/live":    {"item b", "item b"},
	} {
		var got []string
		for _, call := range demo.On(receiver.Calls(), at) {
			entity, _ := datoCMSLine(t, call)
			got = append(got, entity+either(call.Header.Get("X-Cmstap-Undecided") != "", " ?", ""))
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", at, diff)
		}
	}
}

// datoCMSLine is a delivery as the table has it.
func datoCMSLine(t *testing.T, call demo.Call) (entity, line string) {
	t.Helper()
	var body struct {
		EntityType  string `json:"entity_type"`
		EventType   string `json:"event_type"`
		Environment string
		Entity      struct {
			Type, ID string
			Meta     struct{ Status string }
		}
	}
	if err := json.Unmarshal(call.Body, &body); err != nil || body.Entity.Type != body.EntityType {
		t.Fatalf("%v in %s", err, call.Body)
	}
	if call.Header.Get("Accept") != "*/*" || call.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", call.Header)
	}
	line = body.EventType
	for _, word := range []string{
		body.Entity.Meta.Status, either(body.Environment == "main", "", strings.TrimSpace("in "+body.Environment)),
		either(call.Header.Get("X-Cmstap-Confirmed") == "false", "?", ""),
	} {
		line = strings.TrimSpace(line + " " + word)
	}
	return body.EntityType + " " + body.Entity.ID, line
}

// datoCMS answers as the content management API does: much of it with jobs,
// which have a result when somebody asks for the second time. It keeps the status
// of records.
type datoCMS struct {
	mu      sync.Mutex
	jobs    []datoJob
	records map[string]datoRecord // by id
	limited bool                  // it has said once that it is asked too often
}

type datoJob struct {
	asked   bool
	status  int
	payload any
}

type datoRecord struct{ model, status string }

func newDatoCMS() *datoCMS { return &datoCMS{records: map[string]datoRecord{}} }

// promise answers with a job.
func (d *datoCMS) promise(w http.ResponseWriter, status int, payload any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.jobs = append(d.jobs, datoJob{status: status, payload: payload})
	reply(w, http.StatusAccepted, data(resource("job", fmt.Sprint(len(d.jobs)-1))))
}

// result answers with the result of a job.
func (d *datoCMS) result(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var id int
	if _, err := fmt.Sscan(r.PathValue("job"), &id); err != nil || id >= len(d.jobs) || !d.jobs[id].asked {
		if id < len(d.jobs) {
			d.jobs[id].asked = true
		}
		reply(w, http.StatusNotFound, data([]any{map[string]any{
			"type": "api_error", "id": "x", "attributes": map[string]any{"code": "NOT_FOUND", "details": map[string]any{}},
		}}))
		return
	}
	job := resource("job_result", r.PathValue("job"))
	job["attributes"] = map[string]any{"status": d.jobs[id].status, "payload": d.jobs[id].payload}
	reply(w, http.StatusOK, data(job))
}

// save changes the status of a record and returns it.
func (d *datoCMS) save(id string, change func(*datoRecord)) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	record, known := d.records[id]
	if !known {
		record = datoRecord{"DRAFTS", "draft"}
	}
	change(&record)
	d.records[id] = record
	item := resource("item", id)
	item["relationships"] = belongsTo(record.model)
	item["meta"] = map[string]any{"status": record.status, "current_version": "1"}
	return item
}

// updated is what a save does to a record.
func updated(r *datoRecord) {
	if r.status == "published" && r.model != "LIVE" {
		r.status = "updated"
	}
}

func kept(*datoRecord) {}

// becomes makes a handler that sets the status of the record in the path.
func (d *datoCMS) becomes(status string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to := either(fieldsOf(r) == nil, status, "updated") // of some locales only
		reply(w, http.StatusOK, data(d.save(r.PathValue("id"), func(record *datoRecord) { record.status = to })))
	}
}

func (d *datoCMS) create(w http.ResponseWriter, r *http.Request) {
	asked := resourceIn(r)
	id := asked.Attributes.Title
	d.mu.Lock()
	limited := id == "limited" && !d.limited
	d.limited = d.limited || limited
	d.mu.Unlock()
	if limited {
		w.Header().Set("X-RateLimit-Reset", "1")
		reply(w, http.StatusTooManyRequests, data([]any{}))
		return
	}
	model := asked.Relationships["item_type"].Data.(map[string]any)["id"].(string)
	reply(w, http.StatusOK, data(d.save(id, func(record *datoRecord) {
		*record = datoRecord{model, either(model == "LIVE", "published", "draft")}
	})))
}

// destroy promises to delete a record, and fails if it is locked.
func (d *datoCMS) destroy(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.PathValue("id"), "locked") {
		d.promise(w, http.StatusUnprocessableEntity, data([]any{}))
		return
	}
	d.promise(w, http.StatusOK, data(d.save(r.PathValue("id"), kept)))
}

// bulk promises to change what the body names; what is called bad fails.
func (d *datoCMS) bulk(w http.ResponseWriter, r *http.Request) {
	successful, failed := 0, 0
	for _, relationship := range resourceIn(r).Relationships {
		for _, one := range relationship.Data.([]any) {
			if strings.HasPrefix(one.(map[string]any)["id"].(string), "bad") {
				failed++
			} else {
				successful++
			}
		}
	}
	d.promise(w, http.StatusOK, bulkResult(successful, failed))
}

func bulkResult(successful, failed int) map[string]any {
	return map[string]any{"data": []any{}, "meta": map[string]any{"successful": successful, "failed": failed}}
}

func (d *datoCMS) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /job-results/{job}", d.result)
	mux.HandleFunc("POST /items", d.create)
	mux.HandleFunc("PUT /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, data(d.save(r.PathValue("id"), updated)))
	})
	mux.HandleFunc("DELETE /items/{id}", d.destroy)
	mux.HandleFunc("PUT /items/{id}/publish", d.becomes("published"))
	mux.HandleFunc("PUT /items/{id}/unpublish", d.becomes("draft"))
	mux.HandleFunc("POST /items/{id}/duplicate", func(w http.ResponseWriter, r *http.Request) {
		d.promise(w, http.StatusOK, data(d.save("copy-of-"+r.PathValue("id"), kept)))
	})
	mux.HandleFunc("POST /versions/{id}/restore", func(w http.ResponseWriter, r *http.Request) {
		d.promise(w, http.StatusOK, data([]any{d.save("of-"+r.PathValue("id"), kept), resource("item_version", "v2")}))
	})
	mux.HandleFunc("POST /items/{id}/scheduled-publication", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, map[string]any{"data": resource("scheduled_publication", "1"), "included": []any{d.save(r.PathValue("id"), updated)}})
	})
	mux.HandleFunc("DELETE /items/{id}/scheduled-publication", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, data(d.save(r.PathValue("id"), updated)))
	})
	for _, verb := range []string{"publish", "unpublish", "move-to-stage", "destroy"} {
		mux.HandleFunc("POST /items/bulk/"+verb, d.bulk)
	}
	mux.HandleFunc("POST /uploads/bulk/{verb}", d.bulk)
	for _, dry := range []string{"POST /items/validate", "POST /items/{id}/validate", "POST /build-triggers/{id}/trigger"} {
		mux.HandleFunc(dry, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	}
	d.settings(mux)
	return mux
}

// settings are models, files, environments and the rest, of which nothing is
// kept.
func (d *datoCMS) settings(mux *http.ServeMux) {
	sync := func(on, typ, id string) {
		mux.HandleFunc(on, func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, data(resourceFor(r, typ, id))) })
	}
	later := func(on, typ, id string) {
		mux.HandleFunc(on, func(w http.ResponseWriter, r *http.Request) {
			d.promise(w, http.StatusOK, data(resourceFor(r, typ, id)))
		})
	}
	sync("POST /item-types", "item_type", "M1")
	later("PUT /item-types/{id}", "item_type", "")
	later("DELETE /item-types/{id}", "item_type", "")
	later("POST /item-types/{model}/fields", "field", "F1")
	later("DELETE /fields/{id}", "field", "")
	sync("POST /item-types/{model}/fieldsets", "fieldset", "S1")
	later("POST /uploads", "upload", "UP1")
	later("PUT /uploads/{id}", "upload", "")
	sync("DELETE /uploads/{id}", "upload", "")
	later("POST /environments/{source}/fork", "environment", "dev")
	sync("PUT /environments/{source}/rename", "environment", "new")
	sync("PUT /environments/{id}/promote", "environment", "")
	later("DELETE /environments/{id}", "environment", "")
	sync("PUT /maintenance-mode/activate", "maintenance_mode", "maintenance_mode")
	sync("POST /roles", "role", "R1")
	mux.HandleFunc("GET /environments", func(w http.ResponseWriter, r *http.Request) {
		main := resourceFor(r, "environment", "main")
		main["meta"] = map[string]any{"primary": true}
		reply(w, http.StatusOK, data([]any{resourceFor(r, "environment", "dev"), main}))
	})
	mux.HandleFunc("POST /upload-requests", func(w http.ResponseWriter, r *http.Request) {
		request := resource("upload_request", "/205/package.json")
		request["attributes"] = map[string]any{"url": "http://" + r.Host + "/s3/package.json", "request_headers": map[string]any{}}
		reply(w, http.StatusOK, data(request))
	})
	mux.HandleFunc("PUT /s3/package.json", func(http.ResponseWriter, *http.Request) {})
}

func data(content any) map[string]any { return map[string]any{"data": content} }

func resource(typ, id string) map[string]any {
	return map[string]any{"type": typ, "id": id, "attributes": map[string]any{}}
}

func belongsTo(model string) map[string]any {
	return map[string]any{"item_type": data(resource("item_type", model))}
}

// resourceFor is what a request is about: the id of the path, unless another one
// is given.
func resourceFor(r *http.Request, typ, id string) map[string]any {
	one := resource(typ, either(id != "", id, r.PathValue("id")))
	if strings.HasPrefix(typ, "field") {
		_, model, _ := strings.Cut(r.PathValue("id"), "-")
		one["relationships"] = belongsTo(either(model != "", model, r.PathValue("model")))
	}
	if typ == "environment" {
		one["meta"] = map[string]any{"primary": strings.HasSuffix(r.URL.Path, "/promote")}
	}
	return one
}

// asked is what the body of a request names.
type asked struct {
	Attributes    struct{ Title string }
	Relationships map[string]struct{ Data any }
}

func resourceIn(r *http.Request) asked {
	var body struct{ Data asked }
	_ = json.NewDecoder(r.Body).Decode(&body)
	return body.Data
}
