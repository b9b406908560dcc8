package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// learn returns what an answer tells of aliases.
func learn(t *testing.T, r *rules.Rules, method, path string, status int, answer string) []event.Link {
	t.Helper()
	plan := r.Classify(event.Head{Method: method, Path: path, Headers: headers{}}, nil)
	if plan.Class == event.Pass {
		t.Fatalf("%s %s is passed", method, path)
	}
	x := &event.Exchange{Intent: plan.Intent, Status: status, Answer: event.Copy{Bytes: []byte(answer)}}
	if plan.Judge.Judge(status) == event.Accepted {
		x.Outcome = event.Done
	}
	return r.Learn(x)
}

func TestLearn(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	check := func(method, path string, status int, answer string, want ...event.Link) {
		t.Helper()
		if diff := cmp.Diff(want, learn(t, r, method, path, status, answer)); diff != "" {
			t.Errorf("%s %s: %s", method, path, diff)
		}
	}
	const aliases, environments = "/spaces/s/environment_aliases", "/spaces/s/environments"
	const alias = `{"sys":{"type":"EnvironmentAlias","id":"master","version":2},"environment":{"sys":{"type":"Link","linkType":"Environment","id":"live"}}}`
	const list = `{"sys":{"type":"Array"},"total":3,"items":[
		{"sys":{"type":"Environment","id":"live","aliases":[{"sys":{"type":"Link","linkType":"EnvironmentAlias","id":"master"}}]}},
		{"sys":{"type":"Environment","id":"master","aliasedEnvironment":{"sys":{"type":"Link","linkType":"Environment","id":"live"}}}},
		{"sys":{"type":"Environment","id":"staging"}}]}`
	live, none := event.Link{Space: "s", Alias: "master", Target: "live"}, event.Link{Space: "s", Alias: "master"}

	check("GET", aliases, 200, `{"items":[`+alias+`]}`, live)
	check("GET", aliases+"/master", 200, alias, live)
	check("GET", aliases+"/master", 404, `{"sys":{"type":"Error"}}`)
	check("GET", environments, 200, list, event.Link{Space: "s", Alias: "live"}, live, event.Link{Space: "s", Alias: "staging"})
	check("GET", environments+"/live", 200, `{"sys":{"id":"live","aliases":[{"sys":{"id":"master"}}]}}`, event.Link{Space: "s", Alias: "live"}, live)
	check("GET", environments+"/master", 200, `{"sys":{"id":"master","aliasedEnvironment":{"sys":{"id":"live"}}}}`, live)
	check("GET", environments+"/master", 200, `{"sys":{"id":"master","aliasedEnvironment":{"sys":{"id":"live"}},"aliases":[{"sys":{"id":"master"}}]}}`, live, live)
	check("PUT", environments+"/master", 201, `{"sys":{"id":"master"}}`, none)
	check("GET", environments+"/master", 200, `{}`)
	check("PUT", aliases+"/master", 200, `{"sys":{"type":"Error"}}`)
	check("GET", environments, 200, `{"items":[`+strings.Repeat("0,", 100_000)+`0]}`)
	for _, broken := range []string{``, `[]`, `{"items":3}`, `{"items":[3,{},{"sys":{"id":7}}]}`, `{"items":`} {
		for _, link := range learn(t, r, "GET", aliases, 200, broken) {
			if link.Target != "" {
				t.Errorf("%s teaches %+v", broken, link)
			}
		}
	}
}

