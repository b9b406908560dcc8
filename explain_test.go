package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// explain runs the command in a folder with a config and two bodies.
func explain(t *testing.T, config string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"cmstap.yaml": config, "entry.json": `{"sys":{"id":"x","version":5,"contentType":{"sys":{"id":"page"}}},"fields":{"n":1}}`, "list.json": `{"ids":["a","b"]}`,
		"large.json": `{"ids":["` + strings.Repeat("a", 300_000) + `"]}`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, arg := range args {
		if strings.HasSuffix(arg, ".json") || strings.HasSuffix(arg, ".yaml") {
			args[i] = filepath.Join(folder, arg)
		}
	}
	var out, problems strings.Builder
	code = run(context.Background(), nil, append([]string{"explain", "-c", filepath.Join(folder, "cmstap.yaml")}, args...), &out, &problems)
	return code, out.String(), problems.String()
}

const explained = `
proxy: { upstream: "https://api.contentful.com" }
webhooks:
- { name: posts, url: "http://127.0.0.1/a", topics: ["Entry.*"], filter: 'environment == "master" and payload.sys.contentType.sys.id == "post"' }
- { name: slugs, url: "http://127.0.0.1/b", topics: ["*.publish"], environments: [master], filter: payload.fields.slug != "" }
- { name: all, url: "http://127.0.0.1/c", topics: ["*.*"] }
`

func TestExplain(t *testing.T) {
	t.Parallel()
	check := func(args string, want ...string) {
		t.Helper()
		code, stdout, stderr := explain(t, explained, strings.Fields(args)...)
		for _, part := range want {
			if code != 0 || !strings.Contains(stdout, part) {
				t.Errorf("%s: exit code %d, no %q in\n%s%s", args, code, part, stdout, stderr)
			}
		}
	}
	check("--response entry.json PUT /spaces/s/entries/x/published?a=b",
		"is a write\n  route PUT /spaces/{space}/entries/{id}/published: write\nstatus 200: it happened\nevent Entry.publish\n  entity       x\n  content type page\n",
		"webhook posts: no: its filter is false\n    decided by payload.sys.contentType.sys.id == \"post\"\n    payload.sys.contentType.sys.id is \"page\"\n",
		"webhook slugs: no: its filter is missing: payload.fields.slug\n", "    payload.fields.slug is missing\n", "webhook all: yes\n")
	check("PUT /spaces/s/environments/live/entries/x", `webhook posts: no: its filter is false`, `decided by environment == "master"`, `environment is "live"`)
	check("PUT /spaces/s/entries/x", `webhook posts: undecided, so it is called: payload.sys.contentType.sys.id: explain was not given the answer`, `is unknown`)
	check("--status 409 PUT /spaces/s/entries/x", "status 409: it did not happen\n")
	check("--status 502 PUT /spaces/s/entries/x", "nobody knows", "event Entry.create")
	check("--status 0 DELETE /spaces/s/entries/x", "no answer: nobody knows", "event Entry.delete")
	check("DELETE /spaces/s/entries/x", "the answer has no body")
	check("GET /spaces/s/entries/x", "passed on: it makes no event\n", "the path has DELETE, PATCH, PUT\n")
	check("GET /elsewhere", "no route of the dialect has this method and path\n")
	check("-HX-Contentful-Validate-Only:true PUT /spaces/s/entries/x", `it changes nothing: header.validate_only == "true"`)
	check("--response entry.json GET /spaces/s/environments/x", "its answer is looked at", "alias x of space s leads to nothing")
}

