package sender

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"
	"cmstap/outbox"
)

// stored is a sender for one webhook "hook" over an outbox on disk.
type stored struct {
	*outbox.Outbox
	t      *testing.T
	config outbox.Config
	hook   Endpoint
	log    *testlog.Log
	sender *Sender
	stop   func()
	done   chan struct{}
}

func newStored(t *testing.T, url, settings string) *stored {
	t.Helper()
	s := &stored{t: t, config: outbox.DefaultConfig(), hook: endpoint(t, url, settings)}
	s.config.Path, s.config.Sync = t.TempDir(), false
	s.open()
	t.Cleanup(func() { s.close() })
	return s
}

func (s *stored) open() {
	s.t.Helper()
	var err error
	s.log = &testlog.Log{}
	if s.Outbox, err = outbox.Open(s.config, []string{"hook"}, s.log.Logger()); err != nil {
		s.t.Fatal(err)
	}
	s.stop = func() {}
}

// run starts the sender, which ends with stop.
func (s *stored) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done = cancel, make(chan struct{})
	s.sender = New([]Webhook{{Name: "hook", Endpoint: s.hook}}, s.Outbox, s.log.Logger())
	go func() {
		defer close(s.done)
		s.sender.Run(ctx)
	}()
}

// awaitGone waits until a webhook was stopped by a 410, and all its calls have ended.
func awaitGone(t *testing.T, s *Sender, log *testlog.Log) {
	t.Helper()
	awaitLines(t, log, "gone", 1)
	ended := make(chan struct{})
	go func() { defer close(ended); s.running.Wait() }()
	await(t, ended, "it goes on")
}

func (s *stored) close() {
	s.t.Helper()
	s.stop()
	if s.done != nil {
		await(s.t, s.done, "Run does not return")
	}
	if err := s.Close(); err != nil {
		s.t.Error(err)
	}
}

// commit stores n events, each of an entity of its own.
func (s *stored) commit(n int) {
	s.t.Helper()
	var captured []event.Captured
	for i := range n {
		e := event.Event{
			ID: event.NewID("i", "t", fmt.Sprint(n), i), Time: time.Now(), Type: "Entry", Action: "save", Payload: []byte("{}"),
			Entity: event.Entity{ID: fmt.Sprint(i)}, Confirmed: true,
		}
		e.Native.Headers = []event.Header{{Name: "X-Attempt", PerCall: event.CallAttempt}}
		captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "hook"}}})
	}
	if err := s.Commit(s.t.Context(), "i", captured, nil, nil); err != nil {
		s.t.Fatal(err)
	}
}

// lines waits until the log has n lines of a kind.
func (s *stored) lines(msg string, n int) {
	s.t.Helper()
	awaitLines(s.t, s.log, msg, n)
}

func awaitLines(t *testing.T, log *testlog.Log, msg string, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); strings.Count(log.String(), "msg="+msg+" ") < n; {
		if time.Now().After(deadline) {
			t.Fatalf("not %d lines %s:\n%s", n, msg, log)
		}
		<-time.After(time.Millisecond)
	}
}

// calls is a receiver that answers by number, and keeps when which attempt came.
type calls struct {
	mu       sync.Mutex
	answer   func(n int, w http.ResponseWriter)
	times    []time.Time
	attempts []string
}

func (c *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, time.Now())
	c.attempts = append(c.attempts, r.Header.Get("X-Attempt"))
	c.answer(len(c.times), w)
}

func (c *calls) list() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.attempts, " ")
}

