package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"
	"cmstap/outbox"
)

func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan bool), make(chan bool)
	r := run(t, receiver(t, func(http.ResponseWriter, *http.Request) { arrived <- true; <-answer }), "concurrency: 1")
	r.deliveries <- delivery(0)
	await(t, arrived, "no call")
	r.stop()
	r.deliveries <- delivery(1)
	close(answer)
	r.ended()
	if s := await(t, r.settled, "not settled"); s.Result != event.Delivered || len(r.settled) != 0 || len(r.released) != 0 {
		t.Errorf("%+v", s.Settlement)
	}
}

// slowStore answers Next although its context has ended, as a store may that
// was about to.
type slowStore struct {
	*fakeStore
	stop func()
}

func (s slowStore) Next(context.Context, string, int) ([]event.Delivery, error) {
	s.stop()
	return []event.Delivery{delivery(0), delivery(1)}, nil
}

func TestStopGivesBackWhatIsUnsent(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	url := receiver(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	store := slowStore{newFakeStore(), cancel}
	New([]Webhook{{Name: "hook", Endpoint: endpoint(t, url, "")}}, store, (&testlog.Log{}).Logger()).Run(ctx)
	if len(store.released) != 2 || hits.Load() != 0 || len(store.settled) != 0 {
		t.Errorf("%d released, %d sent", len(store.released), hits.Load())
	}
}

// hanging is a transport whose receiver never answers.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func (hanging) CloseIdleConnections() {}

func TestStopCutsWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		s := New([]Webhook{{Name: "hook", Endpoint: endpoint(t, "http://x.example", "timeout: 5m")}}, store, (&testlog.Log{}).Logger())
		s.lines["hook"].transport = hanging{}
		ctx, cancel := context.WithCancel(t.Context())
		store.deliveries <- delivery(0)
		time.AfterFunc(time.Second, cancel)
		started := time.Now()
		s.Run(ctx)
		if took := time.Since(started); took != time.Second+stopGrace {
			t.Errorf("Run took %v", took)
		}
		if len(store.released) != 1 || len(store.settled) != 0 {
			t.Error("an attempt that was cut must be given back")
		}
	})
}

func TestTimeoutIsTheWebhooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		s := New([]Webhook{{Name: "hook", Endpoint: endpoint(t, "http://x.example", "timeout: 7s")}}, store, (&testlog.Log{}).Logger())
		s.lines["hook"].transport = hanging{}
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		store.deliveries <- delivery(0)
		if got := <-store.settled; got.Attempt.Duration != 7*time.Second || got.Result != event.Retry {
			t.Errorf("%+v", got.Settlement)
		}
		cancel()
		synctest.Wait()
	})
}

func TestSettleIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, log := newFakeStore(), &testlog.Log{}
		store.failing.Store(10)
		l := &line{webhook: Webhook{Name: "hook"}, store: store, log: log.Logger()}
		l.settle(t.Context(), bundle{delivery(0)}, event.Settlement{})
		if len(store.settled) != 1 || strings.Count(log.String(), "msg=store") != 1 {
			t.Errorf("%d settled, log %s", len(store.settled), log)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		store.failing.Store(1 << 30)
		l.settle(ctx, bundle{delivery(1)}, event.Settlement{})
		if len(store.settled) != 1 || len(store.released) != 1 {
			t.Error("at a stop it must be given back")
		}
	})
}

// failingStore can not be read for a while.
type failingStore struct {
	*fakeStore
	failures atomic.Int32
}

func (f *failingStore) Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, errors.New("unreadable")
	}
	return f.fakeStore.Next(ctx, webhook, limit)
}

func TestClaimingGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, log := &failingStore{fakeStore: newFakeStore()}, &testlog.Log{}
		store.failures.Store(5)
		store.deliveries <- delivery(0)
		s := New([]Webhook{{Name: "hook", Endpoint: endpoint(t, "http://x.example", "timeout: 1s")}}, store, log.Logger())
		s.lines["hook"].transport = hanging{}
		ctx, cancel := context.WithCancel(t.Context())
		started := time.Now()
		go s.Run(ctx)
		<-store.settled
		if took := time.Since(started); took != 6*time.Second || strings.Count(log.String(), "unreadable") != 1 {
			t.Errorf("after %v: %s", took, log)
		}
		cancel()
		synctest.Wait()
	})
}

// late answers just as the calls are cut.
type late struct {
	hanging
	cut func()
}

func (l late) RoundTrip(*http.Request) (*http.Response, error) {
	l.cut()
	return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
}