func TestExplainJSON(t *testing.T) {
	t.Parallel()
	_, stdout, _ := explain(t, explained, "--json", "--response", "entry.json", "put", "/spaces/s/entries/x")
	var got struct {
		Class, Outcome string
		Events         []struct {
			Type, Action string
			Payload      struct{ Fields map[string]int }
			Webhooks     []struct{ Webhook, Answer, Part string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Class != "write" || got.Outcome != "done" || len(got.Events) != 1 || got.Events[0].Payload.Fields["n"] != 1 || got.Events[0].Webhooks[2].Answer != "yes" {
		t.Errorf("%+v", got)
	}
}

// TestExplainOwn: with a dialect of one's own, whose route reads the body.
func TestExplainOwn(t *testing.T) {
	t.Parallel()
	dialect := filepath.Join(t.TempDir(), "own.yaml")
	text := `
name: own
resources: [{ type: Post, paths: /posts, routes: bulk }]
routes:
  bulk:
    - { on: POST /delete, when: "len(body.ids) > 0", body: { ids: request.ids }, each: body.ids, event: { id: "${item}" }, action: delete }
`
	if err := os.WriteFile(dialect, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := "proxy: { upstream: 'http://127.0.0.1', dialect: " + dialect + " }\n"
	if _, stdout, _ := explain(t, config, "--request", "list.json", "POST", "/posts/delete"); strings.Count(stdout, "event Post.delete") != 2 {
		t.Error(stdout)
	}
	if _, stdout, _ := explain(t, config, "--request", "large.json", "POST", "/posts/delete"); !strings.Contains(stdout, "its condition can not be decided (len(body.ids) > 0): the request's body is larger") {
		t.Error(stdout)
	}
	if _, stdout, _ := explain(t, config, "POST", "/posts/delete"); !strings.Contains(stdout, "not this one: its condition is not true: len(body.ids) > 0") {
		t.Error(stdout)
	}
}

// TestExplainAccepted: what the CMS does later, in a branch that an alias of the
// config leads to.
func TestExplainAccepted(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := explain(t, `
proxy: { upstream: "https://api.contentstack.io", dialect: contentstack }
aliases: { stack1: { deploy: v2 } }
webhooks:
- { name: branch, url: "http://127.0.0.1/a", topics: [Release.deploy], environments: [v2], filter: accepted }
- { name: alias, url: "http://127.0.0.1/b", topics: [Release.deploy], environments: [deploy] }
`, "-H", "api_key: stack1", "-H", "branch: deploy", "POST", "/v3/releases/r/deploy")
	for _, want := range []string{
		"event Release.deploy (accepted: the CMS does it later)\n", "  space        stack1\n  environment  deploy\n  alias of     v2\n",
		"webhook branch: yes\n", `webhook alias: no: its environments do not include "v2"`,
	} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", code, want, stdout, stderr)
		}
	}
}

// TestExplainPrimary: DatoCMS's primary environment has a name once the config, or
// an answer, tells it.
func TestExplainPrimary(t *testing.T) {
	t.Parallel()
	const config = `
proxy: { upstream: "https://site-api.datocms.com", dialect: datocms }
webhooks: [{ name: w, url: "http://127.0.0.1/", topics: [item.publish], environments: [main] }]
`
	for aliases, want := range map[string]string{
		"":                                   "webhook w: undecided, so it is called: nobody knows yet which environment primary is",
		`aliases: { "": { primary: main } }`: "webhook w: yes\n",
		`aliases: { "": { primary: dev } }`:  `webhook w: no: its environments do not include "dev"`,
	} {
		code, stdout, stderr := explain(t, config+aliases, "PUT", "/items/a/publish")
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit code %d, no %q in\n%s%s", aliases, code, want, stdout, stderr)
		}
	}
}

func TestExplainMistakes(t *testing.T) {
	t.Parallel()
	check := func(want string, args ...string) {
		t.Helper()
		if code, _, stderr := explain(t, explained, args...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
	check(`the path must start with a slash, not "x"`, "PUT", "x")
	check(`want a header as 'Name: value', not "x"`, "-H", "x", "PUT", "/x")
	check("the body can not be read", "--response", "nowhere.json", "PUT", "/spaces/s/entries/x")
}

// TestCheckDialect checks a dialect's file alone.
func TestCheckDialect(t *testing.T) {
	t.Parallel()
	check := func(file string, code int, want string) {
		t.Helper()
		var out, problems strings.Builder
		if got := run(context.Background(), nil, []string{"check", "--dialect", file}, &out, &problems); got != code || !strings.Contains(out.String()+problems.String(), want) {
			t.Errorf("%s: exit code %d, %s%s", file, got, out.String(), problems.String())
		}
	}
	check("contentful", 0, "topics: AppInstallation.create, ")
	check("rules/dialects/rest.yaml", 0, "rest: 4 routes")
	check("nowhere.yaml", 1, "no such file")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("name: a\nroots: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(broken, 1, "broken:2: roots: unknown key; did you mean routes?")
}
