package admin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/admin"
	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"
	"cmstap/outbox"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"
)

// settings reads the part admin of a config.
func settings(text string) (admin.Config, error) {
	c := admin.DefaultConfig()
	err := setting.Decode("c.yaml", []byte(text), &c, func(check setting.Check) { c.Validate(check) })
	return c, err
}

// window is an admin handler over a store, and what its description says.
type window struct {
	http.Handler
	t      testing.TB
	spec   *openapi3.T
	router routers.Router
	calls  []event.Call // of one event: given up, retried, delivered
}

func newWindow(t testing.TB, config string) *window {
	t.Helper()
	c, err := settings(config)
	if err != nil {
		t.Fatal(err)
	}
	store := fill(t)
	page, err := store.Calls(event.Query{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	metrics := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }
	parts := admin.Parts{
		Ready: func() bool { return true }, Store: store, Operator: idle{}, Control: &console{level: "info"}, Metrics: http.HandlerFunc(metrics),
	}
	w := &window{t: t, calls: page.Items, Handler: admin.Handler(c, parts)}
	if w.spec, err = openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := w.spec.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.spec.Servers = nil
	if w.router, err = gorillamux.NewRouter(w.spec); err != nil {
		t.Fatal(err)
	}
	return w
}

// fill opens a store with an event that webhooks got, will get, and did not get.
func fill(t testing.TB) *outbox.Outbox {
	t.Helper()
	config := outbox.DefaultConfig()
	config.Path, config.Sync = t.TempDir(), false
	store, err := outbox.Open(config, []string{"delivered", "retrying", "failed", "waiting"}, (&testlog.Log{}).Logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	e := event.Event{
		Time: time.Now().UTC(), Type: "Entry", Action: "publish", Environment: "master", Confirmed: true, Payload: []byte(`{"a":1}`),
		Entity: event.Entity{Type: "Entry", ID: "x", Version: 3}, Native: event.Native{Headers: []event.Header{{Name: "X-Topic", Value: "t"}}},
	}
	e.ID = event.NewID("intent", e.Topic(), e.Key(), 0)
	captured := event.Captured{Event: e}
	for _, hook := range []string{"delivered", "retrying", "failed", "waiting"} {
		captured.Want = append(captured.Want, event.Want{Webhook: hook})
	}
	if err := store.Commit(t.Context(), "i", []event.Captured{captured}, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i, hook := range []string{"delivered", "retrying", "failed"} {
		due, err := store.Next(t.Context(), hook, 1)
		if err != nil {
			t.Fatal(err)
		}
		wire := &event.Wire{
			Method: "POST", URL: "https://x.example/<secret>", Headers: []event.Header{{Name: "A", Value: "b"}}, Bytes: 7,
			AnswerHeaders: []event.Header{{Name: "Server", Value: "x"}}, Answer: "<b>ok",
		}
		s := event.Settlement{Result: event.Result(i), Wait: time.Hour, Reason: "enough", Attempt: event.Attempt{
			Number: 1, Time: time.Now().Add(time.Duration(i) * time.Second).UTC(), Duration: time.Millisecond, Status: 200 + 150*i, Error: strings.Repeat("bad", i), Wire: wire,
		}}
		if err := store.Settle(t.Context(), due[0], s); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// ask sends a request as a client on the machine does, with changes, and checks
// the answer against the description.
func (w *window) ask(method, target string, change func(*http.Request)) (status int, body string) {
	w.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8081"+target, nil)
	if change != nil {
		change(r)
	}
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	body = answer.Body.String()
	w.conforms(r, answer)
	return answer.Code, body
}

func (w *window) conforms(r *http.Request, answer *httptest.ResponseRecorder) {
	w.t.Helper()
	if answer.Code >= 500 {
		w.t.Errorf("%s %s: %d %s", r.Method, r.URL, answer.Code, answer.Body)
	}
	route, values, err := w.router.FindRoute(r)
	if err != nil { // what is not described is a problem
		var p struct{ Status int }
		if answer.Header().Get("Content-Type") != "application/problem+json" || json.Unmarshal(answer.Body.Bytes(), &p) != nil || p.Status != answer.Code || answer.Code < 400 {
			w.t.Errorf("%s %s: %d %s", r.Method, r.URL, answer.Code, answer.Body)
		}
		return
	}
	err = openapi3filter.ValidateResponse(w.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: values, Route: route},
		Status:                 answer.Code, Header: answer.Header(), Body: io.NopCloser(bytes.NewReader(answer.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		w.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
}

// required are the parameters without which a path is not answered.
var required = map[string]string{
	"/api/events/{id}/resend": "?webhook=x", "/api/replay": "?since=7d", "/api/replay/diff": "?since=7d",
}

// TestEveryRoute: each path of the description answers as it says, and the other
// way round.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	for path, item := range w.spec.Paths.Map() {
		id := w.calls[0].ID
		if strings.HasPrefix(path, "/api/events/") {
			id = w.calls[0].Event
		}
		target := strings.NewReplacer("{id}", id, "{name}", "x").Replace(path) + required[path]
		for _, method := range []string{"GET", "POST", "PUT"} {
			want := 200
			if item.GetOperation(method) == nil {
				want = 405
			}
			body := func(r *http.Request) {
				if path == "/api/log-level" && method == http.MethodPut {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"level":"info"}`)), 16
					r.Header.Set("Content-Type", "application/json")
				}
			}
			if status, body := w.ask(method, target, body); status != want {
				t.Errorf("%s %s: %d %s", method, path, status, body)
			}
		}
	}
	for _, path := range []string{"/none", "/api", "/api/calls/none", "/api/events/none", "/metrics/x"} {
		if status, body := w.ask("GET", path, nil); status != 404 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// TestDescribed: what answers may have is described.
func TestDescribed(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	for schema, of := range map[string]any{"Event": event.Event{}, "Call": event.Call{}} {
		described := w.spec.Components.Schemas[schema].Value.Properties
		for field := range reflect.TypeOf(of).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "-" && described[name] == nil {
				t.Errorf("%s has %s, which is not described", schema, name)
			}
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	check := func(target string, want ...string) {
		t.Helper()
		var page struct {
			Items  []struct{ Webhook, Topic string }
			Cursor string
		}
		got := []string{}
		for cursor := ""; ; cursor = "&cursor=" + page.Cursor {
			status, body := w.ask("GET", target+cursor, nil)
			page.Cursor = ""
			if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
				t.Fatalf("%s: %d %s %v", target, status, body, err)
			}
			for _, item := range page.Items {
				got = append(got, item.Webhook)
			}
			if page.Cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%s: %s", target, diff)
		}
	}
	check("/api/calls?limit=1", "failed", "retrying", "delivered")
	check("/api/calls?webhook=failed", "failed")
	check("/api/calls?result=retrying&topic=Entry.publish&entity=x&environment=master", "retrying")
	check("/api/calls?text=BADBAD", "failed")
	check("/api/calls?since=1h&until=2999-01-01T00:00:00Z", "failed", "retrying", "delivered")
	check("/api/calls?until=1h")
	check("/api/calls?environment=dev")
	check("/api/calls?status=5xx", "failed")
	check("/api/calls?status=350", "retrying")
	check("/api/calls?status=none")
	check("/api/events?topic=Entry.publish&entity=x&limit=1", "")
	check("/api/events?since=2999-01-01T00:00:00%2B01:00")
	check("/api/webhooks", "delivered", "failed", "retrying", "waiting")
}

func TestWrongParameters(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	for _, target := range []string{
		"/api/calls?limit=0", "/api/calls?limit=501", "/api/calls?limit=x", "/api/calls?result=good", "/api/calls?status=99", "/api/calls?status=xx", "/api/events?status=200", "/api/calls?since=yesterday", "/api/calls?until=-1h",
		"/api/calls?cursor=zz", "/api/events?cursor=00", "/api/calls?topik=x", "/api/calls?topic=a&topic=b", "/api/events?webhook=a", "/api/webhooks?x=1", "/api/calls?a=%zz", "/api/calls?a;b",
	} {
		if status, body := w.ask("GET", target, nil); status != 400 {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
}

const token = "a-token-of-32-characters-a-token"

// TestToken: with a token nothing but health answers without it.
func TestToken(t *testing.T) {
	t.Parallel()
	check := func(config, path, authorization string, want int) {
		t.Helper()
		status, body := newWindow(t, "listen: :0\ntoken: { value: "+token+" }\n"+config).ask("GET", path, func(r *http.Request) {
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
		})
		if status != want || strings.Contains(body, token) {
			t.Errorf("%s %s: %d %s", path, authorization, status, body)
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		check("", path, "", 200)
	}
	for _, path := range []string{"/metrics", "/api/webhooks", "/api/calls", "/api/events", "/api//calls", "/api/none"} {
		check("", path, "", 401)
	}
	for _, wrong := range []string{"Bearer", "Bearer x", "Basic " + token, token, "Bearer " + token + "x", "Bearer " + token[1:]} {
		check("", "/api/calls", wrong, 401)
	}
	check("", "/api/calls", "Bearer "+token, 200)
	check("", "/metrics", "bearer "+token, 200)
	check("metrics_public: true", "/metrics", "", 200)
	check("metrics_public: true", "/api/calls", "", 401)
}

// TestHosts: a page that was loaded under another name can not ask.
func TestHosts(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: localhost:0\nhosts: [cmstap.internal]")
	check := func(host, path string, want int) {
		t.Helper()
		if status, body := w.ask("GET", path, func(r *http.Request) { r.Host = host }); status != want {
			t.Errorf("%s: %d %s", host, status, body)
		}
	}
	for _, host := range []string{"127.0.0.1:8081", "[::1]:8081", "[::1]", "localhost", "LOCALHOST:1", "localhost.", "cmstap.internal:8081", "10.0.0.7"} {
		check(host, "/api/calls", 200)
	}
	for _, host := range []string{"", "evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", "x-cmstap.internal"} {
		check(host, "/api/calls", 421)
		check(host, "/metrics", 421)
		check(host, "/livez", 200)
	}
}

// TestOtherSites: what changes something is refused to pages of other sites.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	check := func(method, header, value string, want int) {
		t.Helper()
		if status, body := w.ask(method, "/api/calls", func(r *http.Request) { r.Header.Set(header, value) }); status != want {
			t.Errorf("%s %s %s: %d %s", method, header, value, status, body)
		}
	}
	check("POST", "Sec-Fetch-Site", "cross-site", 403)
	check("POST", "Sec-Fetch-Site", "same-site", 403)
	check("DELETE", "Origin", "https://evil.example", 403)
	check("POST", "Sec-Fetch-Site", "same-origin", 405)
	check("GET", "Sec-Fetch-Site", "cross-site", 403)
	check("GET", "Sec-Fetch-Site", "none", 200)
	check("GET", "Sec-Fetch-Site", "same-origin", 200)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	check := func(text string, want ...string) {
		t.Helper()
		got := []string{}
		var problems setting.Problems
		if _, err := settings(text); errors.As(err, &problems) {
			got = strings.Split(problems.Error(), "\n")
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	const open = "c.yaml:1: listen: other machines may reach it: give an admin.token, or listen on 127.0.0.1"
	check("listen: 127.0.0.1:1")
	check("listen: '[::1]:1'")
	check("listen: ''")
	check("listen: :1", open)
	check("listen: 0.0.0.0:1", open)
	check("listen: cmstap.internal:1", open)
	check("listen: :1\ntoken: { value: " + token + " }")
	check("token: { value: hunter2 }", "c.yaml:1: token: must have at least 16 characters; for example what openssl rand -hex 16 prints")
	check("hosts: ['http://x', 'x:1', x.y]", `c.yaml:1: hosts[0]: want a name without scheme and port, for example cmstap.internal, not "http://x"`,
		`c.yaml:1: hosts[1]: want a name without scheme and port, for example cmstap.internal, not "x:1"`)
}

// FuzzParameters sends whatever for each parameter of the description: no answer
// is a fault of the server, and each is as described.
func FuzzParameters(f *testing.F) {
	w := newWindow(f, "listen: 127.0.0.1:0")
	for _, seed := range []string{"", "1", "-1", "delivered", "9999999999999999999", "2026-01-02T15:04:05Z", "7d", "\xff", "%00", "../..", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", strings.Repeat("f", 48), strings.Repeat("0", 16)} {
		f.Add(seed, seed)
	}
	var targets []string
	for path, item := range w.spec.Paths.Map() {
		if item.Get == nil {
			continue
		}
		for _, parameter := range item.Get.Parameters {
			if parameter.Value.In == "query" {
				targets = append(targets, path+"?"+parameter.Value.Name+"=")
			}
		}
		if strings.HasSuffix(path, "{id}") {
			targets = append(targets, strings.TrimSuffix(path, "{id}"))
		}
	}
	slices.Sort(targets)
	if len(targets) != 45 {
		f.Fatalf("%d parameters", len(targets))
	}
	f.Fuzz(func(t *testing.T, value, other string) {
		mine := *w
		mine.t = t
		for i, target := range targets {
			path := target + url.QueryEscape(value)
			if next := targets[(i+1)%len(targets)]; strings.Contains(target, "?") && strings.Contains(next, "?") {
				path += "&" + next[strings.Index(next, "?")+1:] + url.QueryEscape(other)
			}
			mine.ask("GET", path, nil)
		}
	})
}

// A store that can not be read is said, with what it says.
type broken struct{ admin.Store }

func (broken) Backlogs() ([]event.Backlog, error) { return nil, errors.New("the disk is full") }

func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	admin.Handler(admin.DefaultConfig(), admin.Parts{Store: broken{}}).ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost/api/webhooks", nil))
	if got := fmt.Sprint(answer.Code, answer.Header().Get("Content-Type"), answer.Body); got != "503"+"application/problem+json"+
		`{"title":"Service Unavailable","status":503,"detail":"the store can not be read: the disk is full"}`+"\n" {
		t.Error(got)
	}
}