func TestAnswerAtTheLastMoment(t *testing.T) {
	t.Parallel()
	check := func(failures int32, settled, released int, want, not string) {
		t.Helper()
		store, log := newFakeStore(), &testlog.Log{}
		store.failing.Store(failures)
		ctx, cut := context.WithCancel(t.Context())
		l := &line{webhook: Webhook{Name: "hook", Endpoint: endpoint(t, "http://x.example", "")}, store: store, log: log.Logger(), transport: late{cut: cut}, redactor: func() *redactor { return newRedactor(nil) }, gate: newGate(Endpoint{}, log.Logger())}
		s, made := l.attempt(ctx, bundle{delivery(0)}, false)
		l.conclude(ctx, bundle{delivery(0)}, s, made)
		if len(store.settled) != settled || len(store.released) != released {
			t.Errorf("%d settled, %d released", len(store.settled), len(store.released))
		}
		if text := log.String(); strings.Count(text, want) != 1 || strings.Contains(text, not) {
			t.Error(text)
		}
	}
	check(0, 1, 0, "msg=delivered", "msg=store")
	check(1, 0, 1, "msg=store", "msg=delivered")
}

// A store that hangs must not keep a stop for ever.
type stuckStore struct{ *fakeStore }

func (stuckStore) SettleAll(ctx context.Context, _ []event.Delivery, _ event.Settlement) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestSettleDoesNotHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := stuckStore{newFakeStore()}
		l := &line{webhook: Webhook{Name: "hook"}, store: store, log: (&testlog.Log{}).Logger()}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		started := time.Now()
		if l.settle(ctx, bundle{delivery(0)}, event.Settlement{}) || time.Since(started) != settleTime || len(store.released) != 1 {
			t.Errorf("after %v, %d released", time.Since(started), len(store.released))
		}
	})
}

// A panic costs two log lines and one delivery, not the sender, nor the
// deliveries behind it.
type panicking struct{ hanging }

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("boom") }

func TestPanic(t *testing.T) {
	t.Parallel()
	store, log := newFakeStore(), &testlog.Log{}
	l := &line{webhook: Webhook{Name: "hook", Endpoint: endpoint(t, "http://x.example", "")}, store: store, log: log.Logger(), transport: panicking{}, gate: newGate(Endpoint{}, log.Logger())}
	given, made := l.attempt(t.Context(), bundle{delivery(2)}, false)
	l.conclude(t.Context(), bundle{delivery(2)}, given, made)
	if text := log.String(); !strings.Contains(text, "msg=panic") || !strings.Contains(text, "boom") || !strings.Contains(text, "msg=failed") {
		t.Error(text)
	}
	s := await(t, store.settled, "the claim is kept for ever")
	if s.Result != event.GiveUp || s.Attempt.Number != 3 || s.Reason != "a fault in cmstap, see the log" {
		t.Errorf("%+v", s.Settlement)
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	var busy, most atomic.Int32
	arrived, answer := make(chan bool, 100), make(chan bool)
	r := run(t, receiver(t, func(http.ResponseWriter, *http.Request) {
		if n := busy.Add(1); n > most.Load() {
			most.Store(n)
		}
		arrived <- true
		<-answer
		busy.Add(-1)
	}), "concurrency: 3")
	for n := range 20 {
		r.deliveries <- delivery(n)
	}
	for range 3 {
		await(t, arrived, "not three at a time")
	}
	close(answer)
	for range 20 {
		await(t, r.settled, "not all are delivered")
	}
	if got := most.Load(); got != 3 {
		t.Errorf("%d at a time", got)
	}
}

var attemptLines = map[event.Result]*regexp.Regexp{
	event.Delivered: regexp.MustCompile(`^time=\S+ level=INFO msg=delivered webhook=hook event=event0 topic=Entry.publish entity=e1 attempt=1 status=200 duration=\S+$`),
	event.Retry:     regexp.MustCompile(`^time=\S+ level=WARN msg=retrying webhook=hook event=event0 topic=Entry.publish entity=e1 attempt=1 status=500 duration=\S+ next=\S+Z$`),
	event.GiveUp:    regexp.MustCompile(`^time=\S+ level=ERROR msg=failed webhook=hook event=event0 topic=Entry.publish entity=e1 attempt=1 status=404 duration=\S+ reason=".+"$`),
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	check := func(status int, result event.Result) {
		t.Helper()
		r := run(t, receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), "retry: { on: [5xx] }")
		r.deliver(0)
		r.stop()
		r.ended()
		if line := strings.TrimSpace(r.log.String()); !attemptLines[result].MatchString(line) {
			t.Errorf("%d: %s", status, line)
		}
	}
	check(200, event.Delivered)
	check(500, event.Retry)
	check(404, event.GiveUp)
}

