package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

const definitionsFile = "testdata/contentful/webhook_definitions.json"

// imported runs cmstap import on a file.
func imported(file string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), nil, []string{"import", "contentful", file}, &out, &err)
	return code, out.String(), err.String()
}

// withSecrets is a config whose variables are set.
func withSecrets(config string) string {
	return regexp.MustCompile(`\{ env: \w+ \}`).ReplaceAllString(config, "{ value: known-secret-of-24-bytes }")
}

// loadImported loads what was imported, as it is but for variables.
func loadImported(t *testing.T, file string) *Config {
	t.Helper()
	code, config, stderr := imported(file)
	if code != 0 || stderr != "" {
		t.Fatal(code, stderr)
	}
	c, err := parseConfig("c.yaml", []byte(withSecrets(config)), &runCommand{Upstream: "https://api.contentful.com"})
	if err != nil {
		t.Fatalf("%v\n%s", err, config)
	}
	return c
}

// TestImport: what is written is what testdata/contentful/webhooks.yaml shows.
func TestImport(t *testing.T) {
	t.Parallel()
	const golden = "testdata/contentful/webhooks.yaml"
	code, got, stderr := imported(definitionsFile)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" || code != 0 {
		t.Errorf("exit code %d, %s\n%s", code, stderr, diff)
	}
	for _, w := range loadImported(t, definitionsFile).Webhooks {
		if !w.Imported {
			t.Errorf("%s is not marked", w.Name)
		}
	}
}

// TestImportForms: one definition, a list, an export of a space.
func TestImportForms(t *testing.T) {
	t.Parallel()
	const one = `{"name":"a","url":"https://x.example","topics":["*.*"],"httpBasicUsername":"u","httpBasicPassword":"p'w","headers":[{"key":"X-S","value":"v","secret":true}]}`
	file := filepath.Join(t.TempDir(), "file.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, form := range []string{one, "[" + one + "]", `{"items":[` + one + `]}`, ` {"contentTypes": [], "webhooks":[` + one + `]}`} {
		write(form)
		w := loadImported(t, file).Webhooks[0]
		if w.Name != "a" || w.Auth.Basic.Password.Reveal() != "p'w" || w.Headers["X-S"].Reveal() != "v" || w.Headers["X-S"].IsPlain() || !slices.Equal(w.Environments, []string{"master"}) {
			t.Errorf("%s: %+v", form, w)
		}
	}
	check := func(text string, want ...string) {
		t.Helper()
		write(text)
		code, out, err := imported(file)
		if diff := cmp.Diff("cmstap: "+strings.Join(want, "\n")+"\n", err); diff != "" || code != 1 || out != "" {
			t.Errorf("%s: exit code %d, %s\n%s", text, code, out, diff)
		}
	}
	filter := func(filters string) string {
		return `{"name":"a","url":"https://x.example","topics":["*.*"],"filters":` + filters + `}`
	}
	const none = "no webhook definitions: want one with a url, a list of them, or an object with items or webhooks"
	check("{}", none)
	check("[]", "the list of webhook definitions is empty")
	check(`{"items":[]}`, "the list of webhook definitions is empty")
	check("{", "not webhook definitions in JSON: unexpected end of JSON input")
	check(`[{"name":"a","url":"https://x.example","topics":["*.*"],"active":false}]`, "none of the webhook definitions is active")
	check("["+filter(`[{"regexp":[{"doc":"sys.id"},{"pattern":"^(?!nav-)"}]}]`)+","+filter(`[{"equals":[{"doc":"sys.id"},"x"]},{"regexp":[{"doc":"sys.id"},{"pattern":"(a)\\1"}]}]`)+"]",
		`webhook "a": filter 1: the pattern "^(?!nav-)" can not be run here (RE2, without look-around and back references): write the filter by hand`,
		`webhook "a": filter 2: the pattern "(a)\\1" can not be run here (RE2, without look-around and back references): write the filter by hand`)
	const refused = "a definition can not be imported as it is; change it in the file:\nwhat would be written:"
	check(`{"name":"a","url":"https://x.example/{ /headers/a }","topics":["*.*"]}`, refused+"4: webhooks[0].url: in { /headers/a }: a pointer starts with /payload, /topic or /user")
	check(`{"name":"a","url":"https://x.example","topics":[]}`, refused+`6: webhooks[0].topics: name at least one topic, for example [Entry.publish, "Asset.*"]; "*.*" is all`)
	for _, bad := range []string{`{"or":[]}`, `{}`, `{"equals":[{"doc":"a"}]}`, `{"equals":[{"doc":"a"},["b"]]}`, `{"in":[{"doc":"a"},"b"]}`, `{"not":{"not":{"equals":[{"doc":"a"},"b"]}}}`, `{"equals":[{},"b"]}`} {
		write(filter("[" + bad + "]"))
		if code, _, err := imported(file); code != 1 || !strings.HasPrefix(err, "cmstap: not webhook definitions in JSON: ") {
			t.Errorf("%s: %s", bad, err)
		}
	}
}

