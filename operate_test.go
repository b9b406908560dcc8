package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cmstap/event"
)

const saved = "ContentManagement.Entry.save"

// TestResendStory: what failed is counted and sent again, once and marked; so is a
// single call; and scripts learn from the exit code.
func TestResendStory(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*", retry: { delays: [], on: [5xx] } }`)
	if _, stderr := d.do(2, "resend", "--failed", "--yes"); !strings.Contains(stderr, "there is nothing to send") {
		t.Error(stderr)
	}
	d.receiver.refuses.Store(true)
	for n := range 3 {
		d.write(fmt.Sprint("e", n), "{}")
		d.waitLine(t, "msg=failed", "webhook=a")
	}
	if a := d.webhook("a"); a.Dead != 3 || fmt.Sprint(a.Recent) != "[failed failed failed]" || a.Breaker != "closed" {
		t.Errorf("%+v", a)
	}
	d.receiver.refuses.Store(false)
	if _, stderr := d.do(1, "resend", "--failed", "--webhook", "a"); !strings.Contains(stderr, "Send again 3 deliveries that were given up? Say --yes") {
		t.Error(stderr)
	}
	stdout, _ := d.do(0, "resend", "--failed", "--yes", "--json", "--rate", "1000", "--since", "1h")
	var tally event.Tally
	if err := json.Unmarshal([]byte(stdout), &tally); err != nil || tally.Deliveries != 3 || !tally.Done {
		t.Errorf("%v %s", err, stdout)
	}
	for range 3 {
		d.got("a " + saved + " resend")
		if line := d.waitLine(t, "msg=delivered", "webhook=a"); !strings.Contains(line, "attempt=1") || !strings.Contains(line, "redelivery=resend") {
			t.Error(line)
		}
	}
	if a := d.webhook("a"); a.Dead != 0 || a.Waiting != 0 || len(a.Recent) != 6 {
		t.Errorf("%+v", a)
	}
	var page event.Page[event.Call]
	d.api("GET", "/api/calls?result=delivered&limit=1", "", &page)
	d.do(0, "resend", page.Items[0].ID)
	d.got("a " + saved + " resend")
	d.waitLine(t, "msg=delivered", "webhook=a")
	d.do(0, "resend", page.Items[0].Event)
	d.got("a " + saved + " resend")
	d.waitLine(t, "msg=delivered", "webhook=a")
	d.do(0, "resend", page.Items[0].Event, "a", "--json")
	d.got("a " + saved + " resend")
	if _, stderr := d.do(1, "resend", page.Items[0].Event, "b"); !strings.Contains(stderr, `answered 404: the config that runs has no webhook "b"`) {
		t.Error(stderr)
	}
	d.do(1, "resend", strings.Repeat("0", 64))
	d.do(1, "resend")
}

// TestResendSurvivesAKill: what was sent again before a kill is due as before; the
// rest can be asked for again, and everything arrives once.
func TestResendSurvivesAKill(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*", retry: { delays: [], on: [5xx] } }`)
	const failed = 20
	d.receiver.refuses.Store(true)
	for n := range failed {
		d.write(fmt.Sprint("e", n), "{}")
		d.waitLine(t, "msg=failed", "webhook=a")
	}
	d.receiver.refuses.Store(false)
	var tally event.Tally
	d.api("POST", "/api/resend?rate=1", "", &tally)
	d.got("a " + saved + " resend") // the first is due at once
	d.kill()
	d.start(t)
	a := d.webhook("a")
	if tally.Deliveries != failed || a.Dead != 0 || a.Waiting == 0 { // a second apart: they are not due all at once
		t.Errorf("%+v %+v", tally, a)
	}
	var page event.Page[event.Recorded]
	d.api("GET", "/api/events?limit=500", "", &page)
	for _, e := range page.Items { // nobody waits for them here
		if status, text, err := ask("POST", "http://"+d.admin+"/api/events/"+e.ID+"/resend?webhook=a", "", map[string]string{"Authorization": "Bearer " + deskToken}); err != nil || status != 200 && status != 409 {
			t.Errorf("%d %s %v", status, text, err)
		}
	}
	for n := range failed {
		d.waitLine(t, "msg=delivered", fmt.Sprintf("entity=e%d ", n), "attempt=1", "redelivery=resend")
	}
}

