package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// doubtful is a cmstap in front of a sample CMS that misbehaves when told to.
type doubtful struct {
	api      *demo.ContentAPI
	receiver *demo.Receiver
	process  *process
	config   string
	before   atomic.Int64 // the demo.Fault for the next write, before it is executed
	after    atomic.Int64 // and after
	reached  chan bool    // gets true when a write was executed
}

const doubtfulEntry = "/spaces/s/environments/master/entries/x"

// newDoubtful starts one with an entry of version 1.
func newDoubtful(t *testing.T, program, settings string) *doubtful {
	t.Helper()
	return newDoubtfulBehind(t, program, settings, func(next http.Handler) http.Handler { return next })
}

// newDoubtfulBehind starts one whose CMS is behind something else.
func newDoubtfulBehind(t *testing.T, program, settings string, wrap func(http.Handler) http.Handler) *doubtful {
	t.Helper()
	d := &doubtful{receiver: demo.NewReceiver(demo.ReceiverOptions{}), reached: make(chan bool, 100)}
	d.api = demo.NewContentAPI(demo.ContentAPIOptions{
		Before: func(r *http.Request) demo.Fault {
			if r.Method == http.MethodGet {
				return demo.NoFault
			}
			return demo.Fault(d.before.Swap(0))
		},
		After: func(demo.Write) demo.Fault { d.reached <- true; return demo.Fault(d.after.Swap(0)) },
	})
	d.config = fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, answer_timeout: 300ms, host: preserve }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["Entry.*"] }]
%s
`, serve(t, wrap(d.api)).URL, t.TempDir(), serve(t, d.receiver).URL, settings)
	d.process = start(t, program, d.config)
	d.ask(t, "PUT", "/spaces/s/environments/master/content_types/post", `{"name":"x","fields":[]}`, 201, "")
	d.ask(t, "PUT", doubtfulEntry, `{"fields":{}}`, 201, "")
	d.process.waitLine(t, "msg=delivered", "topic=Entry.create")
	return d
}

func (d *doubtful) ask(t *testing.T, method, path, body string, want int, version string) {
	t.Helper()
	headers := map[string]string{"X-Contentful-Content-Type": "post"}
	if version != "" {
		headers["X-Contentful-Version"] = version
	}
	status, text, err := ask(method, "http://"+d.process.proxy+path, body, headers)
	if err != nil || status != want {
		t.Errorf("%s %s: %d %s %v, want %d", method, path, status, text, err, want)
	}
}

// save sends a save of a version; what goes wrong is told by the faults.
func (d *doubtful) save(t *testing.T, version int, before, after demo.Fault, status int) {
	t.Helper()
	d.before.Store(int64(before))
	d.after.Store(int64(after))
	d.ask(t, "PUT", doubtfulEntry, fmt.Sprintf(`{"fields":{"from":{"en-US":%d}}}`, version), status, fmt.Sprint(version))
}

// saved waits for events of saves, and checks that they are those that made
// the versions from 2 on, confirmed and whole.
func (d *doubtful) saved(t *testing.T, versions int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	enough := func(calls []demo.Call) bool { return len(calls) >= versions }
	if err := d.receiver.Wait(ctx, enough); err != nil {
		t.Fatal(err)
	}
	if lines, err := d.process.stop(); err != nil || strings.Contains(strings.Join(lines, "\n"), "unconfirmed") {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	for n, call := range d.receiver.Calls() {
		var body struct {
			Sys    struct{ Version int }
			Fields struct{ From map[string]int }
		}
		if err := json.Unmarshal(call.Body, &body); err != nil {
			t.Fatal(err)
		}
		if topic := call.Header.Get("X-Contentful-Topic"); n > 0 && topic != "ContentManagement.Entry.save" {
			t.Errorf("call %d is %s", n, topic)
		}
		if body.Sys.Version != n+1 || body.Fields.From["en-US"] != n || call.Header.Get("X-Cmstap-Confirmed") == "false" || n >= versions {
			t.Errorf("call %d is not about version %d: %s", n, n+1, call.Body)
		}
	}
}

// TestOutcomes: each way in which a forward can end, and what becomes of it:
// writes that the CMS executed have their confirmed event, others have none.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoubtful(t, program, "recovery: { ask_after: [50ms, 200ms, 2s] }")
	version := 1
	applied := func(fault demo.Fault, status int) {
		t.Helper()
		d.save(t, version, demo.NoFault, fault, status)
		version++
		d.process.waitLine(t, "msg=asked", "result=applied")
	}
	notApplied := func(fault demo.Fault, status int) {
		t.Helper()
		d.save(t, version, fault, demo.NoFault, status)
		d.process.waitLine(t, "msg=asked", `result="not applied"`)
		d.process.waitLine(t, "msg=asked", `result="not applied"`) // believed the second time
	}
	notApplied(demo.AnswerError, 500)
	notApplied(demo.AnswerReset, 502)
	notApplied(demo.AnswerHang, 504)
	notApplied(demo.AnswerGarbage, 502)
	applied(demo.AnswerError, 500)
	applied(demo.AnswerReset, 502)
	applied(demo.AnswerHang, 504)
	applied(demo.AnswerTruncated, 502)
	applied(demo.AnswerGarbage, 502)

	d.save(t, 99, demo.NoFault, demo.NoFault, 409) // refused
	d.save(t, version, demo.NoFault, demo.NoFault, 200)
	version++

	// The next write settles a doubt first, long before its time.
	d.save(t, version, demo.NoFault, demo.AnswerReset, 502)
	d.save(t, version+1, demo.NoFault, demo.NoFault, 200)
	d.saved(t, version+2)
}

// TestClientsLeave: at every stage of a write.
func TestClientsLeave(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoubtful(t, program, "")
	// leave sends the first bytes of a save and hangs up when that says so.
	leave := func(version, bytes int, when func()) {
		t.Helper()
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", d.process.proxy)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"fields":{"from":{"en-US":%d}}}`, version)
		request := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nX-Contentful-Version: %d\r\nContent-Length: %d\r\n\r\n%s",
			doubtfulEntry, version, len(body), body)
		if _, err := io.WriteString(conn, request[:len(request)-bytes]); err != nil {
			t.Fatal(err)
		}
		when()
		conn.Close()
	}
	executed := func() { <-d.reached }
	for len(d.reached) > 0 {
		executed()
	}
	leave(1, 100, func() {})                                  // in the head
	leave(1, 10, func() {})                                   // in the body
	leave(1, 0, executed)                                     // before the answer
	d.process.waitLine(t, "msg=captured", "topic=Entry.save") // events have the order of the commits
	leave(2, 0, executed)
	d.saved(t, 3)
}

