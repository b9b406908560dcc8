package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"cmstap/admin"
	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

// evil is what a stranger may have put anywhere.
const evil = `"'><script>window.hit=1</script><img src=x onerror="window.hit=1">{{.}}</pre></textarea><!--`

// hostile is a store, and an operator, in which everything is evil.
type hostile struct{ idle }

func evilCall() event.Call {
	headers := []event.Header{{Name: evil, Value: evil}}
	return event.Call{
		ID: evil, Webhook: evil, Event: evil, Topic: evil, Entity: evil, Environment: evil, Attempt: 1, Time: time.Now(), Error: evil, Result: evil,
		Wire: &event.Wire{Method: evil, URL: evil, Headers: headers, AnswerHeaders: headers, Answer: evil},
	}
}

func evilEvent() event.Recorded {
	return event.Recorded{Topic: evil, Webhooks: []string{evil}, Event: event.Event{
		ID: evil, Space: evil, Environment: evil, Target: evil, Actor: evil, PayloadError: evil, BeforeUnseen: evil, Accepted: true, Late: true,
		Entity: event.Entity{Type: evil, ID: evil, Locale: evil, ContentType: evil}, Request: event.Request{Method: evil, Path: evil},
	}}
}

func (hostile) Backlogs() ([]event.Backlog, error) {
	return []event.Backlog{{Webhook: evil, Dead: 1, Breaker: evil, Recent: []string{evil}}, {Webhook: "b", Paused: true}}, nil
}

func (hostile) Calls(event.Query) (event.Page[event.Call], error) {
	return event.Page[event.Call]{Items: []event.Call{evilCall()}, Cursor: evil}, nil
}

func (hostile) Call(string) (event.Call, bool, error) { return evilCall(), true, nil }

func (hostile) Events(event.Query) (event.Page[event.Recorded], error) {
	return event.Page[event.Recorded]{Items: []event.Recorded{evilEvent()}, Cursor: evil}, nil
}

func (hostile) Story(string) (event.Story, bool, error) {
	payload := func(more string) json.RawMessage {
		text, _ := json.Marshal(map[string]string{evil: evil + more})
		return text
	}
	return event.Story{
		Recorded: evilEvent(), Content: payload("now"), Before: payload("before"), PayloadBytes: 1, Calls: []event.Call{evilCall()},
		Deliveries: []event.Progress{{Webhook: evil, State: evil, Reason: evil, Undecided: evil}},
	}, true, nil
}

func (hostile) CountFailed(context.Context, event.Query) (event.Tally, error) {
	return event.Tally{Deliveries: 2}, nil
}

func (hostile) Explain(string, string) (event.Explanation, error) {
	return event.Explanation{Event: evil, Topic: evil, Webhooks: []event.Explained{{
		Webhook: evil, Answer: "undecided", Called: true, Reason: evil, Part: evil, Reads: []event.Reading{{Path: evil, State: "present", Value: evil}},
	}}}, nil
}

func (hostile) Compare(_ context.Context, config []byte, _ event.Query, _ func(event.Comparison)) (event.Comparison, error) {
	if len(config) == 0 {
		return event.Comparison{}, event.Refuse(event.Invalid, evil)
	}
	return event.Comparison{Differences: []event.Difference{{Event: evil, Topic: evil, Entity: evil, Webhook: evil, Change: "appears"}}}, nil
}

func (hostile) Pause(context.Context, string) error { return event.Refuse(event.Conflict, evil) }

type hostileConsole struct{ console }

func (hostileConsole) Settings() []setting.Shown {
	return []setting.Shown{{Path: evil, Value: evil}}
}

func (hostileConsole) Reload() (admin.Reloaded, error) {
	return admin.Reloaded{}, errors.New(evil)
}

// hostilePages are the addresses of all pages.
func hostilePages() []string {
	q := url.QueryEscape(evil)
	filter := "?webhook=" + q + "&topic=" + q + "&entity=" + q + "&environment=" + q + "&text=" + q
	return []string{
		"/", "/?done=pause", "/?done=" + q, "/calls", "/calls" + filter, "/calls?result=" + q, "/calls?since=" + q, "/calls?" + q + "=1", "/calls/x", "/events", "/events?entity=" + q,
		"/events/x", "/events/x/why", "/events/x/why?webhook=" + q, "/dead", "/dead" + filter + "&sent=3", "/dead?until=" + q, "/dead?sent=" + q, "/settings", "/try", "/login", "/login?next=" + q,
	}
}