// TestKillAmidResend: a kill in the middle of sending many again loses none: what was
// reached is due, the rest is still given up and counted.
func TestKillAmidResend(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*", order: none, retry: { delays: [], on: [5xx] } }`)
	const failed = 350 // several transactions
	d.receiver.refuses.Store(true)
	for n := range failed {
		d.write(fmt.Sprint("e", n), "{}")
		d.waitLine(t, "msg=failed", "webhook=a")
	}
	d.receiver.refuses.Store(false)
	var posting sync.WaitGroup
	posting.Go(func() { // it may end in the middle
		_, _, _ = ask("POST", "http://"+d.admin+"/api/resend?rate=500", "", map[string]string{"Authorization": "Bearer " + deskToken})
	})
	d.got("a " + saved + " resend")
	d.kill()
	posting.Wait()
	d.start(t)
	given := d.webhook("a").Dead
	var count, tally event.Tally
	d.api("GET", "/api/resend", "", &count)
	d.api("POST", "/api/resend?rate=500", "", &tally)
	if tally.Deliveries != given || count.Deliveries != given || given == failed {
		t.Errorf("%d were given up, %d counted, %d sent again", given, count.Deliveries, tally.Deliveries)
	}
	t.Logf("%d of %d were reached before the kill", failed-given, failed)
	missing := func() (n int) {
		for i := range failed {
			if _, taken := d.receiver.taken.Load(fmt.Sprint("e", i)); !taken {
				n++
			}
		}
		return n
	}
	for missing() > 0 {
		d.got("a " + saved + " resend")
	}
}

// TestPauseStory: a paused webhook gets nothing, over a restart too, and then all.
func TestPauseStory(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `
- { name: a, url: "HOOKS/a", topics: "*.*" }
- { name: b, url: "HOOKS/b", topics: "*.*" }
`)
	stdout, _ := d.do(0, "pause", "a")
	if stdout != "a is paused\n" {
		t.Error(stdout)
	}
	d.waitLine(t, "level=WARN", "msg=paused", "webhook=a", "by=operator")
	d.write("x", "{}")
	d.got("b " + saved)
	if a := d.webhook("a"); !a.Paused || a.Waiting != 1 || d.webhook("b").Paused {
		t.Errorf("%+v", a)
	}
	if _, err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	d.waitLine(t, "level=WARN", "msg=paused", "webhook=a", "waiting=1")
	d.write("y", "{}")
	d.got("b " + saved)
	stdout, _ = d.do(0, "webhooks")
	if !strings.Contains(steady(stdout), "a 2 ~ 0 paused") {
		t.Error(steady(stdout))
	}
	_, metrics, _ := ask("GET", "http://"+d.admin+"/metrics", "", map[string]string{"Authorization": "Bearer " + deskToken})
	if !strings.Contains(metrics, `cmstap_webhook_paused{webhook="a"} 1`) || !strings.Contains(metrics, `cmstap_webhook_paused{webhook="b"} 0`) {
		t.Error("the metric is missing")
	}
	d.do(0, "resume", "a", "--json")
	d.got("a "+saved, "a "+saved)
	for range 2 { // no attempt was burnt
		d.waitLine(t, "msg=delivered", "webhook=a", "attempt=1")
	}
	d.do(1, "pause", "none")
}

