package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"

	"go.uber.org/goleak"
)

// fakeStore hands out what a test puts in, and keeps what was settled.
type fakeStore struct {
	deliveries chan event.Delivery
	settled    chan settled
	released   chan event.Delivery
	failing    atomic.Int32 // how many calls of Settle fail
	asked      chan int     // limits of Next
}

type settled struct {
	event.Delivery
	event.Settlement
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		deliveries: make(chan event.Delivery, 100), settled: make(chan settled, 100),
		released: make(chan event.Delivery, 100), asked: make(chan int, 1000),
	}
}

func (f *fakeStore) Next(ctx context.Context, _ string, limit int) ([]event.Delivery, error) {
	f.asked <- limit
	select {
	case d := <-f.deliveries:
		return []event.Delivery{d}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fakeStore) SettleAll(ctx context.Context, deliveries []event.Delivery, s event.Settlement) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f.failing.Add(-1) >= 0 {
		return errors.New("the disk is busy")
	}
	for _, d := range deliveries {
		f.settled <- settled{d, s}
	}
	return nil
}

func (f *fakeStore) Release(d event.Delivery) { f.released <- d }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a sender that runs.
type running struct {
	*fakeStore
	t      *testing.T
	sender *Sender
	log    *testlog.Log
	stop   func()
	done   chan struct{}
}

func endpoint(t *testing.T, url, more string) Endpoint {
	t.Helper()
	e, err := decode("url: " + url + "\n" + more)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run starts a sender for a webhook "hook" until the test ends.
func run(t *testing.T, url, config string) *running {
	t.Helper()
	r := &running{fakeStore: newFakeStore(), t: t, log: &testlog.Log{}, done: make(chan struct{})}
	r.sender = New([]Webhook{{Name: "hook", Endpoint: endpoint(t, url, config)}}, r.fakeStore, r.log.Logger())
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { defer close(r.done); r.sender.Run(ctx) }()
	t.Cleanup(func() { cancel(); r.ended() })
	return r
}

// ended waits until Run has returned.
func (r *running) ended() { await(r.t, r.done, "Run does not return") }

func await[T any](t *testing.T, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal(what)
	}
	return got
}

func delivery(n int) event.Delivery {
	return event.Delivery{
		Want: event.Want{Webhook: "hook"}, Attempts: n,
		Event: &event.Event{
			ID: fmt.Sprint("event", n), Type: "Entry", Action: "publish", Entity: event.Entity{ID: "e1"}, Confirmed: true,
			Payload: []byte(`{"n": 1}`), Native: event.Native{Headers: []event.Header{{Name: "X-Attempt", PerCall: event.CallAttempt}}},
		},
	}
}

// deliver makes one attempt and returns how it was settled.
func (r *running) deliver(n int) settled {
	r.t.Helper()
	r.deliveries <- delivery(n)
	return await(r.t, r.settled, "nothing is settled")
}

func receiver(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}

// raw is a receiver on the level of bytes: it reads the head and answers.
func raw(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = conn.Read(make([]byte, 4096))
				answer(conn)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestOnTheWire(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 10)
	url := raw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var head strings.Builder
		_ = r.Header.Write(&head)
		body, _ := io.ReadAll(r.Body)
		heads <- fmt.Sprintf("%s %s %s\n%s%s", r.Method, r.URL, r.Host, strings.ReplaceAll(head.String(), "\r", ""), body)
		w.WriteHeader(204)
	}))
	t.Cleanup(server.Close)
	r := run(t, server.URL+"/hook?a=b", "headers: { X-Team: web, Host2: x }\nauth: { basic: { username: cms, password: { value: pw } } }")
	host := strings.TrimPrefix(server.URL, "http://")
	for n := range 3 {
		if s := r.deliver(n); s.Result != event.Delivered || s.Attempt.Number != n+1 || s.Attempt.Status != 204 || s.Attempt.Error != "" {
			t.Errorf("%+v", s.Settlement)
		}
		want := fmt.Sprintf("POST /hook?a=b %s\nAuthorization: Basic Y21zOnB3\nContent-Length: 8\nContent-Type: application/json\nHost2: x\n"+
			"X-Attempt: %d\nX-Cmstap-Event: event%d\nX-Team: web\n{\"n\": 1}", host, n+1, n)
		if got := <-heads; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if s := run(t, url, "").deliver(0); s.Result != event.Delivered {
		t.Errorf("%+v", s.Settlement)
	}
}

func TestBasicAuthFromTheURL(t *testing.T) {
	t.Parallel()
	check := func(userinfo, want string) {
		t.Helper()
		got := make(chan string, 1)
		url := receiver(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })
		run(t, strings.Replace(url, "://", "://"+userinfo, 1), "").deliver(0)
		if got := await(t, got, "no call"); got != want {
			t.Errorf("%s: got %q, want %q", userinfo, got, want)
		}
	}
	check("", "")
	check("cms:p%40w@", "Basic Y21zOnBAdw==")
	check("cms@", "Basic Y21zOg==")
}

