package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"

	"go.uber.org/goleak"
)

// patience bounds every wait of a test; nothing waits that long in a good run.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	trustTestAuthority()
	code := m.Run()
	_ = os.RemoveAll(filepath.Dir(testCert))
	// fasthttp's cleaners sleep for seconds before they see their end; its workers
	// and its clock never end.
	left := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp/stackless.funcWorker"),
	)
	if code == 0 && left != nil {
		fmt.Println(left)
		code = 1
	}
	os.Exit(code)
}

// fakeTap calls everything but GET, HEAD and OPTIONS a write, and anything
// whose path starts with /w; what starts with /o is observed.
type fakeTap struct {
	begin    func(*event.Intent) error
	finish   func(*event.Exchange)
	observe  func(*event.Exchange)
	classify func(event.Head)
	identify func(event.Copy) // if set, every write asks for the body
	begun    atomic.Int64
	ended    atomic.Int64
	finished chan *event.Exchange
}

func (f *fakeTap) Classify(head event.Head) event.Plan {
	if f.classify != nil {
		f.classify(head)
	}
	if strings.HasPrefix(head.Path, "/o") {
		return event.Plan{Class: event.Observe, Intent: &event.Intent{Path: strings.Clone(head.Path)}, Judge: restJudge{}}
	}
	if slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, head.Method) && !strings.HasPrefix(head.Path, "/w") {
		return event.Plan{}
	}
	if f.identify != nil {
		return event.Plan{Class: event.Write, Body: true}
	}
	return f.write(head)
}

func (f *fakeTap) Identify(head event.Head, body event.Copy) event.Plan {
	f.identify(body)
	return f.write(head)
}

func (f *fakeTap) write(head event.Head) event.Plan {
	intent := &event.Intent{Method: strings.Clone(head.Method), Path: strings.Clone(head.Path)}
	return event.Plan{Class: event.Write, Intent: intent, Judge: restJudge{}}
}

type restJudge struct{}

func (restJudge) Judge(status int) event.Verdict {
	switch {
	case status < 300:
		return event.Accepted
	case status >= 400 && status < 500, status == 501, status == 503:
		return event.Rejected
	}
	return event.Doubt
}

func (f *fakeTap) Observe(x *event.Exchange) {
	if f.observe != nil {
		f.observe(x)
	}
}

func (f *fakeTap) Begin(x *event.Exchange) error {
	if f.begin != nil {
		if err := f.begin(x.Intent); err != nil {
			return err
		}
	}
	f.begun.Add(1)
	return nil
}

func (f *fakeTap) Finish(x *event.Exchange) {
	f.ended.Add(1)
	if f.finish != nil {
		f.finish(x)
	}
	select {
	case f.finished <- x:
	default:
	}
}

// lines returns the lines with that message, ignoring debug ones.
func (h *house) lines(msg string) (found []string) {
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, " msg="+msg+" ") {
			found = append(found, line)
		}
	}
	return found
}

// house is a proxy in front of a CMS, with its tap and its log.
type house struct {
	testing.TB
	*Proxy
	tap *fakeTap
	log *testlog.Log
}

// newHouse starts a proxy; at the end it must stop, hold no connection, and
// have called Finish as often as Begin.
func newHouse(t testing.TB, upstream string, change ...func(*house, *Config)) *house {
	t.Helper()
	h := &house{TB: t, tap: &fakeTap{finished: make(chan *event.Exchange, 100)}, log: &testlog.Log{}}
	config := DefaultConfig()
	config.Listen, config.Upstream = "127.0.0.1:0", mustURL("http://"+upstream)
	config.AnswerTimeout, config.StallTimeout = setting.Duration(patience), setting.Duration(patience)
	for _, c := range change {
		c(h, &config)
	}
	if err := setting.Decode("test", []byte("{}"), &config, config.Validate); err != nil {
		t.Fatal(err)
	}
	h.Proxy = New(config, h.tap, h.log.Logger())
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(h.Shutdown(ctx), <-served); err != nil {
			t.Error("stopping:", err)
		}
		if begun, ended := h.tap.begun.Load(), h.tap.ended.Load(); begun != ended {
			t.Errorf("%d Begin, %d Finish", begun, ended)
		}
		if left := h.pool.ConnsCount(); left != 0 {
			t.Errorf("%d connections to the CMS were left", left)
		}
	})
	return h
}

func mustURL(text string) setting.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return setting.URL{URL: u}
}

// client is a raw connection to the proxy.
type client struct {
	testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (h *house) dial() *client {
	h.Helper()
	conn, err := net.Dial("tcp", h.Addr())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &client{h.TB, conn.(*net.TCPConn), bufio.NewReader(conn)}
}

func (c *client) send(raw string) {
	c.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		c.Fatal(err)
	}
}

// rest reads until the proxy closes; a reset counts as that.
func (c *client) rest() string {
	all, _ := io.ReadAll(c.r)
	return string(all)
}

// talk sends raw bytes and the end of the stream, and returns all that comes
// back.
func (h *house) talk(raw string) string {
	h.Helper()
	c := h.dial()
	defer c.Close()
	go func() {
		_, _ = io.WriteString(c, raw)
		_ = c.CloseWrite()
	}()
	return c.rest()
}

// outcome waits for the next Finish.
func (h *house) outcome() *event.Exchange {
	h.Helper()
	return next(h.TB, h.tap.finished)
}

func next[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// statusOf returns the status code of a raw answer, 0 if there is none.
func statusOf(raw string) int {
	var status int
	_, _ = fmt.Sscanf(raw, "HTTP/1.1 %d", &status)
	return status
}
