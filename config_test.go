package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
)

func TestExampleConfig(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseConfig("config.example.yaml", text, &runCommand{}); err != nil {
		t.Fatal(err)
	}
	seen := keysOf(string(text))
	for _, key := range setting.Keys(&Config{}) {
		if !seen[key] {
			t.Errorf("config.example.yaml does not show %s", key)
		}
	}
	c := defaultConfig()
	example, _ := parseConfig("config.example.yaml", text, &runCommand{})
	if diff := cmp.Diff(c.Outbox, example.Outbox); diff != "" {
		t.Errorf("the example differs from the defaults: %s", diff)
	}
	if c.Proxy.MaxHeader != example.Proxy.MaxHeader || c.Proxy.AnswerTimeout != example.Proxy.AnswerTimeout || c.Log != example.Log {
		t.Error("the example differs from the defaults")
	}
}

// keysOf finds the keys of a YAML text by its indentation and braces: another
// reader than the one under test.
func keysOf(text string) map[string]bool {
	seen := map[string]bool{}
	var path [20]string
	key := regexp.MustCompile(`([\w-]+):( |$)`)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), "#")
		depth := (len(line) - len(strings.TrimLeft(line, " -"))) / 2
		if depth > 0 && path[0] == "webhooks[]" {
			depth-- // the dash of the list
		}
		at := key.FindAllStringSubmatchIndex(line, -1)
		for _, match := range at {
			level := depth + strings.Count(line[:match[0]], "{") - strings.Count(line[:match[0]], "}")
			name := line[match[2]:match[3]]
			if name == "webhooks" {
				name = "webhooks[]"
			}
			path[level] = name
			seen[strings.Join(path[:level+1], ".")] = true
		}
	}
	return seen
}

// TestBrokenConfig: all mistakes at once, each with its line, exit code 1.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "broken.yaml")
	const text = `proxy:
  lisen: 127.0.0.1:8080
  upstream: api.contentful.com
  dialect: contentfull
  durability: maybe
  trusted_proxies: [10.0.0.0/33]
outbox:
  retention: { delivered: a week }
  max_size: 1KiB
  min_free: 63MiB
webhooks:
  - name: a
    url: ftp://x
    topics: [publish]
    filter: payload.sys.id = "x"
    retry: { delays: [5], on: [6xx] }
  - name: a
    url: https://x.example/
    topics: ["*.*"]
    auth: { basic: { username: u, password: hunter2 } }
    timeout: -1s
    headers: { "X Y": a, Host: b, X-Fine: c }
admin: { listen: ":8081", hosts: ["x:1"] }
log: { level: loud, fromat: text }
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := run(context.Background(), nil, []string{"run", "-c", path}, io.Discard, &stderr); code != 1 {
		t.Errorf("exit code %d", code)
	}
	want := `cmstap: broken.yaml:2: proxy.lisen: unknown key; did you mean listen?
