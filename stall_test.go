package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// tapped is a cmstap that 1,000 writes go through.
type tapped struct {
	api      *demo.ContentAPI
	receiver *demo.Receiver
	process  *process
	program  string
	config   string
	next     atomic.Int64
}

const acceptedWrites = 1000

func newTapped(t *testing.T, wrap ...string) *tapped {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a := &tapped{api: demo.NewContentAPI(demo.ContentAPIOptions{}), receiver: demo.NewReceiver(demo.ReceiverOptions{}), program: program}
	a.config = fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["*.*"] }]
`, serve(t, a.api).URL, t.TempDir(), serve(t, a.receiver).URL)
	a.process = start(t, program, a.config, wrap...)
	return a
}

// write has clients write, each an entity of its own at a time, until the CMS
// has accepted enough.
func (a *tapped) write(clients int, one func(path string)) {
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for len(a.api.Writes()) < acceptedWrites {
				one(fmt.Sprintf("/spaces/s/content_types/c%d", a.next.Add(1)))
			}
		})
	}
	all.Wait()
}

// confirmed stops cmstap, in whose log no event may be unconfirmed.
func (a *tapped) confirmed(t *testing.T) {
	t.Helper()
	lines, err := a.process.stop()
	if text := strings.Join(lines, "\n"); err != nil || strings.Contains(text, "msg=unconfirmed") {
		t.Errorf("%v\n%s", err, text)
	}
}

// verify wants a confirmed event of every accepted write, and no other.
func (a *tapped) verify(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	accepted := map[string]bool{}
	for _, w := range a.api.Writes() {
		accepted[w.ID] = true
	}
	ids := func(calls []demo.Call) map[string]bool {
		found := map[string]bool{}
		for _, call := range calls {
			found[call.Header.Get("X-Contentful-Idempotency-Key")] = true
		}
		return found
	}
	if err := a.receiver.Wait(ctx, func(calls []demo.Call) bool { return len(ids(calls)) >= len(accepted) }); err != nil {
		t.Error(err)
	}
	a.confirmed(t)
	calls := a.receiver.Calls()
	for _, call := range calls {
		if call.Header.Get("X-Cmstap-Confirmed") == "false" {
			t.Errorf("unconfirmed: %s", call.Body)
		}
	}
	t.Logf("%d writes accepted, %d confirmed events, %d calls", len(accepted), len(ids(calls)), len(calls))
	if len(ids(calls)) != len(accepted) || len(accepted) < acceptedWrites {
		t.Error("want an event for each, and 1,000 of them")
	}
}

// TestDeadClients: clients that die while their writes are under way keep none
// of these from being delivered.
func TestDeadClients(t *testing.T) {
	t.Parallel()
	a := newTapped(t)
	var dialer net.Dialer
	a.write(8, func(path string) {
		conn, err := dialer.DialContext(t.Context(), "tcp", a.process.proxy)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		const body = `{"name":"x","fields":[]}`
		before := a.api.Requests()
		_, _ = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		switch a.next.Load() % 3 {
		case 0: // at once
		case 1:
			untilTrue(t, func() bool { return a.api.Requests() > before })
		case 2:
			_, _ = io.ReadFull(conn, make([]byte, 5))
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it dies: the peer gets a reset
		}
	})
	// Some writes are under way still. A stop ends them, and what is not delivered
	// by then goes out after the next start.
	a.confirmed(t)
	a.process = start(t, a.program, a.config)
	a.verify(t)
}

// stall is how long a sync of the disk hangs in the next test.
const stall = 12 * time.Second

// TestStalledDisk: while the disk hangs no reply is later than the bounds,
// before the forward and after it; every accepted write has its event.
func TestStalledDisk(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	a := newTapped(t, "strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=msync",
		"-e", fmt.Sprintf("inject=msync:delay_enter=%d:when=100+1000", stall.Microseconds()))
	var longest atomic.Int64
	var refused atomic.Int64
	a.write(16, func(path string) {
		begun := time.Now()
		status, body, err := ask("PUT", "http://"+a.process.proxy+path, `{"name":"x","fields":[]}`, nil)
		took := time.Since(begun)
		for old := longest.Load(); int64(took) > old && !longest.CompareAndSwap(old, int64(took)); old = longest.Load() {
		}
		switch {
		case err != nil, status != 201 && status != 503:
			t.Errorf("%s: %d %s %v", path, status, body, err)
		case status == 503:
			refused.Add(1)
		}
	})
	t.Logf("the longest reply took %s, %d writes got 503", time.Duration(longest.Load()).Round(time.Millisecond), refused.Load())
	if longest.Load() < int64(storeBound) {
		t.Error("the disk did not stall")
	}
	if longest.Load() >= int64(stall) {
		t.Error("a reply waited for the disk")
	}
	a.verify(t)
}
