package sender

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cmstap/event"
)

// idServer gives tokens, "token-1" first, and notes what it was asked.
type idServer struct {
	mu      sync.Mutex
	asked   []string
	answer  string // a body with %d for the token's number
	failing bool
}

func (s *idServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	user, password, _ := r.BasicAuth()
	s.asked = append(s.asked, fmt.Sprintf("%s:%s %s", user, password, body))
	if s.failing {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, "no, %s is wrong, and so is %s", password, body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if s.answer == "" {
		s.answer = `{"access_token": "token-%d", "token_type": "Bearer", "expires_in": 3600}`
	}
	_, _ = fmt.Fprintf(w, s.answer, len(s.asked))
}

const oauth2Settings = "auth: { oauth2: { token_url: '%s', client_id: me, client_secret: { value: oauth-secret }, scopes: [a, b] } }\n"

func TestBearer(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })
	run(t, url, "auth: { bearer: { value: abc.def } }").deliver(0)
	if got := await(t, got, "no call"); got != "Bearer abc.def" {
		t.Error(got)
	}
}

// A token is used until the receiver refuses it; then it is renewed, and the
// call is repeated once, within the same attempt.
func TestOAuth2(t *testing.T) {
	t.Parallel()
	id := &idServer{}
	var mu sync.Mutex
	var calls []string
	accepted := "Bearer token-1"
	hook := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, fmt.Sprintf("%s %s %s", r.Header.Get("Authorization"), r.Header.Get("X-Attempt"), body))
		if r.Header.Get("Authorization") != accepted {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	r := run(t, hook, fmt.Sprintf(oauth2Settings, receiver(t, id.ServeHTTP)))
	check := func(accept string, result event.Result, status int, want string) {
		t.Helper()
		mu.Lock()
		calls, accepted = nil, accept
		mu.Unlock()
		s := r.deliver(0)
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(calls, ", "); s.Result != result || s.Attempt.Status != status || s.Attempt.Number != 1 || got != want {
			t.Errorf("%+v, calls %s", s.Settlement, got)
		}
	}
	const body = ` 1 {"n": 1}`
	check("Bearer token-1", event.Delivered, 200, "Bearer token-1"+body)
	check("Bearer token-1", event.Delivered, 200, "Bearer token-1"+body)
	check("Bearer token-2", event.Delivered, 200, "Bearer token-1"+body+", Bearer token-2"+body)
	check("Bearer token-2", event.Delivered, 200, "Bearer token-2"+body)
	check("nothing", event.Retry, 401, "Bearer token-2"+body+", Bearer token-3"+body)
	if len(id.asked) != 3 || id.asked[0] != "me:oauth-secret grant_type=client_credentials&scope=a+b" {
		t.Errorf("asked %q", id.asked)
	}
}

// A token that has expired is not used.
func TestOAuth2TokensExpire(t *testing.T) {
	t.Parallel()
	id := &idServer{answer: `{"access_token": "token-%d", "token_type": "Bearer", "expires_in": 1}`} // renewed 10 s before
	got := make(chan string, 2)
	hook := receiver(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })
	r := run(t, hook, fmt.Sprintf(oauth2Settings, receiver(t, id.ServeHTTP)))
	for _, want := range []string{"Bearer token-1", "Bearer token-2"} {
		r.deliver(0)
		if got := await(t, got, "no call"); got != want {
			t.Error(got)
		}
	}
}

// Many deliveries at once share one token.
func TestOAuth2IsAskedOnce(t *testing.T) {
	t.Parallel()
	id := &idServer{}
	r := run(t, receiver(t, func(http.ResponseWriter, *http.Request) {}), "concurrency: 20\n"+fmt.Sprintf(oauth2Settings, receiver(t, id.ServeHTTP)))
	for n := range 50 {
		r.deliveries <- delivery(n)
	}
	for range 50 {
		if s := await(t, r.settled, "not settled"); s.Result != event.Delivered {
			t.Errorf("%+v", s.Settlement)
		}
	}
	if len(id.asked) != 1 {
		t.Errorf("asked %d times", len(id.asked))
	}
}

// Without a token the webhook is not called, and the attempt has failed. What
// the token endpoint says shows no secret.
func TestOAuth2WithoutToken(t *testing.T) {
	t.Parallel()
	hook := receiver(t, func(http.ResponseWriter, *http.Request) { t.Error("called without a token") })
	check := func(endpoint, more, want string) {
		t.Helper()
		s := run(t, hook, more+fmt.Sprintf(oauth2Settings, endpoint)).deliver(0)
		text := s.Attempt.Error + s.Attempt.Answer
		if s.Result != event.Retry || s.Attempt.Status != 0 || !strings.HasPrefix(text, "no token (webhooks[].auth.oauth2)") || !strings.Contains(text, want) {
			t.Errorf("%+v", s.Settlement)
		}
		for _, secret := range []string{"oauth-secret", "query-secret", "/oauth2/t0ken"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows: %s", secret, text)
			}
		}
	}
	serves := func(handle http.HandlerFunc) string { return receiver(t, handle) + "/oauth2/t0ken?a=query-secret" }
	check(serves((&idServer{failing: true}).ServeHTTP), "", "401 Unauthorized")
	check(serves(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }), "", "missing access_token")
	check(serves(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, hook, http.StatusTemporaryRedirect) }), "", "307")
	check(serves(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }), "timeout: 300ms\n", "in time")
	check("http://127.0.0.1:1/oauth2/t0ken?a=query-secret", "", "connection refused")
	check("http://localhost:1/oauth2/t0ken?a=query-secret", "imported: true\nproxy: "+hook+"\n", "is not a public address")
}

// Who waits for a token that another call asks for waits no longer than its own
// deadline.
func TestOAuth2Deadline(t *testing.T) {
	t.Parallel()
	e := endpoint(t, "http://x.example", fmt.Sprintf(oauth2Settings, "http://127.0.0.1:1"))
	asking := newTokens(&e)
	asking.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := asking.get(ctx, ""); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}