// TestTokenSettles: after a kill the recovery token finds out what was done.
// What nothing can tell goes out unconfirmed.
func TestTokenSettles(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoubtful(t, program, "recovery: { token: { value: x }, ask_after: [50ms, 200ms, 2s] }")
	d.config = strings.Replace(d.config, "answer_timeout: 300ms", "answer_timeout: 1m", 1)
	if _, err := d.process.stop(); err != nil {
		t.Fatal(err)
	}
	d.process = start(t, program, d.config)
	killed := func(path string, version int, before, after demo.Fault, until func()) {
		t.Helper()
		d.before.Store(int64(before))
		d.after.Store(int64(after))
		done := make(chan struct{})
		address := "http://" + d.process.proxy + path
		go func() {
			defer close(done)
			method := map[bool]string{true: "PUT", false: "POST"}[path == doubtfulEntry]
			_, _, _ = ask(method, address, fmt.Sprintf(`{"fields":{"from":{"en-US":%d}}}`, version),
				map[string]string{"X-Contentful-Version": fmt.Sprint(version), "X-Contentful-Content-Type": "post"})
		}()
		until()
		d.process.kill()
		<-done
		d.process = start(t, program, d.config)
	}
	for len(d.reached) > 0 {
		<-d.reached
	}
	killed(doubtfulEntry, 1, demo.NoFault, demo.AnswerHang, func() { <-d.reached })
	d.process.waitLine(t, "msg=asked", "result=applied")
	d.process.waitLine(t, "msg=delivered", "topic=Entry.save")
	requests := d.api.Requests()
	killed(doubtfulEntry, 2, demo.AnswerHang, demo.NoFault, func() { untilTrue(t, func() bool { return d.api.Requests() > requests }) })
	d.process.waitLine(t, "msg=asked", `result="not applied"`)
	d.process.waitLine(t, "msg=asked", `result="not applied"`)
	killed("/spaces/s/environments/master/entries", 0, demo.NoFault, demo.AnswerHang, func() { <-d.reached })
	d.process.waitLine(t, "msg=unconfirmed", "topic=Entry.create")
	d.process.waitLine(t, "msg=delivered", "topic=Entry.create")
	if calls := d.receiver.Calls(); len(calls) != 3 {
		t.Errorf("%d calls, want 3", len(calls))
	}
}

// untilTrue asks until the answer is yes.
func untilTrue(t *testing.T, yes func() bool) {
	t.Helper()
	for end := time.After(20 * time.Second); !yes(); {
		select {
		case <-end:
			t.Fatal("it did not happen")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