// Retry-After is for the receiver, not only for the delivery that it came with.
func TestRetryAfterPausesTheWebhook(t *testing.T) {
	t.Parallel()
	check := func(status int, value func() string, pauses bool) {
		t.Helper()
		c := &calls{answer: func(n int, w http.ResponseWriter) {
			if n == 1 {
				w.Header().Set("Retry-After", value())
				w.WriteHeader(status)
			}
		}}
		s := newStored(t, receiver(t, c.ServeHTTP), "concurrency: 1\nretry: { delays: [1ms] }")
		s.commit(4)
		s.run()
		s.lines("delivered", 4)
		pause := c.times[1].Sub(c.times[0])
		if pauses != (pause >= 990*time.Millisecond) || pauses != (strings.Count(s.log.String(), "msg=paused webhook=hook status=") == 1) {
			t.Errorf("%d %s: the next call came after %v\n%s", status, value(), pause, s.log)
		}
		if got := c.list(); strings.Count(got, "1") != 4 || strings.Count(got, "2") != 1 {
			t.Errorf("%d: attempts %s", status, got)
		}
	}
	seconds := func() string { return "1" }
	check(429, seconds, true)
	check(503, seconds, true)
	check(500, seconds, false) // that delivery alone
	check(429, func() string { return "soon" }, false)
	// A date counts from the receiver's own, in whole seconds: between one and two here.
	check(503, func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }, true)
}

// 410 stops a webhook, loudly. Nothing is lost, and the next start tries again.
func TestGoneStopsTheWebhook(t *testing.T) {
	t.Parallel()
	c := &calls{answer: func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusGone)
		}
	}}
	s := newStored(t, receiver(t, c.ServeHTTP), "concurrency: 1\nretry: { delays: [] }")
	s.commit(3)
	s.run()
	awaitGone(t, s.sender, s.log)
	if got := c.list(); got != "1" || strings.Count(s.log.String(), "level=ERROR msg=gone webhook=hook event=") != 1 {
		t.Errorf("attempts %s\n%s", got, s.log)
	}
	if waiting, _, err := s.Waiting(); waiting != 3 || err != nil {
		t.Errorf("%d wait: %v", waiting, err)
	}
	s.close()
	s.open()
	s.run()
	s.lines("delivered", 3)
	if got := c.list(); strings.Count(got, "1") != 3 || strings.Count(got, "2") != 1 {
		t.Errorf("attempts %s", got)
	}
}

// While the breaker is open nothing is sent and no attempt is used up. One call
// at a time tries the webhook, and each change of state is one line.
func TestBreaker(t *testing.T) {
	t.Parallel()
	busy, most := 0, 0
	var mu sync.Mutex
	c := &calls{answer: func(n int, w http.ResponseWriter) {
		if n <= 5 { // three in a row, and two probes
			w.WriteHeader([]int{500, 401, 429, 503, 599}[n-1])
		}
	}}
	s := newStored(t, receiver(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		c.ServeHTTP(w, r)
		mu.Lock()
		busy--
		mu.Unlock()
	}), "concurrency: 1\nretry: { delays: [1h] }")
	s.hook.Breaker = Breaker{Failures: 3, Wait: setting.Duration(200 * time.Millisecond)}
	s.commit(10)
	s.run()
	s.lines("delivered", 5)
	var states []string
	for line := range strings.Lines(s.log.String()) {
		if _, state, found := strings.Cut(line, "msg=breaker webhook=hook state="); found {
			states = append(states, strings.Fields(state)[0])
		}
	}
	if got := strings.Join(states, " "); got != "open half_open open half_open open half_open closed" {
		t.Errorf("states %s\n%s", got, s.log)
	}
	if got := c.list(); got != "1 1 1 1 1 1 1 1 1 1" || most != 1 {
		t.Errorf("attempts %s, %d at a time", got, most)
	}
	for n := 3; n <= 5; n++ {
		if pause := c.times[n].Sub(c.times[n-1]); pause < 199*time.Millisecond {
			t.Errorf("call %d came after %v", n+1, pause)
		}
	}
	if waiting, _, err := s.Waiting(); waiting != 5 || err != nil {
		t.Errorf("%d wait: %v", waiting, err)
	}
}

