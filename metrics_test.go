package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"gopkg.in/yaml.v3"
)

// scrape reads the metrics of a running cmstap, by series.
func scrape(t *testing.T, p *process) map[string]string {
	t.Helper()
	status, body, err := ask("GET", "http://"+p.admin+"/metrics", "", nil)
	if err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	series := map[string]string{}
	for line := range strings.Lines(body) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "} "); found {
			series[name+"}"] = value
		} else if name, value, found := strings.Cut(strings.TrimSpace(line), " "); found && name != "#" {
			series[name] = value
		}
	}
	return series
}

// TestMetrics: what clients and webhooks do is counted, and each metric of the
// alert rules and of the page is there.
func TestMetrics(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/conflict") {
			w.WriteHeader(409)
		}
		_, _ = io.WriteString(w, `{"sys":{"type":"Entry","id":"hello","version":1},"fields":{}}`)
	}))
	hooks := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/retry" {
			w.WriteHeader(503)
		}
	}))
	p := start(t, program, `
proxy: { listen: "127.0.0.1:0", upstream: "`+cms.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0", token: { value: a-token-of-a-test }, metrics_public: true }
webhooks:
- { name: good, url: "`+hooks.URL+`/", topics: "*.*" }
- { name: later, url: "`+hooks.URL+`/retry", topics: "*.*", retry: { delays: [1h], on: [5xx] }, breaker: { failures: 1, wait: 1h } }
`)
	before := scrape(t, p)
	for path, status := range map[string]int{"hello": 200, "conflict": 409} {
		if got, body, err := ask("PUT", "http://"+p.proxy+"/spaces/s/environments/master/entries/"+path, "{}", nil); err != nil || got != status {
			t.Fatalf("%d %s %v", got, body, err)
		}
	}
	if _, _, err := ask("GET", "http://"+p.proxy+"/spaces/s/entries/hello", "", nil); err != nil {
		t.Fatal(err)
	}
	p.waitLine(t, "msg=delivered", "webhook=good")
	p.waitLine(t, "msg=retrying", "webhook=later")
	after := scrape(t, p)
	check := func(series, from, to string) {
		t.Helper()
		if before[series] != from || after[series] != to {
			t.Errorf("%s: from %q to %q", series, before[series], after[series])
		}
	}
	check(`cmstap_requests_total{class="write"}`, "0", "2")
	check(`cmstap_requests_total{class="pass"}`, "0", "1")
	check(`cmstap_writes_total{outcome="done"}`, "0", "1")
	check(`cmstap_writes_total{outcome="refused"}`, "0", "1")
	check(`cmstap_writes_total{outcome="unknown"}`, "0", "0")
	check(`cmstap_events_total{topic="Entry.save"}`, "", "1")
	check(`cmstap_gaps_total`, "0", "0")
	check(`cmstap_commit_duration_seconds_count`, "0", "1")
	check(`cmstap_attempts_total{result="delivered",webhook="good"}`, "0", "1")
	check(`cmstap_attempts_total{result="retrying",webhook="later"}`, "0", "1")
	check(`cmstap_attempt_duration_seconds_count{webhook="good"}`, "0", "1")
	check(`cmstap_deliveries_waiting{webhook="good"}`, "0", "0")
	check(`cmstap_deliveries_waiting{webhook="later"}`, "0", "1")
	check(`cmstap_deliveries_dead{webhook="later"}`, "0", "0")
	check(`cmstap_breaker_state{state="closed",webhook="later"}`, "1", "0")
	check(`cmstap_breaker_state{state="open",webhook="later"}`, "0", "1")
	check(`cmstap_breaker_state{state="closed",webhook="good"}`, "1", "1")
	check(`cmstap_build_info{version="development"}`, "1", "1")
	if age := after[`cmstap_deliveries_oldest_waiting_seconds{webhook="later"}`]; age == "" || age == "0" {
		t.Errorf("the oldest is %q old", age)
	}
	names := map[string]bool{}
	for series := range after {
		name, _, _ := strings.Cut(series, "{")
		names[name] = true
	}
	for _, name := range named(t) {
		if !names[name] && !names[name+"_bucket"] {
			t.Errorf("%s is not there", name)
		}
	}
}

// named are the metrics that alerts.yaml and metrics.md name.
func named(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil || len(rules.Groups) != 1 || len(rules.Groups[0].Rules) < 5 {
		t.Fatalf("%v: %+v", err, rules)
	}
	name := regexp.MustCompile(`cmstap_[a-z_]+`)
	var names []string
	for _, rule := range rules.Groups[0].Rules {
		found := name.FindAllString(rule.Expr, -1)
		if len(found) == 0 {
			t.Errorf("%s asks for nothing", rule.Alert)
		}
		names = append(names, found...)
	}
	page, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact(slices.Sorted(slices.Values(append(names, name.FindAllString(string(page), -1)...))))
}

// TestMetricNames: the names are as Prometheus wants them, all of ours are on the
// page, and the topics are bounded.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.begin([]string{"a"})
	for n := range maxTopics + 5 {
		m.event(fmt.Sprint("Type.action", n))
		m.event("Type.action0")
	}
	if n, other := testutil.CollectAndCount(m.events), testutil.ToFloat64(m.events.WithLabelValues("other")); n != maxTopics+1 || other != 5 {
		t.Errorf("%d series, %v others", n, other)
	}
	m.request(event.Plan{Class: event.Observe})
	m.request(event.Plan{Body: true})
	if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	known := named(t)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if name := family.GetName(); strings.HasPrefix(name, "cmstap_") && !slices.Contains(known, name) {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
}
