package sender

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
)

// A storm of retries leaves new events half of the calls: they are through long
// before it is over.
func TestStormOfRetries(t *testing.T) {
	t.Parallel()
	const old, fresh = 10_000, 200
	var retries, news, before atomic.Int32
	var begun atomic.Int64
	done := make(chan bool)
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Attempt") != "1":
			retries.Add(1)
		case news.Add(1) == fresh:
			before.Store(retries.Load())
			t.Logf("%d new events were delivered %v after they were stored, with %d of %d retries", fresh,
				time.Since(time.Unix(0, begun.Load())).Round(time.Millisecond), before.Load(), old)
			close(done)
		}
	})
	s := newStored(t, url, "breaker: off\nretry: { delays: [1ms, 1ms] }")
	commit := func(kind string, n int) {
		t.Helper()
		var captured []event.Captured
		for i := range n {
			e := event.Event{Time: time.Now(), Type: "Entry", Action: "save", Payload: []byte("{}"), Entity: event.Entity{ID: fmt.Sprint(kind, i)}, Confirmed: true}
			e.ID = event.NewID(kind, e.Topic(), e.Key(), i)
			e.Native.Headers = []event.Header{{Name: "X-Attempt", PerCall: event.CallAttempt}}
			captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "hook"}}})
		}
		if err := s.Commit(t.Context(), kind, captured, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for n := range old / 500 {
		commit(fmt.Sprint("old", n, "/"), 500)
	}
	for claimed := 0; claimed < old; { // as if each had failed once
		deliveries, err := s.Next(t.Context(), "hook", 500)
		if err != nil {
			t.Fatal(err)
		}
		claimed += settleAll(t, s, deliveries)
	}
	commit("new", fresh)
	begun.Store(time.Now().UnixNano())
	s.run()
	await(t, done, "the new events wait")
	if got := before.Load(); got > 2*fresh {
		t.Errorf("%d retries went first", got)
	}
}

// settleAll settles deliveries as failed, and returns how many failed for the
// first time.
func settleAll(t *testing.T, s *stored, deliveries []event.Delivery) (first int) {
	t.Helper()
	var all sync.WaitGroup
	for _, d := range deliveries {
		if d.Attempts == 0 {
			first++
		}
		all.Go(func() {
			failed := event.Settlement{Attempt: event.Attempt{Number: d.Attempts + 1, Time: time.Now(), Status: 500}, Result: event.Retry}
			if err := s.Settle(t.Context(), d, failed); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return first
}