// TestRecorded: a recorded event is explained as a request is, with what was before,
// put through the config once more, and decided by another config beside it.
func TestRecorded(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `
- { name: a, url: "HOOKS/a", topics: "*.*", filter: 'payload.fields.n == 2' }
- { name: b, url: "HOOKS/b", topics: "*.*", filter: 'changed("fields.n")', on_unknown: skip }
- { name: c, url: "HOOKS/c", topics: "Asset.*" }
`)
	d.write("x", `{"n":1}`)
	d.waitLine(t, "msg=captured")
	d.write("x", `{"n":2}`)
	d.waitLine(t, "msg=captured")
	for range 2 {
		<-d.receiver.arrived
		d.waitLine(t, "msg=delivered")
	}
	var events event.Page[event.Recorded]
	d.api("GET", "/api/events", "", &events)
	newest, first := events.Items[0], events.Items[1]
	if newest.BeforeEvent != first.ID || first.BeforeEvent != "" {
		t.Errorf("%q %q", newest.BeforeEvent, first.BeforeEvent)
	}
	var story event.Story
	d.api("GET", "/api/events/"+newest.ID, "", &story)
	if !strings.Contains(string(story.Before), `"n":1`) || !strings.Contains(string(story.Content), `"n":2`) {
		t.Errorf("%s %s", story.Before, story.Content)
	}
	stdout, _ := d.do(0, "explain", newest.ID)
	want := "event Entry.save\n" +
		"webhook a: yes\ndecided by payload.fields.n == 2\npayload.fields.n is 2\n" +
		"webhook b: yes\ndecided by changed(\"fields.n\")\nchanges is [\"fields.n\",\"sys.version\"]\n" +
		"webhook c: no: its topics do not include Entry.save"
	if got := steady(stdout); got != want {
		t.Error(got)
	}
	stdout, _ = d.do(0, "explain", first.ID, "--webhook", "b")
	if got := steady(stdout); !strings.Contains(got, "before: the state before is not known\nwebhook b: no: what it asks for is unknown") || strings.Contains(got, "webhook a") {
		t.Error(got)
	}
	d.do(1, "explain", newest.ID, "--webhook", "none")
	var same event.Explanation
	d.api("GET", "/api/events/"+newest.ID+"/explain?webhook=a", "", &same)
	if len(same.Webhooks) != 1 || same.Webhooks[0].Reads[0].Value != "2" {
		t.Errorf("%+v", same)
	}
	d.do(1, "explain", "PUT")

	if _, stderr := d.do(1, "replay", "--since", "1h"); !strings.Contains(stderr, "Send 2 deliveries of 2 events again? Say --yes") {
		t.Error(stderr)
	}
	if stdout, _ = d.do(0, "replay", "--since", "1h", "--yes", "--webhook", "a"); stdout != "1 deliveries are due again\n" {
		t.Error(stdout)
	}
	d.got("a " + saved + " replay")
	d.do(2, "replay", "--since", "1h", "--yes", "--topic", "Entry.delete")
	d.do(1, "replay")

	other := filepath.Join(t.TempDir(), "new.yaml")
	compare := func(code int, text string, want ...string) {
		t.Helper()
		if err := os.WriteFile(other, []byte("proxy: { upstream: https://x.example }\nadmin: { listen: '', token: { env: CMSTAP_NOT_SET } }\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		got := run(t.Context(), nil, []string{"replay", "--diff", "--since", "1h", "-c", other, "--at", d.operator.config}, &out, &errs)
		if got != code {
			t.Errorf("exit code %d: %s%s", got, &out, &errs)
		}
		for _, part := range want {
			if !strings.Contains(steady(out.String()+errs.String()), part) {
				t.Errorf("no %q in %s%s", part, &out, &errs)
			}
		}
	}
	compare(2, `
webhooks:
- { name: a, url: https://x.example, topics: "*.*", headers: { X-Key: { env: CMSTAP_NOT_SET } }, signing: { secret: { file: /no/such/file } }, tls: { ca: /no/such/file } }
- { name: b, url: https://x.example, topics: "*.*", filter: 'before.fields.n == 9' }
`, "2 events: 1 deliveries are the same, 2 appear, 1 disappear; 1 events can not be decided", "~ appears a Entry.save x ~", "~ disappears b Entry.save x ~", "~ appears b Entry.save x ~", "3 deliveries differ")
	compare(0, `
webhooks:
- { name: a, url: https://x.example, topics: "*.*", filter: 'payload.fields.n == 2' }
- { name: b, url: https://x.example, topics: "*.*", filter: 'changed("fields.n")', on_unknown: skip }
`, "2 events: 2 deliveries are the same, 0 appear, 0 disappear; 1 events")
	compare(1, "webhooks: [{ name: a, url: https://x.example, topics: '*.*', filter: 'payload.(' }]", "answered 400: config:3: webhooks[0].filter")
	compare(1, "proxy2: {}", "unknown key")
	if err := os.WriteFile(other, []byte("proxy: { upstream: https://x.example, dialect: /etc/passwd }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, text, _ := ask("POST", "http://"+d.admin+"/api/replay/diff?since=1h", "proxy: { dialect: /etc/passwd }", map[string]string{"Authorization": "Bearer " + deskToken}); !strings.Contains(text, "a file is not read here") || strings.Contains(text, "root") {
		t.Error(text)
	}
}

// TestFollow: a tail shows events and calls as they happen, and goes on after a
// restart of cmstap at the same address.
func TestFollow(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*" }`)
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	var ended sync.WaitGroup
	ended.Go(func() {
		var errs bytes.Buffer
		if code := run(ctx, nil, []string{"tail", "--json", "--entity", "x", "-c", d.operator.config}, writer, &errs); code != 0 {
			t.Errorf("exit code %d: %s", code, &errs)
		}
		_ = writer.Close()
	})
	defer ended.Wait()
	defer cancel()
	stop := make(chan bool)
	var writing sync.WaitGroup
	writing.Go(func() { // until the tail is there
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = ask("PUT", "http://"+d.proxy+"/spaces/s/environments/master/entries/x", "{}", nil)
				_, _, _ = ask("PUT", "http://"+d.proxy+"/spaces/s/environments/master/entries/y", "{}", nil)
			}
		}
	})
	seen := map[string]bool{}
	for decoder := json.NewDecoder(reader); !seen["event"] || !seen["call"]; {
		var line struct {
			Kind string
			Data struct {
				ID, Topic, Result string
				Entity            any
			}
		}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		seen[line.Kind] = true
		if text := fmt.Sprint(line.Data.Entity); line.Data.Topic != "Entry.save" || !strings.Contains(text, "x") || line.Kind == "call" && line.Data.Result != "delivered" {
			t.Errorf("%+v", line)
		}
	}
	close(stop)
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	writing.Wait()
}

