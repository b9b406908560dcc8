package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cmstap/event"
)

// batchReceiver takes bundles, and answers every third call with 500.
type batchReceiver struct {
	t  *testing.T
	mu sync.Mutex

	calls  int
	events map[string]int // how often each was in a call that was answered with 200
	sizes  map[string]int // of bundles, by id
}

func (b *batchReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Batch  string
		Events []struct {
			ID     string
			Entity event.Entity
		}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return // a kill cut it off
	}
	if err = errors.Join(err, json.Unmarshal(text, &body)); err != nil {
		b.t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if n, seen := b.sizes[body.Batch]; seen && n != len(body.Events) {
		b.t.Errorf("the bundle %s had %d events, and now %d", body.Batch, n, len(body.Events))
	}
	b.sizes[body.Batch] = len(body.Events)
	if r.Header.Get("X-Cmstap-Batch") != body.Batch || r.Header.Get("Webhook-Id") != body.Batch || r.Header.Get("X-Cmstap-Batch-Events") != fmt.Sprint(len(body.Events)) {
		b.t.Errorf("the bundle %s has the headers %v", body.Batch, r.Header)
	}
	if b.calls%3 == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, e := range body.Events {
		b.events[e.ID]++
	}
}

func (b *batchReceiver) delivered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events)
}

// TestBatch: bursts of 100 events, and three kills: each event is in some call, and
// there are few calls. make batch sends 100 bursts.
func TestBatch(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	bursts, each := number("CMSTAP_BURSTS", 20), 100
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		_, _ = fmt.Fprintf(w, `{"sys":{"id":%q,"type":"Entry","version":2}}`, id)
	}))
	receiver := &batchReceiver{t: t, events: map[string]int{}, sizes: map[string]int{}}
	folder := t.TempDir()
	config := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks:
  - name: build
    url: %q
    topics: ["Entry.*"]
    batch: { wait: 300ms, max_wait: 20s, max_events: 100 }
    retry: { delays: [100ms, 200ms, 200ms, 200ms, 200ms, 200ms] }
    signing: { scheme: standard, secret: { value: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw } }
`, cms.URL, folder, serve(t, receiver).URL)
	p := start(t, program, config)
	var done int
	for burst := range bursts {
		var all sync.WaitGroup
		for worker := range 10 {
			all.Go(func() {
				for n := range each / 10 {
					url := fmt.Sprintf("http://%s/spaces/s/environments/master/entries/e%d-%d-%d", p.proxy, burst, worker, n)
					if status, text, err := ask("PUT", url, `{"fields":{}}`, map[string]string{"X-Contentful-Version": "1"}); err != nil || status != 200 {
						t.Errorf("%d %s %v", status, text, err)
					}
				}
			})
		}
		all.Wait()
		done += each
		if burst%(bursts/4) == bursts/4-1 && burst < bursts-1 {
			p.kill()
			p = start(t, program, config)
		}
	}
	untilTrue(t, func() bool { return receiver.delivered() == done })
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	t.Logf("%d events in %d calls, %d bundles", done, receiver.calls, len(receiver.sizes))
	if most := 3 * bursts; receiver.calls >= most {
		t.Errorf("%d calls for %d bursts", receiver.calls, bursts)
	}
}
