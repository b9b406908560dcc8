package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cmstap/event"
	"cmstap/outbox"
)

// TestStopWithThousands: a stop in the middle of thousands of deliveries repeats
// those whose calls were running, and no other; none is lost.
func TestStopWithThousands(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const waiting, calls, answered = 3000, 200, 500
	folder := t.TempDir()
	fillOutbox(t, folder, waiting)

	var mu sync.Mutex
	calledFor, hung := map[string]int{}, 0
	allHang := make(chan bool)
	receiver := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		calledFor[r.Header.Get("X-Cmstap-Event")]++
		hangs := hung < calls && len(calledFor) > answered
		if hangs {
			if hung++; hung == calls {
				close(allHang)
			}
		}
		mu.Unlock()
		if hangs {
			<-r.Context().Done()
		}
	}))
	config := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: "http://127.0.0.1:1" }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["*.*"], concurrency: %d, timeout: 5m }]
`, folder, receiver.URL, calls)
	first := start(t, program, config)
	<-allHang
	if lines, err := first.stop(); err != nil {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	start(t, program, config)
	untilTrue(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		twice, more := 0, 0
		for _, n := range calledFor {
			switch {
			case n == 2:
				twice++
			case n > 2:
				more++
			}
		}
		if twice > calls || more > 0 {
			t.Fatalf("%d events came twice and %d more often; %d calls were running at the stop", twice, more, calls)
		}
		return len(calledFor) == waiting && twice == calls
	})
}

// fillOutbox leaves deliveries of as many entities that wait for the webhook all.
func fillOutbox(t *testing.T, folder string, n int) {
	t.Helper()
	config := outbox.DefaultConfig()
	config.Path = folder
	o, err := outbox.Open(config, []string{"all"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var captured []event.Captured
	for i := range n {
		e := event.Event{Type: "Entry", Action: "save", Confirmed: true, Entity: event.Entity{Type: "Entry", ID: fmt.Sprint(i)}, Payload: []byte("{}")}
		e.ID = event.NewID("i", e.Topic(), e.Address(), 0)
		captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "all"}}})
	}
	if err := o.Commit(context.Background(), "i", captured, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}
