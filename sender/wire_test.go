package sender

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// TestWireKeepsSecrets: of a call with every kind of secret, to a receiver that
// echoes all of it, none is kept.
func TestWireKeepsSecrets(t *testing.T) {
	t.Parallel()
	const config = `
headers: { X-Key: { value: hdr-secret }, X-Plain: plain-secret, x-contentful-topic: topic-secret, X-Filled: 'filled-secret-${type}' }
auth: { basic: { username: user, password: { value: basic-secret } } }
signing: { scheme: standard, secret: { value: sign-secret } }
`
	for _, status := range []int{200, 500} {
		address := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "session=cookie-secret")
			w.Header().Set("Location", "https://x.example/?token=location-secret")
			w.Header().Set("X-Auth-Token", "answer-secret")
			w.Header().Set("X-Echo", r.Header.Get("X-Key")+" "+r.RequestURI)
			w.Header().Set("X-Fine", "fine")
			w.WriteHeader(status)
			fmt.Fprint(w, r.RequestURI, r.Header)
		})
		w := run(t, address+"/path%20secret/a?token=query-secret", config).deliver(0).Attempt.Wire
		text := fmt.Sprint(w)
		for _, secret := range []string{"path%20secret", "path secret", "query-secret", "hdr-secret", "plain-secret", "topic-secret", "filled-secret",
			"basic-secret", "sign-secret", "v1,", "cookie-secret", "location-secret", "answer-secret", "token="} {
			if strings.Contains(text, secret) {
				t.Errorf("%d: %s is in %s", status, secret, text)
			}
		}
		if w.Method != "POST" || w.URL != address+"/<secret>" || w.Bytes == 0 || !strings.HasPrefix(w.Answer, "<secret>map[") {
			t.Errorf("%+v", w)
		}
		for _, want := range []event.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Authorization", Value: hidden}, {Name: "X-Plain", Value: hidden}, {Name: "Webhook-Signature", Value: hidden}} {
			if !has(w.Headers, want) {
				t.Errorf("%+v is not in %+v", want, w.Headers)
			}
		}
		for _, want := range []event.Header{{Name: "X-Fine", Value: "fine"}, {Name: "Set-Cookie", Value: hidden}, {Name: "X-Echo", Value: "<secret> <secret>"}} {
			if !has(w.AnswerHeaders, want) {
				t.Errorf("%+v is not in %+v", want, w.AnswerHeaders)
			}
		}
	}
}

func has(headers []event.Header, want event.Header) bool {
	for _, h := range headers {
		if h == want {
			return true
		}
	}
	return false
}

// TestWireIsSmall: a receiver can not make a record large.
func TestWireIsSmall(t *testing.T) {
	t.Parallel()
	url := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		for n := range 60 {
			w.Header().Set(fmt.Sprint("X-", n), strings.Repeat("v", 1000))
		}
		fmt.Fprint(w, strings.Repeat("a", 100_000))
	})
	w := run(t, url, "").deliver(0).Attempt.Wire
	if len(w.AnswerHeaders) != maxHeaders || len(w.Answer) != maxAnswer+len("...") || w.URL != url+"/" {
		t.Errorf("%d headers, %d bytes, %s", len(w.AnswerHeaders), len(w.Answer), w.URL)
	}
	for _, h := range w.AnswerHeaders {
		if len(h.Value) > maxValue+len("...") {
			t.Errorf("%+v", h)
		}
	}
}

// TestWireWithoutAnswer: what was sent is kept if nothing came back, and nothing
// if nothing was sent.
func TestWireWithoutAnswer(t *testing.T) {
	t.Parallel()
	w := run(t, "http://127.0.0.1:1/x", "").deliver(0).Attempt.Wire
	if w == nil || w.Method != "POST" || w.AnswerHeaders != nil || w.Answer != "" {
		t.Errorf("%+v", w)
	}
	if w := run(t, "http://127.0.0.1:1", "headers: { A: '${len(payload.n)}' }").deliver(0).Attempt.Wire; cmp.Diff((*event.Wire)(nil), w) != "" {
		t.Errorf("%+v", w)
	}
}
