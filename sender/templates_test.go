package sender

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"cmstap/event"
)

// TestTemplatesOnTheWire: what the receiver reads is what the templates say.
func TestTemplatesOnTheWire(t *testing.T) {
	t.Parallel()
	calls := make(chan string, 1)
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- fmt.Sprintf("%s %s type=%s length=%d event=%s team=%s %s", r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.ContentLength,
			r.Header.Get("X-Cmstap-Event"), r.Header.Get("X-Team"), body)
	})
	check := func(path, config, want string) {
		t.Helper()
		if s := run(t, url+path, config).deliver(0); s.Result != event.Delivered {
			t.Errorf("%s: %+v", config, s.Settlement)
			return
		}
		if got := <-calls; got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", config, got, want)
		}
	}
	check("/", "", `POST / type=application/json length=8 event=event0 team= {"n": 1}`)
	check("/${entity.id}?n={ /payload/n }", "method: GET\nheaders: { X-Team: 'n${payload.n}' }", `GET /e1?n=1 type= length=0 event=event0 team=n1 `)
	check("/", "method: DELETE", `DELETE / type= length=0 event=event0 team= `)
	check("/${topic + \"/\"}", "method: PUT\nbody: { a: '${payload}' }", `PUT /Entry.publish%2F type=application/json length=14 event=event0 team= {"a":{"n": 1}}`)
	check("/", "method: PATCH\ncontent_type: application/x-www-form-urlencoded\nheaders: { X-Team: { value: '${type}' } }",
		`PATCH / type=application/x-www-form-urlencoded length=3 event=event0 team=${type} n=1`)
	check("/", "content_type: text/plain\nbody: ''", `POST / type=text/plain length=0 event=event0 team= `)
}

// TestUnfillable: a template that has no value where it needs one ends the
// delivery at once, says why, and is no fault of the webhook.
func TestUnfillable(t *testing.T) {
	t.Parallel()
	calls := make(chan struct{}, 100)
	r := run(t, receiver(t, func(http.ResponseWriter, *http.Request) { calls <- struct{}{} })+"/secret-path/${payload.slug}",
		"breaker: { failures: 1, wait: 1h }")
	for range 3 {
		s := r.deliver(0)
		const why = "a value in the template of the URL is empty or missing"
		if s.Result != event.GiveUp || s.Attempt.Error != why || !strings.HasSuffix(s.Reason, "another attempt would not change that: "+why) {
			t.Errorf("%+v", s.Settlement)
		}
	}
	if len(calls) > 0 {
		t.Error("it was called")
	}
	for config, want := range map[string]string{
		"body: '${payload.n < \"a\"}'":                                          "a template has no value: ",
		"headers: { A: '${len(payload.n)}' }":                                   "a template has no value: ",
		"content_type: application/x-www-form-urlencoded\nbody: '${payload.n}'": "the body is no object",
	} {
		if s := run(t, "http://127.0.0.1:1", config).deliver(0); s.Result != event.GiveUp || !strings.HasPrefix(s.Attempt.Error, want) {
			t.Errorf("%s: %+v", config, s.Settlement)
		}
	}
}

// TestTemplatesKeepSecrets: the text around a value may be a secret.
func TestTemplatesKeepSecrets(t *testing.T) {
	t.Parallel()
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		fmt.Fprint(w, r.URL.Path, " ", r.Header.Get("X-Token"))
	})
	s := run(t, url+"/T/path-secret/${type}", "headers: { X-Token: 'header-secret-${type}' }").deliver(0)
	if want := "<secret>Entry <secret>Entry"; s.Attempt.Answer != want {
		t.Errorf("got %q", s.Attempt.Answer)
	}
}

func TestTemplateSettings(t *testing.T) {
	t.Parallel()
	e, err := decode("url: 'https://${space}.example'\nheaders: { A: '${action}', B: '\tb' }\nbody: '${changes}'\nimported: true")
	if err != nil || !e.TemplatedHost() || !e.Reads("changes") || !e.Reads("action") || e.Reads("payload") || !e.Imported || e.WantsConcise() {
		t.Errorf("%v, %+v", err, e)
	}
	if e, err := decode("url: https://x.example\npayload: envelope"); err != nil || e.TemplatedHost() || !e.Reads("changes") {
		t.Errorf("%v, %+v", err, e)
	}
	_, err = decode("url: https://x.example\nheaders: { content-type: a/b,\n X-A: '${tpye}' }\ncontent_type: a/b")
	want := []string{`c.yaml:3: headers.X-A: in "tpye": 1:1: unknown name tpye; known are: `, "c.yaml:4: content_type: headers.content-type says it already; keep one of them"}
	for _, line := range want {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("got %v", err)
		}
	}
}
