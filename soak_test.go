package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakCMS answers in all the ways that a busy CMS does, good and bad.
type soakCMS struct{ writes atomic.Int64 }

func (c *soakCMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); kind {
	case "reads":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"text":"`+strings.Repeat("x", 3000)+`"}`)
	case "large":
		for range 100 {
			_, _ = w.Write(make([]byte, 10_000))
		}
	case "events":
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 1000 {
			if _, err := fmt.Fprintf(w, "data: %d\n\n", n); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	case "socket":
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, both)
	case "resets":
		_, _ = io.Copy(io.Discard, r.Body)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		c.writes.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}

// soak is clients of all kinds that go on until they are told to end.
type soak struct {
	*testing.T
	proxy    string
	end      chan struct{}
	clients  sync.WaitGroup
	done     atomic.Int64
	mu       sync.Mutex
	accepted map[string]bool
	refused  int // writes that could not be recorded
}

// client repeats one thing until the end.
func (s *soak) client(seed uint64, do func(*rand.Rand)) {
	s.clients.Go(func() {
		random := rand.New(rand.NewPCG(9, seed))
		for {
			select {
			case <-s.end:
				return
			default:
				do(random)
				s.done.Add(1)
			}
		}
	})
}

// raw sends bytes, slowly if there are several, and hands over the connection.
func (s *soak) raw(then func(net.Conn, *bufio.Reader), pieces ...string) {
	conn, err := net.Dial("tcp", s.proxy)
	if err != nil {
		s.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for i, piece := range pieces {
		if i > 0 {
			<-time.After(20 * time.Millisecond)
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			return
		}
	}
	then(conn, bufio.NewReader(conn))
}

// write saves something and remembers it if the CMS took it.
func (s *soak) write(random *rand.Rand, path string) {
	id := fmt.Sprint(random.Uint64())
	body := fmt.Sprintf(`{"id":"%d","n":%q,"text":%q}`, random.IntN(50), id, strings.Repeat("y", random.IntN(100_000)))
	status, answer, err := ask(http.MethodPut, "http://"+s.proxy+path, body, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && status == http.StatusOK && answer == body {
		s.accepted[id] = true
	} else if status == http.StatusServiceUnavailable && strings.Contains(answer, "can not be recorded now") {
		s.refused++ // the disk was busy for two seconds
	} else if path != "/resets/1" {
		s.Errorf("a write: %d %.200s %v", status, answer, err)
	}
}

func (s *soak) start() {
	for n := range uint64(4) {
		s.client(n, func(r *rand.Rand) { s.write(r, fmt.Sprint("/posts/", r.IntN(50))) })
	}
	for n := range uint64(4) {
		s.client(10+n, func(r *rand.Rand) {
			path := []string{"/reads/1", "/large/1"}[r.IntN(2)]
			if status, _, err := ask(http.MethodGet, "http://"+s.proxy+path, "", nil); err != nil || status != http.StatusOK {
				s.Errorf("%s: %d %v", path, status, err)
			}
		})
	}
	s.client(20, func(r *rand.Rand) { s.write(r, "/resets/1") })
	const put = "PUT /posts/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
	s.client(21, func(*rand.Rand) { s.raw(func(net.Conn, *bufio.Reader) {}, put+"{") })                                    // aborts
	s.client(22, func(*rand.Rand) { s.raw(func(net.Conn, *bufio.Reader) {}, "GET /large/1 HTTP/1.1\r\nHost: x\r\n\r\n") }) // does not read
	s.client(23, func(*rand.Rand) {                                                                                        // is slow
		s.raw(func(_ net.Conn, r *bufio.Reader) { _, _ = r.ReadString('\n') },
			"GET /rea", "ds/1 HTTP/1.1\r\nHo", "st: x\r\nConnection: close\r\n", "\r\n")
	})
	s.client(24, func(r *rand.Rand) { // an event stream, left in the middle
		s.raw(func(_ net.Conn, lines *bufio.Reader) {
			for range r.IntN(20) {
				_, _ = lines.ReadString('\n')
			}
		}, "GET /events/1 HTTP/1.1\r\nHost: x\r\n\r\n")
	})
	s.client(25, func(*rand.Rand) { // a WebSocket
		s.raw(func(conn net.Conn, r *bufio.Reader) {
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					s.Errorf("no tunnel: %v", err)
					return
				}
			}
			got := make([]byte, 4)
			if _, err := io.WriteString(conn, "ping"); err != nil {
				s.Error(err)
			}
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "ping" {
				s.Errorf("%q %v", got, err)
			}
		}, "GET /socket/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	})
}

// usage is what the process holds.
type usage struct{ goroutines, files, memory int }

// goroutines counts those that have something to do: the server keeps some that
// wait for connections for ten seconds.
func goroutines() (n int) {
	stacks := make([]byte, 4<<20)
	for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if !strings.Contains(one, "(*workerPool).workerFunc") {
			n++
		}
	}
	return n
}

// settled is what the process holds once nothing goes on any more: it waits until
// that is enough.
func settled(t *testing.T, longest time.Duration, enough func(usage) bool) usage {
	t.Helper()
	for end := time.Now().Add(longest); ; <-time.After(200 * time.Millisecond) {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		var now usage
		files, _ := os.ReadDir("/proc/self/fd")
		status, _ := os.ReadFile("/proc/self/status")
		_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
		_, _ = fmt.Sscan(string(rest), &now.memory)
		now.goroutines, now.files = goroutines(), len(files)
		if enough(now) || time.Now().After(end) {
			return now
		}
	}
}

// TestSoak: under all of this at once nothing grows, and each write that a client
// saw accepted has its event. CMSTAP_SOAK is how long; run it with -race.
func TestSoak(t *testing.T) {
	long := 3 * time.Second
	if text := os.Getenv("CMSTAP_SOAK"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	delivered := map[string]bool{}
	receiver := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var got struct{ N string }
		if err := json.NewDecoder(r.Body).Decode(&got); err == nil {
			mu.Lock()
			delivered[got.N] = true
			mu.Unlock()
		}
	})
	text := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: rest }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: hook, url: %q, topics: ["posts.*"], concurrency: 20 }]
`, serve(t, new(soakCMS)).URL, t.TempDir(), serve(t, receiver).URL)
	config, err := parseConfig("soak.yaml", []byte(text), &runCommand{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(config, &appLog{logger: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	s := &soak{T: t, proxy: a.proxy.Addr(), accepted: map[string]bool{}}
	work := func(long time.Duration) {
		s.end = make(chan struct{})
		s.start()
		<-time.After(long)
		close(s.end)
		s.clients.Wait()
	}
	work(long / 4)
	first := settled(t, 5*time.Second, func(usage) bool { return false })
	work(long - long/4)
	last := settled(t, 30*time.Second, func(now usage) bool { return now.goroutines <= first.goroutines+5 && now.files <= first.files+5 })
	missing := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for id := range s.accepted {
			if !delivered[id] {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(time.Minute); missing() > 0 && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
	}
	if n := missing(); n > 0 || len(s.accepted) == 0 || s.refused > 1+len(s.accepted)/500 {
		t.Errorf("%d of %d accepted writes have no event; %d could not be recorded", n, len(s.accepted), s.refused)
	}
	t.Logf("%s: %d requests, %d writes accepted, %d could not be recorded; first %+v, last %+v", long, s.done.Load(), len(s.accepted), s.refused, first, last)
	if last.goroutines > first.goroutines+5 || last.files > first.files+5 || last.memory > first.memory*3/2+50_000 {
		stacks := make([]byte, 1<<20)
		t.Errorf("it grows:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
