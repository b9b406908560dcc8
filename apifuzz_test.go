package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/internal/testlog"

	"github.com/getkin/kin-openapi/openapi3"
)

// What must never be in an answer of the API.
const (
	fuzzToken  = "the-token-of-the-window"
	fuzzSecret = "the-secret-of-a-webhook"
)

// described is one of the description: what can be asked, and with which
// parameters.
type described struct {
	method, path string
	query        []string
	body         bool
}

func describedIn(t testing.TB) (list []described) {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromFile("docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	paths := spec.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		all := paths[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(all)) {
			o := described{method: method, path: path, body: all[method].RequestBody != nil}
			for _, p := range append(slices.Clone(paths[path].Parameters), all[method].Parameters...) {
				if p.Value.In == "query" {
					o.query = append(o.query, p.Value.Name)
				}
			}
			list = append(list, o)
		}
	}
	return list
}

// FuzzAPI asks a cmstap that runs whatever its own description allows, with values
// of the fuzzer: it never fails, never tells a secret, and tells nothing without the
// token.
func FuzzAPI(f *testing.F) {
	list := describedIn(f)
	hooks := serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/bad") {
			w.WriteHeader(400)
		}
		_, _ = io.WriteString(w, r.Header.Get("X-Key"))
	}))
	api := serve(f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"sys":{"type":"Entry","id":"hello","version":1},"fields":{}}`)
	}))
	text := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q, sync: false }
admin: { listen: "127.0.0.1:0", token: { value: %s } }
webhooks:
- { name: good, url: "%s/%s", topics: "*.*", headers: { X-Key: { value: %s } } }
- { name: bad, url: "%s/bad", topics: "*.*", retry: { delays: [], on: [5xx] } }
`, api.URL, f.TempDir(), fuzzToken, hooks.URL, fuzzSecret, fuzzSecret, hooks.URL)
	load := func() (*Config, error) { return parseConfig("cmstap.yaml", []byte(text), &runCommand{}) }
	config, err := load()
	if err != nil {
		f.Fatal(err)
	}
	log := &testlog.Log{}
	a, err := newApp(config, &appLog{logger: log.Logger()}, load)
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	f.Cleanup(func() { stop(); <-ended })
	for range 3 {
		if status, body, err := ask("PUT", "http://"+a.proxy.Addr()+"/spaces/s/environments/master/entries/hello", "{}", nil); err != nil || status != 200 {
			f.Fatalf("%d %s %v", status, body, err)
		}
	}
	_, events, err := ask("GET", "http://"+a.admin.Addr()+"/api/events", "", map[string]string{"Authorization": "Bearer " + fuzzToken})
	var page struct{ Items []struct{ ID string } }
	if err != nil || json.Unmarshal([]byte(events), &page) != nil || len(page.Items) == 0 {
		f.Fatal(err, events)
	}
	for n := range list {
		f.Add(uint8(n), page.Items[0].ID, "good", "1h", `{"level":"debug"}`)
		f.Add(uint8(n), "good", "failed", "7d", text)
		f.Add(uint8(n), "../..", "\x00", "-1", "")
	}
	f.Fuzz(func(t *testing.T, which uint8, id, value, other, body string) {
		o := list[int(which)%len(list)]
		query := url.Values{}
		for i, name := range o.query {
			switch { // some are right, so that others are looked at
			case name == "since" && i%2 == 0:
				query.Set(name, "1h")
			case (i+int(which))%3 == 0:
				query.Set(name, value)
			case (i+int(which))%3 == 1:
				query.Set(name, other)
			}
		}
		target := "http://" + a.admin.Addr() + strings.NewReplacer("{id}", url.PathEscape(id), "{name}", url.PathEscape(value)).Replace(o.path) + "?" + query.Encode()
		check := func(token string) {
			within := 20 * time.Second
			if o.path == "/api/tail" {
				within = 5 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, o.method, target, strings.NewReader(body))
			if err != nil {
				t.Skip("not a request")
			}
			r.Header.Set("Authorization", "Bearer "+token)
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				if o.path != "/api/tail" {
					t.Fatalf("%s %s: %v", o.method, target, err)
				}
				return
			}
			defer answer.Body.Close()
			said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
			if answer.StatusCode >= 500 {
				t.Errorf("%s %s: %d %s\n%s", o.method, target, answer.StatusCode, said, log)
			}
			for _, secret := range []string{fuzzToken, fuzzSecret} {
				if strings.Contains(string(said), secret) && !strings.Contains(id+value+other+body, secret) {
					t.Errorf("%s %s tells a secret: %s", o.method, target, said)
				}
			}
			health := o.path == "/livez" || o.path == "/readyz"
			if token == "" && !health && answer.StatusCode != http.StatusUnauthorized && answer.StatusCode/100 != 3 {
				t.Errorf("%s %s without the token: %d %s", o.method, target, answer.StatusCode, said)
			}
		}
		check("")
		check(fuzzToken)
	})
}
