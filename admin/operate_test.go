package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cmstap/admin"
	"cmstap/event"

	"github.com/getkin/kin-openapi/openapi3filter"
)

func init() {
	for _, lines := range []string{"application/x-ndjson", "text/event-stream"} {
		openapi3filter.RegisterBodyDecoder(lines, openapi3filter.PlainBodyDecoder)
	}
}

// idle is an operator that does nothing, and says so as it is described.
type idle struct{}

func (idle) Resend(_ context.Context, id, webhook string) (event.Resent, error) {
	return event.Resent{Event: id, Webhook: webhook}, nil
}
func (idle) CountFailed(context.Context, event.Query) (event.Tally, error) {
	return event.Tally{Done: true}, nil
}
func (idle) ResendFailed(_ context.Context, _ event.Query, rate int, _ func(event.Tally)) (event.Tally, error) {
	return event.Tally{Deliveries: rate, Done: true}, nil
}
func (idle) Pause(context.Context, string) error  { return nil }
func (idle) Resume(context.Context, string) error { return nil }
func (idle) Explain(id, _ string) (event.Explanation, error) {
	return event.Explanation{Event: id, Webhooks: []event.Explained{{Webhook: "a", Answer: "no"}}}, nil
}
func (idle) CountReplay(context.Context, event.Query, func(event.Tally)) (event.Tally, error) {
	return event.Tally{Done: true}, nil
}
func (idle) Replay(context.Context, event.Query, int, func(event.Tally)) (event.Tally, error) {
	return event.Tally{Done: true}, nil
}
func (idle) Compare(_ context.Context, config []byte, _ event.Query, _ func(event.Comparison)) (event.Comparison, error) {
	return event.Comparison{Events: len(config), Differences: []event.Difference{}, Done: true}, nil
}
func (idle) Test(_ context.Context, webhook string) (event.Call, error) {
	return event.Call{Webhook: webhook, Attempt: 1, Result: "delivered"}, nil
}
func (idle) Tail(event.Query, string) (event.Tail, error) {
	return event.Tail{Stop: func() {}}, nil
}

// refusing refuses, and its store fails.
type refusing struct{ idle }

func (refusing) Resend(context.Context, string, string) (event.Resent, error) {
	return event.Resent{}, event.Refuse(event.Conflict, "a call of it is under way")
}
func (refusing) Pause(context.Context, string) error { return errors.New("the disk is full") }
func (refusing) ResendFailed(context.Context, event.Query, int, func(event.Tally)) (event.Tally, error) {
	return event.Tally{}, event.Refuse(event.NotFound, "there is no webhook x")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	handler := admin.Handler(admin.DefaultConfig(), admin.Parts{Operator: refusing{}})
	check := func(target string, status int, detail string) {
		t.Helper()
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("POST", "http://localhost"+target, strings.NewReader("a: b")))
		var problem struct{ Detail string }
		_ = json.Unmarshal(answer.Body.Bytes(), &problem)
		if answer.Code != status || problem.Detail != detail || answer.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", target, answer.Code, answer.Body)
		}
	}
	check("/api/events/x/resend?webhook=a", 409, "a call of it is under way")
	check("/api/events/x/resend", 400, "name the webhook: ?webhook=NAME")
	check("/api/webhooks/x/pause", 503, "the store can not do that now: the disk is full")
	check("/api/webhooks/x/pause?a=b", 400, `unknown parameter "a"`)
	check("/api/resend?webhook=x", 404, "there is no webhook x")
	check("/api/resend?rate=0", 400, `rate must be from 1 to 1000 deliveries a second, not "0"`)
	check("/api/replay", 400, "say since when: since=7d")
	check("/api/replay/diff?since=1h&rate=x", 400, `rate must be from 1 to 1000 deliveries a second, not "x"`)
}

// TestPostsNeedTheToken: what changes something wants the token, and comes from
// no other site.
func TestPostsNeedTheToken(t *testing.T) {
	t.Parallel()
	w := newWindow(t, "listen: :0\ntoken: { value: "+token+" }")
	for path, item := range w.spec.Paths.Map() {
		if item.Post == nil {
			continue
		}
		target := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path) + required[path]
		check := func(want int, headers ...string) {
			t.Helper()
			status, body := w.ask("POST", target, func(r *http.Request) {
				for i := 0; i < len(headers); i += 2 {
					r.Header.Set(headers[i], headers[i+1])
				}
			})
			if status != want || strings.Contains(body, token) {
				t.Errorf("%s %v: %d %s", path, headers, status, body)
			}
		}
		check(401)
		check(403, "Authorization", "Bearer "+token, "Origin", "https://evil.example")
		check(403, "Authorization", "Bearer "+token, "Sec-Fetch-Site", "cross-site")
		check(200, "Authorization", "Bearer "+token)
	}
}

// slow reports much, and fails in the middle.
type slow struct{ idle }

func (slow) Replay(_ context.Context, _ event.Query, _ int, report func(event.Tally)) (event.Tally, error) {
	for i := range 1000 {
		report(event.Tally{Events: i})
	}
	return event.Tally{Events: 1000, Done: true}, nil
}

// TestLines: long work answers with lines, of which the last is the result.
func TestLines(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	handler := admin.Handler(admin.DefaultConfig(), admin.Parts{Operator: slow{}})
	handler.ServeHTTP(answer, httptest.NewRequest("POST", "http://localhost/api/replay?since=1h", nil))
	var last event.Tally
	lines := 0
	for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); lines++ {
		if err := json.Unmarshal(scanner.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
	}
	if !last.Done || last.Events != 1000 || lines > 100 || answer.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d lines, %+v", lines, last)
	}
}

// left is an operator that tells whether a work goes on without its client.
type left struct{ idle }

func (left) ResendFailed(ctx context.Context, _ event.Query, _ int, _ func(event.Tally)) (event.Tally, error) {
	return event.Tally{Done: true}, ctx.Err()
}
func (left) Replay(ctx context.Context, _ event.Query, _ int, _ func(event.Tally)) (event.Tally, error) {
	return event.Tally{Done: true}, ctx.Err()
}
func (left) CountReplay(ctx context.Context, _ event.Query, _ func(event.Tally)) (event.Tally, error) {
	return event.Tally{Done: true}, ctx.Err()
}

// TestClientLeaves: what sends goes on, what only looks ends.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	handler := admin.Handler(admin.DefaultConfig(), admin.Parts{Operator: left{}})
	check := func(method, target string, want int) {
		t.Helper()
		ctx, leave := context.WithCancel(t.Context())
		leave()
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, method, "http://localhost"+target, nil))
		if answer.Code != want {
			t.Errorf("%s %s: %d %s", method, target, answer.Code, answer.Body)
		}
	}
	check("POST", "/api/resend", 200)
	check("POST", "/api/replay?since=1h", 200)
	check("GET", "/api/replay?since=1h", 503)
}
