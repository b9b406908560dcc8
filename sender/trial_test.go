package sender

import (
	"fmt"
	"net/http"
	"testing"

	"cmstap/event"
	"cmstap/internal/testlog"
)

// TestBundleRedelivery: a call of many says why it is made again if that is so of
// each of them.
func TestBundleRedelivery(t *testing.T) {
	t.Parallel()
	check := func(want event.Redelivery, kinds ...event.Redelivery) {
		t.Helper()
		var b bundle
		for _, kind := range kinds {
			b = append(b, event.Delivery{Redelivery: kind})
		}
		if got := b.redelivery(); got != want {
			t.Errorf("%v: %q", kinds, got)
		}
	}
	check("", "")
	check("resend", "resend", "resend")
	check("", "resend", "")
	check("", "resend", "replay")
}

// TestTry: a test call goes the way of any call, and teaches the breaker nothing.
func TestTry(t *testing.T) {
	t.Parallel()
	var seen []string
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprint(r.Header.Get("X-Cmstap-Redelivery"), " ", r.Header.Get("Authorization")))
		w.WriteHeader(500)
	})
	s := New([]Webhook{{Name: "hook", Endpoint: endpoint(t, url, "auth: { bearer: { value: key } }\nbreaker: { failures: 1, wait: 1h }")}}, newFakeStore(), (&testlog.Log{}).Logger())
	d := delivery(1)
	for range 2 {
		end, found, err := s.Try(t.Context(), "hook", d.Event)
		if err != nil || !found || end.Result != event.GiveUp || end.Attempt.Status != 500 || end.Attempt.Wire == nil {
			t.Errorf("%+v %v", end, err)
		}
	}
	if got := fmt.Sprint(seen, s.Breakers()["hook"]); got != "[test Bearer key test Bearer key]closed" {
		t.Error(got)
	}
	if _, found, _ := s.Try(t.Context(), "none", d.Event); found {
		t.Error("there is none")
	}
}