broken.yaml:3: proxy.upstream: the address must start with http:// or https://
broken.yaml:4: proxy.dialect: there is no dialect "contentfull"; built in: contentful, contentstack, contentstack-concise, datocms, rest, strapi, wordpress; or give the path of a file, ./my-cms.yaml
broken.yaml:5: proxy.durability: must be required or best_effort
broken.yaml:6: proxy.trusted_proxies[0]: want an address or a range such as 10.0.0.0/8, not "10.0.0.0/33"
broken.yaml:8: outbox.retention.delivered: want a time span such as 30s, 1h30m or 7d, not "a week"
broken.yaml:9: outbox.max_size: must be at least 64MiB
broken.yaml:10: outbox.min_free: must be at least 64MiB: the store needs room to tidy itself up
broken.yaml:13: webhooks[0].url: the address must start with http:// or https://
broken.yaml:14: webhooks[0].topics[0]: want Type.Action with * on either side, for example Entry.publish or "*.*", not "publish"
broken.yaml:15: webhooks[0].filter: in "payload.sys.id = \"x\"": 1:16: unexpected token Operator("=")
broken.yaml:16: webhooks[0].retry.delays[0]: want a time span such as 30s, 1h30m or 7d, not "5"
broken.yaml:16: webhooks[0].retry.on[0]: want timeout, connection, a status such as 429 or a class such as 5xx, not "6xx"
broken.yaml:17: webhooks[1].name: the name "a" is taken by webhooks[0]
broken.yaml:20: webhooks[1].auth.basic.password: write a secret as { env: NAME }, { file: PATH } or { value: TEXT }
broken.yaml:21: webhooks[1].timeout: want a time span such as 30s, 1h30m or 7d, not "-1s"
broken.yaml:22: webhooks[1].headers.Host: is set by cmstap and can not be given
broken.yaml:22: webhooks[1].headers.X Y: is not a valid header name
broken.yaml:23: admin.hosts[0]: want a name without scheme and port, for example cmstap.internal, not "x:1"
broken.yaml:23: admin.listen: other machines may reach it: give an admin.token, or listen on 127.0.0.1
broken.yaml:24: log.fromat: unknown key; did you mean format?
broken.yaml:24: log.level: must be debug, info, warn or error
`
	if diff := cmp.Diff(want, strings.ReplaceAll(stderr.String(), folder+"/", "")); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsWin(t *testing.T) {
	t.Parallel()
	flags := &runCommand{Listen: "127.0.0.1:9", Upstream: "http://127.0.0.1:8/base", Data: "/tmp/x"}
	c, err := parseConfig("c.yaml", []byte("proxy: { listen: 127.0.0.1:1, upstream: 'http://a' }\noutbox: { path: y }"), flags)
	if err != nil {
		t.Fatal(err)
	}
	if c.Proxy.Listen != flags.Listen || c.Proxy.Upstream.String() != flags.Upstream || c.Outbox.Path != flags.Data {
		t.Errorf("got %+v", c)
	}
	if _, err := parseConfig("c.yaml", []byte("log: { level: info }"), flags); err != nil {
		t.Error(err)
	}
	flags.Upstream = "nowhere"
	if _, err := parseConfig("c.yaml", []byte("log: { level: info }"), flags); err == nil || !strings.Contains(err.Error(), "--upstream") {
		t.Errorf("got %v", err)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	check := func(code int, out, err string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := run(context.Background(), nil, args, &stdout, &stderr); got != code {
			t.Errorf("%v: exit code %d, want %d", args, got, code)
		}
		if !strings.Contains(stdout.String(), out) || !strings.Contains(stderr.String(), err) {
			t.Errorf("%v: got %q and %q", args, stdout.String(), stderr.String())
		}
	}
	check(0, "Usage: cmstap <command>", "")
	check(0, "Usage: cmstap <command>", "", "--help")
	check(0, "cmstap development go1.", "", "version")
	check(1, "", "unexpected argument stroll", "stroll")
	check(1, "", "name the config file: -c cmstap.yaml", "run")
	check(1, "", "the config can not be read: open nowhere.yaml", "run", "-c", "nowhere.yaml")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), nil, []string{"demo"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, stderr.String(), stdout.String())
	}
	for _, want := range []string{"All 10 expected deliveries arrived", "attempt 1, answered 503", "(attempt 2)", "What a tap can not see"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in:\n%s", want, stdout.String())
		}
	}
}

func TestQueueMistakes(t *testing.T) {
	t.Parallel()
	check := func(dialect, settings, want string) {
		t.Helper()
		text := "proxy: { upstream: https://cms.example, dialect: " + dialect + " }\nwebhooks:\n- name: a\n  url: https://x.example\n  topics: '*.*'\n  " + settings
		got := ""
		if _, err := parseConfig("c.yaml", []byte(text), &runCommand{}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s, %s: %s", dialect, settings, got)
		}
	}
	check("contentful", "order: none", "")
	check("contentful", "superseded: skip", "")
	check("contentstack", "superseded: deliver", "")
	check("contentful", "order: some", "c.yaml:6: webhooks[0].order: must be entity or none")
	check("contentful", "superseded: drop", "c.yaml:6: webhooks[0].superseded: must be deliver or skip")
	for _, dialect := range []string{"contentstack", "contentstack-concise"} {
		check(dialect, "superseded: skip", "c.yaml:6: webhooks[0].superseded: events of Contentstack name their locale in the payload only, "+
			"so what looks superseded may be of another locale; leave it out")
	}
}

func TestPayloadMistakes(t *testing.T) {
	t.Parallel()
	check := func(dialect, settings, want string) {
		t.Helper()
		text := "proxy: { upstream: https://cms.example, dialect: " + dialect + " }\nwebhooks:\n- name: a\n  url: https://x.example/\n  topics: '*.*'\n  " + settings
		got := ""
		if _, err := parseConfig("c.yaml", []byte(text), &runCommand{}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s, %s: %s", dialect, settings, got)
		}
	}
	for _, dialect := range []string{"contentful", "contentstack", "datocms", "strapi"} {
		check(dialect, "payload: native", "")
		check(dialect, "payload: concise", "c.yaml:6: webhooks[0].payload: only the dialect contentstack-concise has a concise form, and it is for all webhooks: "+
			"set proxy.dialect, and leave payload out")
	}
	check("contentstack-concise", "payload: concise", "")
	check("contentful", "body:\n    text:\n    - '${payload.sys.id'", `c.yaml:8: webhooks[0].body.text[0]: in "${payload.sys.id": a ${ has no closing brace; `+
		"if the text goes on after a #, put it in quotes")
	check("contentful", "headers: { X-A: '${tpye}' }", `c.yaml:6: webhooks[0].headers.X-A: in "tpye": 1:1: unknown name tpye; known are: `+
		"id, time, type, action, topic, space, environment, alias, target, entity, actor, payload, request, confirmed, accepted, late, cause, changes, events, before")
}

// Far too many webhooks are refused before anything is made of them.
func TestTooManyWebhooks(t *testing.T) {
	t.Parallel()
	check := func(n int, hook, want string) {
		t.Helper()
		var text strings.Builder
		text.WriteString("proxy: { upstream: https://cms.example }\nwebhooks:\n")
		for i := range n {
			fmt.Fprintf(&text, hook, i)
		}
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		got := ""
		if _, err := loadConfig(file, &runCommand{}); err != nil {
			got = strings.ReplaceAll(err.Error(), file, "FILE")
		}
		if got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	const short = "- { name: a%d, url: http://x.example, topics: a.b }\n"
	check(1000, short, "")
	check(1001, short, "FILE:3: webhooks: at most 1000 webhooks; there are 1001")
	check(100_000, "- {name: a%d}\n", "FILE:3: webhooks: at most 1000 webhooks; there are 100000")
	check(100_000, short, "FILE: the file is larger than 4 MiB, which is room for 1000 webhooks, and there can be no more")
}

func TestBatchMistakes(t *testing.T) {
	t.Parallel()
	check := func(batch, want string) {
		t.Helper()
		_, err := parseConfig("c.yaml", []byte("webhooks: [{ name: a, url: 'https://x.example', topics: ['*.*'], "+batch+" }]"), &runCommand{Upstream: "https://api.contentful.com"})
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", batch, got, want)
		}
	}
	check("batch: {}", "<nil>")
	check("batch: { by: cause, wait: 0s }, payload: cloudevents", "<nil>")
	check("batch: { by: topic }", "c.yaml:1: webhooks[0].batch.by: must be webhook or cause")
	check("batch: { wait: 2m }", "c.yaml:1: webhooks[0].batch.max_wait: must be at least as long as wait, and at most 1d")
	check("batch: { max_events: 501 }", "c.yaml:1: webhooks[0].batch.max_events: must be from 1 to 500")
	check("batch: {}, superseded: skip", "c.yaml:1: webhooks[0].superseded: a batch is one call already, and one that failed comes again as it was: leave it out")
	check("batch: {}, content_type: text/plain", "c.yaml:1: webhooks[0].content_type: many events have a form of their own: leave it out, or give a body of your own")
	check("batch: {}, payload: native", "c.yaml:1: webhooks[0].payload: native has no form for many events: leave it out, or choose envelope, cloudevents or a body of your own")
}