// TestImportDecides: what is imported wants the same events as the vendor's
// rules, read literally.
func TestImportDecides(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(definitionsFile)
	if err != nil {
		t.Fatal(err)
	}
	var collection struct{ Items []map[string]any }
	if err := json.Unmarshal(text, &collection); err != nil {
		t.Fatal(err)
	}
	definitions := slices.DeleteFunc(collection.Items, func(d map[string]any) bool { return d["active"] == false })
	c := loadImported(t, definitionsFile)
	r := rules.New(c.dialect, c.subscribers())
	wanted := map[string]int{}
	samples := loadSamples(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		e := generated(random, samples)
		for i, decision := range r.Match(&e, nil) {
			want := vendorWants(t, definitions[i], e.Topic(), e.Payload)
			if decision.Wanted != want || decision.Undecided != "" {
				t.Fatalf("%s: got %v, want %t, for %s %s", decision.Webhook, decision, want, e.Topic(), e.Payload)
			}
			if want {
				wanted[decision.Webhook]++
			}
		}
	}
	for _, w := range c.Webhooks {
		if n := wanted[w.Name]; (n == 0) != (w.Name == "never") || n == 10_000 {
			t.Errorf("%s wanted %d events", w.Name, n)
		}
	}
}

// loadSamples reads bodies of Contentful's own webhooks, by topic.
func loadSamples(t *testing.T) []map[string]any {
	t.Helper()
	files, _ := filepath.Glob("sender/shape/testdata/contentful.*.json")
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	var bodies []map[string]any
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sample struct{ Request struct{ Body map[string]any } }
		if err := json.Unmarshal(text, &sample); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, sample.Request.Body)
	}
	return bodies
}

// generated makes an event of a sample: with other ids and users, and without
// this and that.
func generated(random *rand.Rand, samples []map[string]any) event.Event {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	sys := map[string]any{}
	body := map[string]any{"sys": sys}
	for name, value := range samples[random.IntN(len(samples))]["sys"].(map[string]any) {
		sys[name] = value
	}
	link := func(id string) any { return map[string]any{"sys": map[string]any{"type": "Link", "id": id}} }
	e := event.Event{Confirmed: true, Type: pick("Entry", "Entry", "Asset", "ContentType", "EnvironmentAlias"), Action: pick("create", "save", "auto_save", "publish", "unpublish", "delete")}
	sys["id"] = pick("nav-1", "nav-", "e1", "a nav-2")
	for name, ids := range map[string][]string{
		"contentType": {"post", "draft", "internal"}, "createdBy": {"u1", "u2", "u3"}, "updatedBy": {"u1", "u2", "u3"}, "deletedBy": {"u1", "robot"},
	} {
		switch {
		case random.IntN(4) == 0:
			delete(sys, name)
		case sys[name] != nil || random.IntN(2) == 0:
			sys[name] = link(pick(ids...))
		}
	}
	delete(sys, "environment")
	if e.Type != "EnvironmentAlias" { // that belongs to the space
		e.Environment = pick("master", "master", "staging", "live")
		sys["environment"] = link(e.Environment)
	}
	e.Payload, _ = json.Marshal(body)
	return e
}

// vendorWants is the vendor's rules, read literally: one of the topics, and all
// of the filters, of which none means the environment master; a filter on a
// property that the payload lacks is false.
func vendorWants(t *testing.T, definition map[string]any, topic string, payload []byte) bool {
	t.Helper()
	var body any
	if err := json.Unmarshal(payload, &body); err != nil {
		t.Fatal(err)
	}
	typ, action, _ := strings.Cut(topic, ".")
	ofTopic := false
	for _, one := range definition["topics"].([]any) {
		is := one.(string)
		ofTopic = ofTopic || is == topic || is == "*.*" || is == typ+".*" || is == "*."+action
	}
	filters, given := definition["filters"].([]any)
	if !given {
		filters = []any{map[string]any{"equals": []any{map[string]any{"doc": "sys.environment.sys.id"}, "master"}}}
	}
	for _, one := range filters {
		if holds, there := vendorFilter(t, one.(map[string]any), body); !holds || !there {
			return false
		}
	}
	return ofTopic
}

func vendorFilter(t *testing.T, filter map[string]any, body any) (holds, there bool) {
	t.Helper()
	if inner, isNot := filter["not"]; isNot {
		holds, there = vendorFilter(t, inner.(map[string]any), body)
		return !holds, there
	}
	for kind, pair := range filter {
		doc, operand := pair.([]any)[0].(map[string]any)["doc"].(string), pair.([]any)[1]
		value := body
		for _, name := range strings.Split(doc, ".") {
			object, _ := value.(map[string]any)
			if value, there = object[name]; !there {
				return false, false
			}
		}
		switch kind {
		case "equals":
			return value == operand, true
		case "in":
			return slices.Contains(operand.([]any), value), true
		case "regexp":
			return regexp.MustCompile(operand.(map[string]any)["pattern"].(string)).MatchString(fmt.Sprint(value)), true
		}
	}
	t.Fatalf("unknown filter %v", filter)
	return false, false
}