func TestBadReceivers(t *testing.T) {
	t.Parallel()
	check := func(url, config string, result event.Result, status int, text string) settled {
		t.Helper()
		started := time.Now()
		s := run(t, url, "timeout: 300ms\n"+config).deliver(0)
		if s.Result != result || s.Attempt.Status != status || !strings.Contains(s.Attempt.Error, text) || (text == "") != (s.Attempt.Error == "") {
			t.Errorf("got %+v", s.Settlement)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		return s
	}
	hits := atomic.Int32{}
	target := receiver(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		check(receiver(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, status) }), "", event.Retry, status, "")
	}
	check(receiver(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }), "retry: { on: [5xx] }", event.GiveUp, 302, "")
	badLocation := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://[::1/%zz")
		w.WriteHeader(http.StatusFound)
	})
	check(badLocation, "", event.Retry, 302, "")
	check(badLocation, "retry: { on: [connection] }", event.GiveUp, 302, "")
	if hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
	hang := raw(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
	check(hang, "", event.Retry, 0, "no answer in time (webhooks[].timeout)")
	check(hang, "retry: { on: [connection] }", event.GiveUp, 0, "no answer in time")
	check(raw(t, func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }), "", event.Retry, 0, "connection reset by peer")
	check(raw(t, func(net.Conn) {}), "", event.Retry, 0, "EOF")
	check(raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "garbage"+strings.Repeat("x", 5000)+"\r\n\r\n") }), "", event.Retry, 0, "malformed HTTP")
	check(raw(t, func(conn net.Conn) { // drips its head
		for range 1000 {
			if _, err := io.WriteString(conn, "H"); err != nil {
				return
			}
			_, _ = conn.Read(nil)
			<-time.After(20 * time.Millisecond)
		}
	}), "", event.Retry, 0, "no answer in time")
	check(raw(t, func(conn net.Conn) { // promises more than it sends
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
	}), "", event.Delivered, 200, "")
	check("http://receiver.invalid/", "", event.Retry, 0, "lookup receiver.invalid") // RFC 6761 section 6.4: nobody has that name
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	_ = closed.Close()
	check("http://"+closed.Addr().String(), "", event.Retry, 0, "connection refused")
	check("http://"+closed.Addr().String(), "retry: { on: [timeout] }", event.GiveUp, 0, "connection refused")
	s := check(receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	}), "", event.Retry, 503, "")
	if wait := s.Wait; wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("next in %v", wait)
	}
}

// The answer's body says nothing: it is neither waited for nor read to its end.
func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	check := func(handle http.HandlerFunc) {
		t.Helper()
		started := time.Now()
		if s := run(t, receiver(t, handle), "").deliver(0); s.Result != event.Delivered || s.Attempt.Duration > time.Second {
			t.Errorf("%+v", s.Settlement)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("the timeout is 30 s, drainTime is 1 s; it took %v", took)
		}
	}
	var sent atomic.Int64
	check(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 100 {
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	if got := sent.Load(); got > 50<<20 {
		t.Errorf("%d bytes of the answer were read", got)
	}
	check(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
}

func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	const (
		settings = "headers: { X-Key: { value: hdr-secret } }\nsigning: { scheme: standard, secret: { value: sign-secret } }\ntimeout: 500ms"
		basic    = "\nauth: { basic: { username: cms, password: { value: basic-secret } } }"
		address  = "/T/path-secret?token=query-secret"
	)
	one := func(url, config string) {
		t.Helper()
		r := run(t, url, config)
		s := r.deliver(0)
		r.stop()
		r.ended()
		if s.Attempt.Error == "" || len(s.Attempt.Error) > 300 {
			t.Errorf("the error is %q", s.Attempt.Error)
		}
		if all := s.Attempt.Error + s.Reason + r.log.String(); strings.Contains(all, "-secret") {
			t.Errorf("a secret shows: %s", all)
		}
	}
	check := func(base string) {
		t.Helper()
		one(strings.Replace(base, "://", "://user-secret:basic-secret@", 1)+address, settings)
		one(base+address, settings+basic)
	}
	echo := func(conn net.Conn, what string) { _, _ = io.WriteString(conn, what+"\r\n\r\n") }
	check("http://127.0.0.1:1")
	check("http://nothing.invalid")
	check(raw(t, func(net.Conn) {}))
	check(raw(t, func(conn net.Conn) { echo(conn, "you sent /T/path-secret?token=query-secret") }))
	check(raw(t, func(conn net.Conn) { echo(conn, "user-secret:basic-secret basic-secret hdr-secret sign-secret") }))
	check(strings.Replace(raw(t, func(conn net.Conn) { echo(conn, "no TLS") }), "http", "https", 1))
	check(raw(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }))
}

// What an answer says is kept: the beginning of it, as text, without what
// is secret.
func TestAnswersAreKept(t *testing.T) {
	t.Parallel()
	check := func(status int, body, want string) {
		t.Helper()
		url := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
		s := run(t, url+"/T/path-secret", "headers: { X-Key: { value: hdr-secret } }").deliver(0)
		if s.Attempt.Answer != want {
			t.Errorf("%d: %d bytes are kept: %.100s", status, len(s.Attempt.Answer), s.Attempt.Answer)
		}
	}
	check(200, "fine", "fine")
	check(204, "", "")
	check(500, "", "")
	check(500, "the build\nis broken", "the build\nis broken")
	check(404, "no /T/path-secret for hdr-secret", "no <secret> for <secret>")
	check(302, "\xff\x00a", "\uFFFD\x00a")
	check(503, strings.Repeat("ä", 100_000), strings.Repeat("ä", 2048)+"...")
}
