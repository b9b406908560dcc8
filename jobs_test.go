package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/demo"
	"cmstap/proxy"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// promises is a CMS that does everything later: it answers 202 and a job, whose
// result a test sets.
type promises struct {
	mu      sync.Mutex
	jobs    int
	results map[string]string // by path
	polled  []string          // who asked, by the Authorization header
}

func (p *promises) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet {
		p.polled = append(p.polled, r.Header.Get("Authorization"))
		result, known := p.results[r.URL.Path]
		if !known {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if result == "503" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(result))
		return
	}
	p.jobs++
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"data":{"type":"job","id":"%d"}}`, p.jobs)
}

// end sets the result of a job.
func (p *promises) end(job, status int, entity string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.results[fmt.Sprint("/results/", job)] = fmt.Sprintf(`{"status":%d,"payload":{"id":%q}}`, status, entity)
}

func (p *promises) askedBy(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, got := range p.polled {
		if got == token {
			return true
		}
	}
	return false
}

const promised = `
name: promises
resources: [{ type: Item, paths: /items, routes: item }]
routes:
  item:
    - { on: POST /publish, success: 202, body: { ids: request.ids }, action: start, job: publish }
    - { on: [POST, "PUT /{id}"], success: [2xx], action: save }
job: result
jobs:
  result:
    when: status == 202
    job: ${response.data.id}
    poll: /results/{job}
    deadline: DEADLINE
    failed: response.status >= 400
    answer: ${response.payload}
  publish:
    job: ${response.data.id}
    poll: /results/{job}
    deadline: DEADLINE
    events:
      - each: body.ids
        event: { id: "${item}" }
        content: { get: "/items?ids=${ids}", each: response.items, id: "${item.id}" }
        action: publish