// Failures that are about one event do not open it, nor do failures with
// successes between them.
func TestBreakerStaysClosed(t *testing.T) {
	t.Parallel()
	check := func(settings string, status func(n int) int) {
		t.Helper()
		c := &calls{answer: func(n int, w http.ResponseWriter) { w.WriteHeader(status(n)) }}
		s := newStored(t, receiver(t, c.ServeHTTP), "concurrency: 1\nretry: { delays: [] }\n"+settings)
		s.commit(30)
		s.run()
		for deadline := time.Now().Add(20 * time.Second); strings.Count(s.log.String(), "msg=") < 30; {
			if time.Now().After(deadline) {
				t.Fatalf("it stands:\n%s", s.log)
			}
			<-time.After(time.Millisecond)
		}
		if strings.Contains(s.log.String(), "msg=breaker") {
			t.Error(s.log)
		}
	}
	check("", func(int) int { return 422 })
	check("", func(n int) int { return map[bool]int{true: 200, false: 500}[n%10 == 0] })
	check("breaker: off", func(int) int { return 500 })
}

// Calls from before it opened decide nothing, and a probe that was cut off is
// made again.
func TestBreakerCalls(t *testing.T) {
	t.Parallel()
	bad, good := answer{failure: "timeout"}, answer{attempt: event.Attempt{Status: 200}}
	g := newGate(Endpoint{Breaker: Breaker{Failures: 2, Wait: setting.Duration(time.Minute)}}, (&testlog.Log{}).Logger())
	at := now
	expect := func(state string, may int) {
		t.Helper()
		if allowed, _, _ := g.look(at, 8); allowed != may || g.breaker.state != state {
			t.Errorf("%s, %d may start; want %s, %d", g.breaker.state, allowed, state, may)
		}
	}
	start := func(may, probes bool) {
		t.Helper()
		if allowed, probe := g.start(at); allowed != may || probe != probes {
			t.Errorf("allowed %v, probe %v", allowed, probe)
		}
	}
	start(true, false)
	start(true, false)
	start(true, false)
	g.end(at, false, bad)
	g.end(at, false, bad)
	expect(opened, 0)
	g.end(at, false, good)
	expect(opened, 0)
	at = at.Add(time.Minute - 1)
	start(false, false)
	at = at.Add(1)
	expect(halfOpen, 1)
	start(true, true)
	expect(halfOpen, 0)
	start(false, false)
	g.end(at, false, bad)
	expect(halfOpen, 0)
	g.abandon(true)
	expect(halfOpen, 1)
	start(true, true)
	g.end(at, true, bad)
	expect(opened, 0)
	at = at.Add(time.Minute)
	start(true, true)
	g.end(at, true, good)
	expect(closed, 8)
	g.end(at, false, bad)
	expect(closed, 8)
}

// In no span of the rate's length do more calls start, retries included.
func TestRate(t *testing.T) {
	t.Parallel()
	c := &calls{answer: func(n int, w http.ResponseWriter) {
		if n%3 == 0 {
			w.WriteHeader(422)
		}
	}}
	s := newStored(t, receiver(t, c.ServeHTTP), "rate: 5/500ms\nretry: { delays: [1ms, 1ms, 1ms, 1ms, 1ms, 1ms, 1ms, 1ms] }")
	s.commit(16)
	s.run()
	s.lines("delivered", 16)
	for n := 5; n < len(c.times); n++ {
		// Calls start before they arrive: a little later the first, a little earlier the last.
		if span := c.times[n].Sub(c.times[n-5]); span < 250*time.Millisecond {
			t.Errorf("calls %d to %d came within %v", n-4, n+1, span)
		}
	}
	if len(c.times) < 20 {
		t.Errorf("only %d calls", len(c.times))
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	p := newPace(Rate{3, time.Minute})
	at := now
	check := func(n, want int, until time.Duration) {
		t.Helper()
		if allowed, next := p.look(at, n); allowed != want || want == 0 && next.Sub(at) != until {
			t.Errorf("%d may start, the next in %v", allowed, next.Sub(at))
		}
	}
	check(8, 3, 0)
	check(2, 2, 0)
	p.start(at)
	check(8, 2, 0)
	at = at.Add(10 * time.Second)
	p.start(at)
	p.start(at)
	check(8, 0, 50*time.Second)
	at = at.Add(50*time.Second - 1)
	check(8, 0, 1)
	at = at.Add(1)
	check(8, 1, 0)
	p.start(at)
	check(8, 0, 10*time.Second)
	at = at.Add(10 * time.Second)
	check(8, 2, 0)
}