// TestAddressed: an event tells the environment as the caller addressed it,
// and what that is an alias of; the entity is the same either way.
func TestAddressed(t *testing.T) {
	t.Parallel()
	links := event.Links{{Space: "s", Name: "master"}: "live", {Space: "s", Name: "gone"}: ""}
	r := rules.New(contentful(t), nil)
	derive := func(path string) event.Event {
		x := exchange(r, "PUT", path, nil, 200, `{"sys":{"id":"x","version":3}}`)
		return r.Derive(x, links, nil)[0]
	}
	direct := derive("/spaces/s/environments/live/entries/x")
	for path, want := range map[string]event.Event{
		"/spaces/s/entries/x":                       {Environment: "master", Alias: "master", Target: "live"},
		"/spaces/s/environments/master/entries/x":   {Environment: "master", Alias: "master", Target: "live"},
		"/spaces/s/environments/live/entries/x":     {Environment: "live"},
		"/spaces/s/environments/gone/entries/x":     {Environment: "gone"},
		"/spaces/other/environments/live/entries/x": {Environment: "live"},
	} {
		e := derive(path)
		if e.Environment != want.Environment || e.Alias != want.Alias || e.Target != want.Target {
			t.Errorf("%s: environment %q alias %q target %q", path, e.Environment, e.Alias, e.Target)
		}
		if same := e.Key() == direct.Key(); same != (e.Space == "s" && want.Environment != "gone") {
			t.Errorf("%s: same entity: %t", path, same)
		}
		plan := r.Classify(event.Head{Method: "PUT", Path: path, Headers: headers{}}, links)
		if plan.Intent.Entity != e.Key() {
			t.Errorf("%s: the head gives another entity than the answer", path)
		}
		if e.ID != r.Derive(exchange(r, "PUT", path, nil, 200, `{"sys":{"id":"x","version":3}}`), nil, nil)[0].ID {
			t.Errorf("%s: the event's id changes with the alias", path)
		}
	}
}

// TestTenantByHeader: aliases may belong to a tenant that only a header names,
// payloads may say which aliases there are, and environments may mean what an
// alias leads to.
func TestTenantByHeader(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("t.yaml", []byte(`
name: t
match: target
headers: { tenant: X-Tenant, stage: X-Stage }
query: { only: only }
resources: [{ type: Post, paths: /posts, routes: w }]
routes:
  w: [{ on: "PUT /{id}", action: save, payload: p }]
event: { space: "${header.tenant}", environment: '${header.stage ?? "main"}', id: "${path.id}" }
payloads:
  identity: { id: "${entity.id}" }
  p: { stage: "${target ?? environment}", aliases: "${aliases}" }
links:
  - on: GET /stages
    space: ${header.tenant}
    each: "flatten(map(response.stages, let s = #; map(s.names, ({'name': #, 'stage': s.id}))))"
    alias: ${item.name}
    target: ${query.only ?? item.stage}
`))
	if err != nil {
		t.Fatal(err)
	}
	var s rules.Subscription
	if err := setting.Decode("t", []byte("{topics: ['*.*'], environments: [v2]}"), &s, s.Validate); err != nil {
		t.Fatal(err)
	}
	r := rules.New(d, []rules.Webhook{{Name: "w", Subscription: s}})
	learned := func(query string) []event.Link {
		plan := r.Classify(event.Head{Method: "GET", Path: "/stages", Query: query, Headers: headers{"X-Tenant": "acme"}}, nil)
		return r.Learn(&event.Exchange{
			Intent: plan.Intent, Outcome: event.Done, Answer: event.Copy{Bytes: []byte(`{"stages":[{"id":"v2","names":["live","beta"]},{"id":"v3","names":[]}]}`)},
		})
	}
	want := []event.Link{{Space: "acme", Alias: "live", Target: "v2"}, {Space: "acme", Alias: "beta", Target: "v2"}}
	if diff := cmp.Diff(want, learned("")); diff != "" {
		t.Error(diff)
	}
	if got := learned("only=v9")[0].Target; got != "v9" {
		t.Errorf("got %s", got)
	}
	links := event.Links(nil).With(want)
	for stage, want := range map[string]string{
		"live": `{"stage":"v2","aliases":["beta","live"]} true`, "v2": `{"stage":"v2","aliases":["beta","live"]} true`,
		"v3": `{"stage":"v3","aliases":[]} false`,
	} {
		events, _ := tellWith(t, r, story{method: "PUT", path: "/posts/x", headers: headers{"X-Tenant": "acme", "X-Stage": stage}, status: 200}, links)
		if got := fmt.Sprint(string(events[0].Payload), " ", r.Match(&events[0], links)[0].Wanted); got != want {
			t.Errorf("%s: %s", stage, got)
		}
	}
}
