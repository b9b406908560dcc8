package sender

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// etiquette is a receiver that answers in one way and keeps the heads and bodies
// of the calls.
type etiquette struct {
	t     *testing.T
	url   string
	calls chan *http.Request
}

func newEtiquette(t *testing.T, handle http.HandlerFunc) *etiquette {
	t.Helper()
	e := &etiquette{t: t, calls: make(chan *http.Request, 100)}
	e.url = receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		e.calls <- r.Clone(r.Context())
		handle(w, r)
	})
	return e
}

func answering(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// TestEtiquette holds the sender to what receivers may expect. SW is Standard
// Webhooks 1.0 (github.com/standard-webhooks), CE is HTTP 1.1 Web Hooks for Event
// Delivery of CloudEvents 1.0.2, by section.
func TestEtiquette(t *testing.T) {
	t.Parallel()
	first := func(t *testing.T, settings string, handle http.HandlerFunc) settled {
		return run(t, newEtiquette(t, handle).url, settings).deliver(0)
	}
	line := func(name string, check func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t) })
	}

	line("only 2xx is success (SW, CE 2.2)", func(t *testing.T) {
		for _, status := range []int{200, 201, 202, 204, 299} {
			if s := first(t, "", answering(status)); s.Result != event.Delivered {
				t.Errorf("%d: %+v", status, s.Settlement)
			}
		}
		for _, status := range []int{300, 304, 400, 404, 415, 422, 500, 502, 504} {
			if s := first(t, "", answering(status)); s.Result != event.Retry || s.Wait <= 0 {
				t.Errorf("%d: %+v", status, s.Settlement)
			}
		}
	})
	line("a redirect is a failure and is not followed (SW, CE 2.2)", func(t *testing.T) {
		var followed atomic.Bool
		target := receiver(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
		for _, status := range []int{301, 302, 303, 307, 308} {
			if s := first(t, "", answering(status, "Location", target)); s.Result != event.Retry || s.Attempt.Status != status {
				t.Errorf("%d: %+v", status, s.Settlement)
			}
		}
		if followed.Load() {
			t.Error("it was followed")
		}
	})
	line("410 ends the calls (SW, CE 2.2)", func(t *testing.T) {
		e := newEtiquette(t, answering(http.StatusGone))
		r := run(t, e.url, "")
		r.deliver(0)
		awaitGone(t, r.sender, r.log)
		if len(e.calls) != 1 || !strings.Contains(r.log.String(), "msg=gone") {
			t.Errorf("%d calls, %s", len(e.calls), r.log)
		}
	})
	for _, status := range []int{429, 503} {
		for form, value := range map[string]string{"seconds": "3600", "a date": "Fri, 02 Jan 2026 04:04:05 GMT"} {
			line(fmt.Sprintf("%d with Retry-After as %s pauses the webhook (SW, CE 2.2)", status, form), func(t *testing.T) {
				e := newEtiquette(t, answering(status, "Retry-After", value, "Date", "Fri, 02 Jan 2026 03:04:05 GMT"))
				r := run(t, e.url, "concurrency: 1")
				s := r.deliver(0)
				r.stop()
				r.ended()
				if s.Result != event.Retry || s.Wait != time.Hour || !strings.Contains(r.log.String(), "msg=paused") {
					t.Errorf("%+v %s", s.Settlement, r.log)
				}
			})
		}
	}
	line("502 and 504 are tried again, later and later (SW)", func(t *testing.T) {
		r := run(t, newEtiquette(t, answering(http.StatusBadGateway)).url, "")
		if early, late := r.deliver(0), r.deliver(3); early.Result != event.Retry || late.Result != event.Retry || late.Wait < 10*early.Wait {
			t.Errorf("%v and then %v", early.Wait, late.Wait)
		}
	})
	line("waits are spread (SW)", func(t *testing.T) {
		r := run(t, newEtiquette(t, answering(http.StatusInternalServerError)).url, "breaker: off\nretry: { delays: [1h] }")
		waits := map[time.Duration]bool{}
		for range 8 {
			wait := r.deliver(0).Wait
			waits[wait] = true
			if wait < 48*time.Minute || wait > 72*time.Minute {
				t.Errorf("%v", wait)
			}
		}
		if len(waits) < 2 {
			t.Errorf("all wait %v", waits)
		}
	})
	line("a receiver that does not answer in time has failed (SW)", func(t *testing.T) {
		s := first(t, "timeout: 200ms", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		if s.Result != event.Retry || s.Attempt.Status != 0 || !strings.Contains(s.Attempt.Error, "no answer in time") {
			t.Errorf("%+v", s.Settlement)
		}
		if e := endpoint(t, "http://x.example", ""); e.Timeout.Std() < 15*time.Second || e.Timeout.Std() > 30*time.Second {
			t.Errorf("by default it has %v; SW asks for 15 to 30 s", e.Timeout)
		}
	})
	line("it is a POST with a content type and a length (CE 2.1)", func(t *testing.T) {
		e := newEtiquette(t, answering(200))
		run(t, e.url, "").deliver(0)
		if r := <-e.calls; r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.ContentLength != 8 {
			t.Errorf("%+v", r)
		}
	})
	line("the caller may name itself in Authorization (CE 3.1)", func(t *testing.T) {
		e := newEtiquette(t, answering(200))
		run(t, e.url, "auth: { bearer: { value: abc } }").deliver(0)
		if r := <-e.calls; r.Header.Get("Authorization") != "Bearer abc" {
			t.Errorf("%+v", r.Header)
		}
	})

	const current, previous = "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct", "cHJldmlvdXMtcHJldmlvdXMtcHJldmlv"
	const signing = "signing: { scheme: standard, secret: { value: whsec_" + current + " }, previous: { value: whsec_" + previous + " } }"
	line("the id is in webhook-id, has no dot, and is the same in each attempt (SW)", func(t *testing.T) {
		e := newEtiquette(t, answering(500))
		s := newStored(t, e.url, signing+"\nretry: { delays: [1ms] }")
		s.commit(1)
		s.run()
		s.lines("failed", 1)
		one, two := <-e.calls, <-e.calls
		id := one.Header.Get("Webhook-Id")
		if id == "" || strings.Contains(id, ".") || id != two.Header.Get("Webhook-Id") || two.Header.Get("X-Attempt") != "2" {
			t.Errorf("%q and %q", id, two.Header.Get("Webhook-Id"))
		}
	})
	line("webhook-timestamp is the attempt's, in seconds (SW)", func(t *testing.T) {
		e := newEtiquette(t, answering(200))
		s := run(t, e.url, signing).deliver(0)
		if got := (<-e.calls).Header.Get("Webhook-Timestamp"); got != strconv.FormatInt(s.Attempt.Time.Unix(), 10) {
			t.Errorf("%s for %v", got, s.Attempt.Time)
		}
	})
	line("while secrets change there are two signatures over the bytes that were sent (SW)", func(t *testing.T) {
		e := newEtiquette(t, answering(200))
		run(t, e.url, signing).deliver(0)
		r := <-e.calls
		body, _ := io.ReadAll(r.Body)
		if got := r.Header.Get("Webhook-Signature"); strings.Count(got, "v1,") != 2 || strings.Count(got, " ") != 1 {
			t.Error(got)
		}
		for _, secret := range []string{current, previous} {
			if receiver, err := standardwebhooks.NewWebhook(secret); err != nil || receiver.Verify(body, r.Header) != nil {
				t.Errorf("%s: %v", secret, err)
			}
		}
		if other, _ := standardwebhooks.NewWebhook(base64.StdEncoding.EncodeToString([]byte("other"))); other.Verify(body, r.Header) == nil {
			t.Error("another secret fits")
		}
	})
	line("a failed call is repeated with the same body (SW)", func(t *testing.T) {
		e := newEtiquette(t, answering(500))
		r := run(t, e.url, "")
		r.deliver(0)
		r.deliver(1)
		one, _ := io.ReadAll((<-e.calls).Body)
		two, _ := io.ReadAll((<-e.calls).Body)
		if string(one) != string(two) || len(one) == 0 {
			t.Errorf("%s and then %s", one, two)
		}
	})
	line("inner addresses are not called for strangers (SW)", func(t *testing.T) {
		e := newEtiquette(t, answering(200))
		url := strings.Replace(e.url, "127.0.0.1", "localhost", 1)
		if s := run(t, url, "imported: true").deliver(0); s.Result != event.Retry || len(e.calls) != 0 || !strings.Contains(s.Attempt.Error, "egress.allow") {
			t.Errorf("%+v", s.Settlement)
		}
	})
}