// TestSendTest: a webhook is tried with a made-up event that leaves nothing behind.
func TestSendTest(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `
- { name: a, url: "HOOKS/a", topics: ["Asset.publish"], environments: [live], headers: { X-Key: { value: key-secret } } }
- { name: b, url: "HOOKS/b", topics: "*.*", body: { text: "${topic} of ${entity.id}" } }
`)
	stdout, _ := d.do(0, "send-test", "a")
	for _, part := range []string{"topic Asset.publish", "entity cmstap-test", "environment live", "result delivered", "status 200",
		"X-Cmstap-Redelivery: test", "X-Contentful-Topic: ContentManagement.Asset.publish", "X-Key: <secret>"} {
		if !strings.Contains(steady(stdout), part) {
			t.Errorf("no %q in %s", part, stdout)
		}
	}
	d.got("a ContentManagement.Asset.publish test")
	d.do(0, "send-test", "b")
	<-d.receiver.arrived
	d.receiver.refuses.Store(true)
	if stdout, stderr := d.do(1, "send-test", "a", "--json"); !strings.Contains(stderr, "did not take") || !strings.Contains(stdout, `"result": "failed"`) {
		t.Error(stdout, stderr)
	}
	d.do(1, "send-test", "none")
	var call event.Call
	d.api("POST", "/api/webhooks/b/test", "", &call)
	var events event.Page[event.Recorded]
	d.api("GET", "/api/events", "", &events)
	if a := d.webhook("a"); call.ID != "" || len(events.Items) != 0 || a.Waiting != 0 || a.Dead != 0 || len(a.Recent) != 0 {
		t.Errorf("%+v %+v", events, a)
	}
}

// TestFollowEnds: if nobody takes what a tail prints, it ends.
func TestFollowEnds(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*" }`)
	reader, writer := io.Pipe()
	_ = reader.CloseWithError(errors.New("nobody reads"))
	ended := make(chan string, 1)
	go func() {
		var errs bytes.Buffer
		code := run(t.Context(), nil, []string{"tail", "-c", d.operator.config}, writer, &errs)
		ended <- fmt.Sprint(code, " ", &errs)
	}()
	for {
		select {
		case got := <-ended:
			if got != "1 cmstap: it can not be printed: nobody reads\n" {
				t.Error(got)
			}
			return
		default: // until the tail is there
			d.write("x", "{}")
		}
	}
}

// TestTailGoesOn: who comes back to another process gets what happened meanwhile.
func TestTailGoesOn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `- { name: a, url: "HOOKS/a", topics: "*.*" }`)
	follow := func(after string, until ...string) (last string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+d.admin+"/api/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+deskToken)
		r.Header.Set("Last-Event-ID", after)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if after == "" {
			d.write("x", "{}")
		}
		kind := ""
		seen := map[string]bool{}
		for lines := bufio.NewScanner(response.Body); ; {
			missing := slices.DeleteFunc(slices.Clone(until), func(one string) bool { return seen[one] })
			if len(missing) == 0 {
				return last
			}
			if !lines.Scan() {
				t.Fatalf("%v did not come: %v", missing, lines.Err())
			}
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				last = value
			case "event":
				kind = value
			case "data":
				var data json.RawMessage
				if err := json.Unmarshal([]byte(value), &data); err != nil {
					t.Fatal(err)
				}
				for _, entity := range []string{`"x"`, `"y"`} {
					if strings.Contains(value, `"entity":`+entity) || strings.Contains(value, `"id":`+entity) {
						seen[kind+" "+entity] = true
					}
				}
			}
		}
	}
	last := follow("", `event "x"`, `call "x"`)
	d.write("y", "{}")
	d.waitLine(t, "msg=delivered", "entity=y")
	if _, err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	if last == "" {
		t.Fatal("there is no id")
	}
	follow(last, `event "y"`, `call "y"`)
}