event: { id: "${path.id ?? response.id}" }
payloads: { identity: { id: "${entity.id}" } }
credentials: [Authorization]
token: { Authorization: "Bearer ${token}" }
`

// jobs is a cmstap in front of such a CMS.
type jobs struct {
	*promises
	process  *process
	receiver *demo.Receiver
	program  string
	config   string
}

func newJobs(t *testing.T, deadline, settings string) *jobs {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	j := &jobs{promises: &promises{results: map[string]string{}}, receiver: demo.NewReceiver(demo.ReceiverOptions{}), program: program}
	dialect := filepath.Join(t.TempDir(), "promises.yaml")
	if err := os.WriteFile(dialect, []byte(strings.ReplaceAll(promised, "DEADLINE", deadline)), 0o600); err != nil {
		t.Fatal(err)
	}
	j.config = fmt.Sprintf("proxy: { listen: '127.0.0.1:0', upstream: %q, dialect: %q }\noutbox: { path: %q }\nadmin: { listen: '' }\n"+
		"webhooks: [{ name: all, url: %q, topics: '*.*' }]\n%s", serve(t, j.promises).URL, dialect, t.TempDir(), serve(t, j.receiver).URL, settings)
	j.process = start(t, program, j.config)
	return j
}

func (j *jobs) write(t *testing.T, method, path, token string) {
	t.Helper()
	if status, _, err := ask(method, "http://"+j.process.proxy+path, "{}", map[string]string{"Authorization": token}); status != http.StatusAccepted {
		t.Fatal(status, err)
	}
}

// delivered waits for calls and compares their bodies; a ? follows if they are
// unconfirmed.
func (j *jobs) delivered(t *testing.T, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := j.receiver.Wait(ctx, func(calls []demo.Call) bool { return len(calls) >= len(want) }); err != nil {
		t.Error(err)
	}
	j.process.stopped(t, "msg=waiting deliveries=0 writes=0")
	var got []string
	slices.Sort(want) // those of several entities come in any order
	for _, call := range j.receiver.Calls() {
		text := string(call.Body)
		if call.Header.Get("X-Cmstap-Confirmed") == "false" {
			text += "?"
		}
		got = append(got, text)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestJobs: a promise makes its event when its result is known, and none if it
// failed; cmstap asks for it with the credentials of the writer.
func TestJobs(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "1h", "")
	j.write(t, "PUT", "/items/a", "Bearer writer")
	j.write(t, "POST", "/items", "Bearer writer")
	j.end(1, 422, "")
	j.end(2, 200, "new")
	j.process.waitLine(t, "msg=delivered")
	untilTrue(t, func() bool { return j.askedBy("Bearer writer") })
	j.delivered(t, `{"id":"new"}`)
}

// TestJobIsWatched: what a client is told ends the job at once.
func TestJobIsWatched(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "1h", "")
	j.write(t, "POST", "/items", "") // nobody can ask
	j.end(1, 200, "new")
	if status, _, err := ask("GET", "http://"+j.process.proxy+"/results/1", "", map[string]string{"Authorization": "Bearer client"}); status != http.StatusOK {
		t.Fatal(status, err)
	}
	j.delivered(t, `{"id":"new"}`)
}

// TestJobIsRead: the entities that a result names are read, with the credentials
// of the writer.
func TestJobIsRead(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "1h", "")
	j.results["/items"] = `{"items":[{"id":"b","n":2},{"id":"a","n":1}]}`
	status, _, err := ask("POST", "http://"+j.process.proxy+"/items/publish", `{"ids":["a","gone","b"]}`, map[string]string{"Authorization": "Bearer writer"})
	if status != http.StatusAccepted {
		t.Fatal(status, err)
	}
	j.process.waitLine(t, "msg=captured", "topic=Item.start")
	j.end(1, 200, "")
	j.delivered(t, `{"data":{"type":"job","id":"1"}}`, `{"id":"a","n":1}`, `{"id":"gone"}`, `{"id":"b","n":2}`)
}

// TestJobCanNotBeRead: what a result names can not be read until the deadline. That
// it was done is known all the same.
func TestJobCanNotBeRead(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "2s", "")
	j.results["/items"] = "503"
	status, _, err := ask("POST", "http://"+j.process.proxy+"/items/publish", `{"ids":["a"]}`, map[string]string{"Authorization": "Bearer writer"})
	if status != http.StatusAccepted {
		t.Fatal(status, err)
	}
	j.end(1, 200, "")
	j.delivered(t, `{"data":{"type":"job","id":"1"}}`, `{"id":"a"}`)
}

// TestJobSurvives: a kill between promise and result; the token asks on.
func TestJobSurvives(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "1h", "recovery: { token: { value: t0ken } }")
	j.write(t, "PUT", "/items/a", "Bearer writer")
	j.process.kill()
	j.end(1, 200, "a")
	j.process = start(t, j.program, j.config)
	j.delivered(t, `{"id":"a"}`)
	if !j.askedBy("Bearer t0ken") {
		t.Error("the token did not ask")
	}
}

// TestJobIsGivenUp: without a token nobody can ask after a kill; at the deadline
// the event goes out unconfirmed.
func TestJobIsGivenUp(t *testing.T) {
	t.Parallel()
	j := newJobs(t, "2s", "")
	j.write(t, "PUT", "/items/a", "Bearer writer")
	j.process.kill()
	j.end(1, 200, "a")
	j.process = start(t, j.program, j.config)
	j.delivered(t, `{"id":"a"}?`)
}

// TestJobReadsSoMuch: what is read for one result is bounded, whatever it names.
func TestJobReadsSoMuch(t *testing.T) {
	t.Parallel()
	d, err := rules.ParseDialect("promises.yaml", []byte(strings.ReplaceAll(promised, "DEADLINE", "1h")))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 1500 {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprint(i)))
	}
	reads := 0
	large := []byte(`{"items":[{"id":"0","x":"` + strings.Repeat("x", 4_000_000) + `"}]}`)
	tap := &tap{metrics: newMetrics(), fetch: func(context.Context, string, string, map[string]string) (proxy.Fetched, error) {
		reads++
		return proxy.Fetched{Status: http.StatusOK, Body: event.Copy{Bytes: large}}, nil
	}}
	tap.ruling.Store(&ruling{Rules: rules.New(d, nil)})
	plan := tap.now().Identify(event.Head{Method: "POST", Path: "/items/publish", Headers: http.Header{}}, event.Copy{Bytes: []byte(`{"ids":[` + strings.Join(ids, ",") + `]}`)}, nil)
	plan.Intent.Job = &event.Job{ID: "1"}
	x := &event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: http.StatusOK, Answer: event.Copy{Bytes: []byte(`{"status":200}`)}}
	if err := tap.read(t.Context(), x, event.Credentials{"Authorization": "x"}); err != nil || reads != 9 || len(x.Read) != 15 {
		t.Errorf("%v, %d of %d read", err, reads, len(x.Read))
	}
}