// half is a receiver that fails half of the time, and keeps what arrived.
type half struct {
	mu     sync.Mutex
	random *rand.Rand
	ids    map[string]bool     // accepted
	order  map[string][]string // entity -> payloads, as accepted
	calls  int
}

func (h *half) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if h.random.IntN(2) == 0 {
		w.WriteHeader(500)
		return
	}
	id, entity, place := r.Header.Get("X-Cmstap-Event"), r.Header.Get("X-Entity"), r.Header.Get("X-Place")
	h.ids[id] = true
	if order := h.order[entity]; len(order) == 0 || order[len(order)-1] != place {
		h.order[entity] = append(order, place)
	}
}

func TestOverARealOutbox(t *testing.T) {
	t.Parallel()
	h := &half{random: rand.New(rand.NewPCG(1, 2)), ids: map[string]bool{}, order: map[string][]string{}}
	url := receiver(t, h.ServeHTTP)
	hangs := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	config := outbox.DefaultConfig()
	config.Path, config.Sync = t.TempDir(), false
	log := &testlog.Log{}
	store, err := outbox.Open(config, []string{"half", "hangs"}, log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	s := New([]Webhook{
		{Name: "half", Endpoint: endpoint(t, url, "breaker: off\nretry: { delays: ["+strings.Repeat("1ms, ", 99)+"1ms] }")},
		{Name: "hangs", Endpoint: endpoint(t, hangs, "timeout: 2s\nconcurrency: 1")}, // must not delay the other
	}, store, log.Logger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	const entities, each = 10, 20
	want := map[string]bool{}
	for n := range entities * each {
		e := event.Event{
			ID: event.NewID("i", "t", "k", n), Time: time.Now(), Type: "Entry", Action: "save", Payload: []byte(fmt.Sprint(n)),
			Entity: event.Entity{ID: fmt.Sprint(n % entities)}, Confirmed: true,
		}
		e.Native.Headers = []event.Header{{Name: "X-Entity", Value: e.Entity.ID}, {Name: "X-Place", Value: fmt.Sprintf("%04d", n)}}
		want[e.ID] = true
		if err := store.Commit(ctx, "i", []event.Captured{{Event: e, Want: []event.Want{{Webhook: "half"}, {Webhook: "hangs"}}}}, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); strings.Count(log.String(), "msg=delivered") < len(want); {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are delivered", strings.Count(log.String(), "msg=delivered"), len(want))
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	await(t, done, "Run does not return")
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if len(h.ids) != len(want) || h.calls < len(want)+len(want)/2 {
		t.Errorf("%d of %d events, %d calls", len(h.ids), len(want), h.calls)
	}
	for entity, order := range h.order {
		if len(order) != each || !slices.IsSorted(order) {
			t.Errorf("entity %s came as %v", entity, order)
		}
	}
}

// TestOneOfABundle: an event that can not be sent takes no other with it.
func TestOneOfABundle(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 10)
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
	})
	config := outbox.DefaultConfig()
	config.Path, config.Sync = t.TempDir(), false
	config.Queues = map[string]outbox.Queue{"hook": {Batch: &outbox.Batch{MaxEvents: 10, By: "webhook"}}}
	log := &testlog.Log{}
	store, err := outbox.Open(config, []string{"hook"}, log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	var captured []event.Captured
	for n, payload := range []string{`{"n": 1}`, `{"n": "x"}`, `{"n": 3}`} {
		e := event.Event{ID: event.NewID("i", "t", "k", n), Type: "Entry", Action: "save", Payload: []byte(payload), Entity: event.Entity{ID: fmt.Sprint(n)}, Confirmed: true}
		captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "hook"}}})
	}
	if err := store.Commit(t.Context(), "i", captured, nil, nil); err != nil {
		t.Fatal(err)
	}
	e := endpoint(t, url, "body: { large: '${map(filter(events, #.payload.n > 0), #.entity.id)}' }")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New([]Webhook{{Name: "hook", Endpoint: e, Bundled: true}}, store, log.Logger()).Run(ctx)
	}()
	if got := await(t, bodies, "no call"); got != `{"large":["0","2"]}` {
		t.Error(got)
	}
	cancel()
	<-done
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "msg=failed") != 1 || strings.Count(text, "msg=delivered") != 2 {
		t.Error(text)
	}
}
