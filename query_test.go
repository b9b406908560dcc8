package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// operator runs commands against a cmstap, with a config that only the operator
// has: a secret of a webhook is not known there.
type operator struct {
	t      *testing.T
	config string
}

func newOperator(t *testing.T, listen, token string) operator {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cmstap.yaml")
	text := "proxy: { upstream: https://cms.example }\nadmin: { listen: '" + listen + "', token: { value: " + token + " } }\n" +
		"webhooks: [{ name: a, url: https://x.example, topics: '*.*', headers: { X-Key: { env: CMSTAP_NOT_SET } } }]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return operator{t, file}
}

// run returns the exit code and what was printed, with what differs from run to
// run replaced.
func (o operator) run(args ...string) (code int, stdout, stderr string) {
	o.t.Helper()
	var out, errs bytes.Buffer
	code = run(o.t.Context(), nil, append(args, "-c", o.config), &out, &errs)
	return code, out.String(), errs.String()
}

var variable = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{64}|[0-9a-f]{48}|\b[\d.]+m?s\b|127\.0\.0\.1:\d+`)

// steady replaces times, ids and addresses, and takes the tables apart.
func steady(text string) string {
	lines := strings.Split(strings.TrimSpace(variable.ReplaceAllString(text, "~")), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

func TestOperatorCommands(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"sys":{"type":"Entry","id":"hello","version":1},"fields":{}}`)
	}))
	hooks := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.WriteHeader(400)
		_, _ = io.WriteString(w, "no \x1b[2J")
	}))
	const token = "a-token-of-a-test"
	p := start(t, program, `
proxy: { listen: "127.0.0.1:0", upstream: "`+cms.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0", token: { value: `+token+` } }
webhooks:
- { name: bad, url: "`+hooks.URL+`/x", topics: "*.*", method: DELETE, retry: { delays: [], on: [5xx] } }
- { name: quiet, url: "`+hooks.URL+`/x", topics: Asset.delete }
`)
	for range 3 {
		if status, body, err := ask("PUT", "http://"+p.proxy+"/spaces/s/environments/master/entries/hello", "{}", nil); err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, body, err)
		}
		p.waitLine(t, "msg=failed", "webhook=bad")
	}
	o := newOperator(t, p.admin, token)
	check := func(want string, args ...string) string {
		t.Helper()
		code, stdout, stderr := o.run(args...)
		if diff := cmp.Diff(want, steady(stdout)); code != 0 || stderr != "" || diff != "" || strings.Contains(stdout, "\x1b") {
			t.Errorf("%v: exit code %d, %s%s", args, code, stderr, diff)
		}
		return stdout
	}
	check("WEBHOOK WAITING OLDEST GIVEN UP\nbad 0 - 3\nquiet 0 - 0", "webhooks")
	const head = "TIME WEBHOOK RESULT STATUS TOOK TRY TOPIC ENTITY ID"
	const call = "~ bad failed 400 ~ 1 Entry.save hello ~"
	check(head+"\n"+call+"\n"+call+"\n"+call, "calls")
	check(head+"\n"+call+"\n"+call, "calls", "--limit", "2", "--result", "failed", "--webhook", "bad", "--text", "ENTRY", "--since", "1h")
	check(head, "calls", "--topic", "Entry.delete")
	_, stdout, _ := o.run("calls", "--json", "--limit=1")
	var page event.Page[event.Call]
	if err := json.Unmarshal([]byte(stdout), &page); err != nil || len(page.Items) != 1 || page.Cursor == "" {
		t.Fatalf("%v %s", err, stdout)
	}
	check("call ~\nwebhook bad\nevent ~\ntopic Entry.save\nentity hello\nenvironment master\nattempt 1\ntime ~\ntook ~\nresult failed\nstatus 400\n\n"+
		"DELETE http://~/<secret> (0 bytes)\nX-Cmstap-Event: ~\n"+
		"X-Contentful-Crn: crn:contentful:::content:spaces/s/environments/master/entries/hello\nX-Contentful-Event-Datetime: ~\nX-Contentful-Idempotency-Key: ~\n"+
		"X-Contentful-Topic: ContentManagement.Entry.save\nX-Contentful-Webhook-Name: bad\nX-Contentful-Webhook-Request-Attempt: 1\n\n400\nContent-Length: 7\n\nno \uFFFD[2J", "show", page.Items[0].ID)
	const recorded = "~ Entry.save hello master bad ~"
	check("TIME TOPIC ENTITY ENVIRONMENT WEBHOOKS ID\n"+recorded+"\n"+recorded, "events", "--limit=2", "--entity", "hello", "--since", "1h")
	check("event ~\ntopic Entry.save\nentity hello\nenvironment master\ntime ~\nconfirmed true\nrequest PUT /spaces/s/environments/master/entries/hello\npayload 61 bytes\n\n"+
		"WEBHOOK STATE TRIES NEXT REASON\nbad failed 1 - this failure is not retried (webhooks[].retry.on)\n\n"+head+"\n"+call, "show", page.Items[0].Event)
	_, stdout, _ = o.run("show", "--json", page.Items[0].Event)
	var story event.Story
	if err := json.Unmarshal([]byte(stdout), &story); err != nil || story.ID != page.Items[0].Event || len(story.Calls) != 1 || !strings.Contains(string(story.Content), "hello") {
		t.Errorf("%v %s", err, stdout)
	}
	refused := func(o operator, want string, args ...string) {
		t.Helper()
		code, stdout, stderr := o.run(args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, token) {
			t.Errorf("%v: exit code %d, %s%s", args, code, stdout, stderr)
		}
	}
	refused(o, p.admin+" answered 404: there is none of that id", "show", "nothing")
	refused(o, p.admin+` answered 400: since must be a time such as`, "calls", "--since", "yesterday")
	refused(o, "--limit must be at least 1", "calls", "--limit", "0")
	refused(newOperator(t, p.admin, "another-token-of-a-test"), p.admin+" answered 401: send the header", "webhooks")
	refused(newOperator(t, "", token), "admin.listen is empty", "webhooks")
	refused(newOperator(t, "127.0.0.1:0", token), "admin.listen names no port", "webhooks")
	refused(newOperator(t, p.admin, "short"), "admin.token: must have at least 16 characters", "webhooks")
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
	refused(o, fmt.Sprint(p.admin, " (admin.listen) does not answer; does cmstap run with this config?"), "webhooks")
}