// TestHostile: whatever is shown is text, on every page.
func TestHostile(t *testing.T) {
	t.Parallel()
	handler := admin.Handler(admin.DefaultConfig(), admin.Parts{
		Store: hostile{}, Operator: hostile{}, Control: &hostileConsole{},
	})
	check := func(method, target string, form ...string) {
		t.Helper()
		r := httptest.NewRequest(method, "http://localhost:8081"+target, strings.NewReader(strings.Join(form, "&")))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code == http.StatusSeeOther && strings.HasPrefix(target, "/login") {
			return // no token is set
		}
		if answer.Code >= 500 {
			t.Errorf("%s: %d", target, answer.Code)
		}
		checkHeaders(t, target, answer.Header())
		if !strings.Contains(answer.Body.String(), "window.hit=1") && strings.Contains(target, "hit") && !strings.Contains(target, "done") && !strings.Contains(target, "sent") {
			t.Errorf("%s does not show what it was given", target)
		}
		root, err := html.Parse(strings.NewReader(answer.Body.String()))
		if err != nil {
			t.Fatal(err)
		}
		for node := range root.Descendants() {
			checkNode(t, target, node)
		}
	}
	for _, target := range hostilePages() {
		check("GET", target)
	}
	check("POST", "/webhooks/pause")
	check("POST", "/settings/reload")
	check("POST", "/try")
	check("POST", "/try", "config="+url.QueryEscape(evil), "since="+url.QueryEscape(evil))
	check("POST", "/try", "config="+url.QueryEscape(evil))
	check("POST", "/dead/resend?x=%zz")
}

func checkHeaders(t *testing.T, target string, got http.Header) {
	t.Helper()
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"Content-Type":            "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s: %s: %s", target, name, got.Get(name))
		}
	}
}

// checkNode knows what a page is made of: nothing else may be in it.
func checkNode(t *testing.T, target string, node *html.Node) {
	t.Helper()
	if node.Type == html.CommentNode {
		t.Errorf("%s has a comment: %s", target, node.Data)
	}
	if node.Type != html.ElementNode {
		return
	}
	attributes := map[string]string{}
	for _, a := range node.Attr {
		attributes[a.Key] = a.Val
		if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
			t.Errorf("%s: <%s %s>", target, node.Data, a.Key)
		}
	}
	switch node.Data {
	case "img", "iframe", "object", "embed", "base", "style", "svg":
		t.Errorf("%s has <%s>", target, node.Data)
	case "script":
		if attributes["src"] != "/assets/live.js" || node.FirstChild != nil {
			t.Errorf("%s has another script: %v", target, attributes)
		}
	}
	for _, name := range []string{"href", "action", "src"} {
		if value, found := attributes[name]; found && value != "#main" && (!strings.HasPrefix(value, "/") || strings.HasPrefix(value, "//")) {
			t.Errorf("%s leads to %q", target, value)
		}
	}
}

func TestTidyAddresses(t *testing.T) {
	t.Parallel()
	b := newWindow(t, "listen: 127.0.0.1:0")
	for target, want := range map[string]string{
		"/calls?webhook=&result=failed&topic=&since=": "/calls?result=failed", "/calls?a=": "/calls", "/events?topic=x&entity=": "/events?topic=x", "/calls?result=failed": "",
	} {
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost"+target, nil))
		if got := answer.Header().Get("Location"); got != want {
			t.Errorf("%s leads to %q", target, got)
		}
	}
}

func TestPagesThatAreNot(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	for target, want := range map[string]int{"/calls/none": 404, "/events/none": 404, "/calls?limit=x": 400, "/calls?cursor=zz": 400, "/events?since=x": 400} {
		answer := httptest.NewRecorder()
		w.ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost"+target, nil))
		if answer.Code != want {
			t.Errorf("%s: %d", target, answer.Code)
		}
	}
	answer := httptest.NewRecorder()
	admin.Handler(admin.DefaultConfig(), admin.Parts{Store: broken{}}).ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost/", nil))
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "the disk is full") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

// TestPagesLinks: what pages link to is there.
func TestPagesLinks(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: 127.0.0.1:0")
	todo, seen := []string{"/"}, map[string]bool{"/": true}
	kinds := map[string]bool{}
	for len(todo) > 0 {
		target := todo[0]
		todo = todo[1:]
		answer := httptest.NewRecorder()
		w.ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost"+target, nil))
		if answer.Code != 200 {
			t.Errorf("%s: %d", target, answer.Code)
		}
		root, err := html.Parse(strings.NewReader(answer.Body.String()))
		if err != nil {
			t.Fatal(err)
		}
		for node := range root.Descendants() {
			if node.Data == "title" {
				kinds[strings.Fields(node.FirstChild.Data)[0]] = true
			}
			for _, a := range node.Attr {
				if node.Data == "a" && a.Key == "href" && strings.HasPrefix(a.Val, "/") && !seen[a.Val] {
					seen[a.Val] = true
					todo = append(todo, a.Val)
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]bool{"Overview": true, "Calls": true, "Call": true, "Events": true, "Entry.publish": true, "Why": true, "Given": true, "Settings": true, "Try": true}, kinds); diff != "" {
		t.Error(diff)
	}
}
