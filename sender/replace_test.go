package sender

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cmstap/internal/setting"
)

// A webhook that changed is called as it is now; what waits is not lost, a call in
// flight ends as it began, and a webhook that did not change keeps its breaker.
func TestReplace(t *testing.T) {
	t.Parallel()
	arrived, finish := make(chan string, 10), make(chan struct{})
	server := func(name string, hold bool) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- name + r.Header.Get("X-Version")
			if hold {
				<-finish
			}
		}))
	}
	old, changed := server("old", true), server("new", false)
	defer old.Close()
	defer changed.Close()
	s := newStored(t, old.URL, "concurrency: 1")
	s.commit(2)
	s.run()
	if got := await(t, arrived, "no call"); got != "old" {
		t.Error(got)
	}
	before := s.sender.lines["hook"]
	s.sender.Replace([]Webhook{{Name: "hook", Endpoint: endpoint(t, old.URL, "concurrency: 1")}})
	if s.sender.lines["hook"] != before {
		t.Error("the same settings began anew")
	}
	s.sender.Replace([]Webhook{{Name: "hook", Endpoint: endpoint(t, changed.URL, "headers: { X-Version: 2 }")}})
	if got := await(t, arrived, "the new settings are not used"); got != "new2" {
		t.Error(got)
	}
	close(finish)
	s.lines("delivered", 2)
	s.sender.Replace(nil)
	s.commit(1)
	s.stop()
	await(t, s.done, "Run does not return")
	if waiting, _, err := s.Waiting(); waiting != 1 || err != nil || len(arrived) != 0 || strings.Contains(s.log.String(), "retrying") {
		t.Errorf("%d wait, %v; %d more calls\n%s", waiting, err, len(arrived), s.log)
	}
}

// Settings that decide nothing of a webhook's own are compared too.
func TestIsLike(t *testing.T) {
	t.Parallel()
	a := Webhook{Name: "a", Endpoint: endpoint(t, "http://x.example", "rate: 1/s\nbody: { x: '${topic}' }")}
	b := Webhook{Name: "a", Endpoint: endpoint(t, "http://x.example", "rate: 1/s\nbody: { x: '${topic}' }")}
	if !a.isLike(b) {
		t.Error("the same is not alike", setting.Changed(a, b))
	}
	b.Endpoint.Egress.Strict = true
	if a.isLike(b) {
		t.Error("egress makes no difference")
	}
	for _, other := range []string{"rate: 2/s\nbody: { x: '${topic}' }", "rate: 1/s\nbody: { x: '${type}' }", "rate: 1/s\nbody: { x: '${topic}' }\nmethod: PUT"} {
		if a.isLike(Webhook{Name: "a", Endpoint: endpoint(t, "http://x.example", other)}) {
			t.Errorf("%q makes no difference", other)
		}
	}
	if a.isLike(Webhook{Name: "a", Endpoint: endpoint(t, "http://x.example/${topic}", "rate: 1/s\nbody: { x: '${topic}' }")}) {
		t.Error("the address makes no difference")
	}
}

// A change of something else begins neither the rate anew nor the number of calls at a
// time.
func TestReplaceKeepsRateAndConcurrency(t *testing.T) {
	t.Parallel()
	arrived, finish := make(chan bool, 10), make(chan struct{})
	url := receiver(t, func(http.ResponseWriter, *http.Request) { arrived <- true; <-finish })
	const settings = "concurrency: 1\nrate: 1/1h\n"
	s := newStored(t, url, settings)
	s.commit(3)
	s.run()
	await(t, arrived, "no call")
	old := s.sender.lines["hook"]
	old.gate.pause(time.Now(), answer{retryAfter: 3 * time.Hour})
	s.sender.Replace([]Webhook{{Name: "hook", Endpoint: endpoint(t, url, settings+"headers: { X-Version: 2 }")}})
	l := s.sender.lines["hook"]
	if allowed, until, _ := l.gate.look(time.Now(), 1); l == old || l.slots != old.slots || allowed != 0 || time.Until(until) < 2*time.Hour {
		t.Errorf("%d calls may start, others at %s", allowed, until)
	}
	s.sender.Replace([]Webhook{{Name: "hook", Endpoint: endpoint(t, url+"/other", settings)}})
	if allowed, until, _ := s.sender.lines["hook"].gate.look(time.Now(), 1); allowed != 0 || time.Until(until) > time.Hour {
		t.Errorf("at another address %d calls may start, others at %s", allowed, until)
	}
	s.sender.Replace([]Webhook{{Name: "hook", Endpoint: endpoint(t, url+"/other", "rate: 2/1h\nconcurrency: 2")}})
	if l := s.sender.lines["hook"]; l.slots == old.slots {
		t.Error("another concurrency changes nothing")
	}
	close(finish)
}
