package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

// doubts is a cmstap in front of a sample CMS of which a test decides, request
// by request, what happens.
type doubts struct {
	*doubtful
	program string
	hook    atomic.Pointer[func(http.ResponseWriter, *http.Request, http.Handler)]
}

// newDoubts starts one. Without a hook requests go to the sample CMS.
func newDoubts(t *testing.T, settings string) *doubts {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &doubts{program: program}
	d.doubtful = newDoubtfulBehind(t, program, settings, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hook := d.hook.Load(); hook != nil {
				(*hook)(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	return d
}

func (d *doubts) on(hook func(http.ResponseWriter, *http.Request, http.Handler)) { d.hook.Store(&hook) }

// logged waits for lines, each of which has all of its words.
func (d *doubts) logged(t *testing.T, lines ...string) {
	t.Helper()
	for _, words := range lines {
		d.process.waitLine(t, strings.Split(words, "; ")...)
	}
}

// delivered waits for the calls about entries and compares them with what is
// wanted: Topic, or Topic? if it is unconfirmed. The first is the fixture's.
func (d *doubts) delivered(t *testing.T, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.receiver.Wait(ctx, func(calls []demo.Call) bool { return len(calls) > len(want) }); err != nil {
		t.Error(err)
	}
	if _, err := d.process.stop(); err != nil {
		t.Error(err)
	}
	var got []string
	for _, call := range d.receiver.Calls()[1:] {
		topic := strings.TrimPrefix(call.Header.Get("X-Contentful-Topic"), "ContentManagement.")
		if call.Header.Get("X-Cmstap-Confirmed") == "false" {
			topic += "?"
		}
		got = append(got, topic)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSlowCMS: a save times out and is executed all the same, after the client
// has tried again and cmstap has looked: it has its event.
func TestSlowCMS(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [1s, 2s, 3s] }")
	execute, retried, first := make(chan bool), make(chan bool), make(chan bool, 1)
	first <- true
	d.on(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodPut {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case <-first: // it is still at work when its client has gone
			<-execute
			next.ServeHTTP(w, r.Clone(t.Context()))
			close(retried)
		default:
			close(execute)
			<-retried
			next.ServeHTTP(w, r)
		}
	})
	d.ask(t, "PUT", doubtfulEntry, `{"fields":{}}`, 504, "1")
	d.ask(t, "PUT", doubtfulEntry, `{"fields":{}}`, 409, "1")
	d.logged(t, "msg=asked; result=applied")
	d.delivered(t, "Entry.save")
}

// TestStranger: what somebody else may not see decides nothing.
func TestStranger(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [100ms, 200ms, 300ms], token: { value: blind } }")
	d.on(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if token := r.Header.Get("Authorization"); strings.HasSuffix(token, "stranger") || strings.HasSuffix(token, "blind") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"sys":{"type":"Error","id":"NotFound"}}`))
			return
		}
		next.ServeHTTP(w, r)
	})
	put := func(id, token string, fault demo.Fault, want int) {
		t.Helper()
		d.after.Store(int64(fault))
		status, _, err := ask("PUT", "http://"+d.process.proxy+"/spaces/s/environments/master/entries/"+id, `{"fields":{}}`,
			map[string]string{"X-Contentful-Content-Type": "post", "Authorization": token})
		if err != nil || status != want {
			t.Errorf("%d %v, want %d", status, err, want)
		}
	}
	put("new", "Bearer writer", demo.AnswerReset, 502)
	put("new", "Bearer stranger", demo.NoFault, 404)
	d.logged(t, "msg=asked; result=unknown", "msg=asked; result=applied", "msg=delivered; entity=new")
	put("other", "Bearer writer", demo.AnswerReset, 502)
	d.process.kill()
	d.process = start(t, d.program, d.config) // now the token asks, and may not see either
	d.logged(t, "msg=asked; result=unknown", "msg=asked; result=unknown", "msg=asked; result=unknown", "msg=unconfirmed")
	d.delivered(t, "Entry.create", "Entry.create?")
}

// TestAliasMoves: a doubt about one environment is not settled by another one.
func TestAliasMoves(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [500ms, 700ms, 900ms] }")
	link := func(to, version string, want int) {
		t.Helper()
		d.ask(t, "PUT", "/spaces/s/environment_aliases/main", `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"`+to+`"}}}`, want, version)
	}
	for _, environment := range []string{"live", "next"} {
		d.ask(t, "PUT", "/spaces/s/environments/"+environment+"/content_types/post", `{"name":"x","fields":[]}`, 201, "")
		d.ask(t, "PUT", "/spaces/s/environments/"+environment+"/entries/x", `{"fields":{}}`, 201, "")
	}
	link("live", "", 201)
	d.after.Store(int64(demo.AnswerReset))
	d.ask(t, "PUT", "/spaces/s/environments/main/entries/x", `{"fields":{"a":{"en-US":1}}}`, 502, "1")
	link("next", "1", 200)
	d.logged(t, "msg=unconfirmed; environment=main")
	d.delivered(t, "Entry.create", "Entry.create", "Entry.save?")
	if call := d.receiver.Calls()[3]; strings.Contains(string(call.Body), `"a"`) {
		t.Error("the event has the fields of another environment")
	}
}

// TestOverlap: while another write is under way, what the entity shows may be
// that one's.
func TestOverlap(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [150ms, 10s, 20s] }")
	d.save(t, 1, demo.AnswerReset, demo.NoFault, 502) // it was not executed
	answer := make(chan bool)
	d.on(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet { // the question of the next write fails
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		executed := httptest.NewRecorder()
		next.ServeHTTP(executed, r)
		<-answer
		w.WriteHeader(executed.Code)
		_, _ = w.Write(executed.Body.Bytes())
	})
	done := make(chan bool)
	go func() {
		defer close(done)
		d.ask(t, "PUT", doubtfulEntry, `{"fields":{"b":{"en-US":1}}}`, 200, "1")
	}()
	d.logged(t, "msg=asked; result=unknown; under way")
	close(answer)
	<-done
	d.delivered(t, "Entry.save")
}

// TestAliasDeleted: the end of an alias whose answer was lost is known, and
// learned.
func TestAliasDeleted(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [100ms, 200ms, 300ms] }")
	d.ask(t, "PUT", "/spaces/s/environment_aliases/main", `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"master"}}}`, 201, "")
	d.logged(t, "msg=alias; alias=main; target=master")
	d.after.Store(int64(demo.AnswerReset))
	d.ask(t, "DELETE", "/spaces/s/environment_aliases/main", "", 502, "1")
	d.logged(t, "msg=asked; result=applied", "msg=captured; topic=EnvironmentAlias.delete", `msg=alias; alias=main; target=""`)
}

// TestPreservedHost: the question goes to the host that the writer addressed.
func TestPreservedHost(t *testing.T) {
	t.Parallel()
	d := newDoubts(t, "recovery: { ask_after: [100ms, 200ms, 300ms] }")
	hosts := make(chan string, 10)
	d.on(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		hosts <- r.Host
		next.ServeHTTP(w, r)
	})
	d.after.Store(int64(demo.AnswerReset))
	d.ask(t, "PUT", doubtfulEntry, `{"fields":{}}`, 502, "1")
	d.logged(t, "msg=asked; result=applied")
	if write, question := <-hosts, <-hosts; write != d.process.proxy || question != write {
		t.Errorf("the write went to %s, the question to %s", write, question)
	}
}
