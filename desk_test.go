package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cmstap/event"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

const deskToken = "a-token-of-a-test"

// desk is a cmstap that runs with a CMS and a receiver, and an operator at it.
type desk struct {
	operator
	*process
	config   string
	program  string
	receiver *hooks
	version  atomic.Int64
}

// hooks is a receiver that refuses what it is told to.
type hooks struct {
	address string
	refuses atomic.Bool
	arrived chan string // path, topic, why again
	taken   sync.Map    // the ids of entities
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{arrived: make(chan string, 10_000)}
	h.address = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.refuses.Load() {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "no \x1b[2J")
			return
		}
		var body struct{ Sys struct{ ID string } }
		_ = json.NewDecoder(r.Body).Decode(&body)
		h.taken.Store(body.Sys.ID, true)
		h.arrived <- strings.TrimSpace(r.URL.Path[1:] + " " + r.Header.Get("X-Contentful-Topic") + " " + r.Header.Get("X-Cmstap-Redelivery"))
	})).URL
	return h
}

// newDesk starts cmstap with webhooks, whose addresses begin with HOOKS.
func newDesk(t *testing.T, webhooks string) *desk {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{program: program, receiver: newHooks(t)}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		parts := strings.Split(r.URL.Path, "/")
		fmt.Fprintf(w, `{"sys":{"type":"Entry","id":%q,"version":%d},"fields":%s}`, parts[len(parts)-1], d.version.Add(1), body)
	}))
	d.config = strings.ReplaceAll(`
proxy: { listen: "127.0.0.1:0", upstream: "`+cms.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0", token: { value: `+deskToken+` } }
webhooks:
`+webhooks, "HOOKS", d.receiver.address)
	d.start(t)
	return d
}

func (d *desk) start(t *testing.T) {
	t.Helper()
	d.process = start(t, d.program, d.config)
	d.operator = newOperator(t, d.admin, deskToken)
}

func (d *desk) write(id, fields string) {
	d.t.Helper()
	if status, body, err := ask("PUT", "http://"+d.proxy+"/spaces/s/environments/master/entries/"+id, fields, nil); err != nil || status != 200 {
		d.t.Fatalf("%d %s %v", status, body, err)
	}
}

// got waits for the next calls that the receiver took.
func (d *desk) got(want ...string) {
	d.t.Helper()
	for _, one := range want {
		if call := <-d.receiver.arrived; call != one {
			d.t.Errorf("got %q, want %q", call, one)
		}
	}
}

// do runs a command and returns what it printed.
func (d *desk) do(code int, args ...string) (stdout, stderr string) {
	d.t.Helper()
	got, stdout, stderr := d.run(args...)
	if got != code || strings.Contains(stdout+stderr, "\x1b") || strings.Contains(stdout+stderr, deskToken) {
		d.t.Errorf("%v: exit code %d: %s%s", args, got, stdout, stderr)
	}
	return stdout, stderr
}

// api asks for JSON.
func (d *desk) api(method, path, body string, into any) {
	d.t.Helper()
	status, text, err := ask(method, "http://"+d.admin+path, body, map[string]string{"Authorization": "Bearer " + deskToken})
	conforms(d.t, method, path, status, text)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err != nil || status != 200 || json.Unmarshal([]byte(lines[len(lines)-1]), into) != nil {
		d.t.Fatalf("%s %s: %d %s %v", method, path, status, text, err)
	}
}

// description is that of the API, and which operation is meant.
var description = sync.OnceValues(func() (routers.Router, error) {
	for _, lines := range []string{"application/x-ndjson", "text/event-stream"} {
		openapi3filter.RegisterBodyDecoder(lines, openapi3filter.PlainBodyDecoder)
	}
	spec, err := openapi3.NewLoader().LoadFromFile("docs/openapi.yaml")
	if err != nil {
		return nil, err
	}
	spec.Servers = nil
	return gorillamux.NewRouter(spec)
})

// conforms compares an answer with the description.
func conforms(t *testing.T, method, path string, status int, text string) {
	t.Helper()
	router, err := description()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, "http://localhost"+path, nil)
	route, values, err := router.FindRoute(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	kind := "application/json"
	if strings.HasPrefix(path, "/api/re") && (method == "POST" || strings.HasPrefix(path, "/api/replay")) {
		kind = "application/x-ndjson"
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: values, Route: route},
		Status:                 status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
}

func (d *desk) webhook(name string) event.Backlog {
	d.t.Helper()
	var list event.Page[event.Backlog]
	d.api("GET", "/api/webhooks", "", &list)
	for _, one := range list.Items {
		if one.Webhook == name {
			return one
		}
	}
	d.t.Fatalf("no %s in %+v", name, list)
	return event.Backlog{}
}
