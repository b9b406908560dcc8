package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
)

// A fault of the CMS is one line that names the setting to look at, and an
// answer that says what is known.
func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	check := func(name, upstream string, status int, answer string, line ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			h := newHouse(t, upstream, func(_ *house, c *Config) { c.AnswerTimeout = setting.Duration(100 * time.Millisecond) })
			for _, path := range []string{"/w?access_token=SECRET", "/?access_token=SECRET", "http://u:SECRET@x/?a"} {
				got := h.talk("GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\nCookie: SECRET\r\n\r\n")
				if statusOf(got) != status || !strings.Contains(got, answer) {
					t.Errorf("answer %q", got)
				}
			}
			lines := h.lines("upstream")
			if len(lines) != 3 {
				t.Fatalf("log: %q", lines)
			}
			for _, want := range append(line, "upstream="+upstream, "method=GET", "path=/w ", "proxy.upstream") {
				if !strings.Contains(lines[0], want) {
					t.Errorf("no %q in %s", want, lines[0])
				}
			}
			if strings.Contains(h.log.String(), "SECRET") {
				t.Errorf("a secret in the log: %s", h.log)
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	done := make(chan bool)
	defer close(done)
	garbage := newCMS(t, answeringOnce("SSH-2.0-OpenSSH_9.6 SECRET\r\n\r\n"))
	closing := newCMS(t, answeringOnce(""))
	hanging := newCMS(t, func(c *cms, _ net.Conn, r *bufio.Reader) { c.read(r); <-done })
	check("refuses", listener.Addr().String(), 502, "nothing was sent", "outcome=not_sent", "connection refused")
	check("garbage", garbage.addr, 502, "the outcome is unknown", "outcome=unknown", "not HTTP")
	check("closes", closing.addr, 502, "the outcome is unknown", "outcome=unknown", "closed the connection")
	check("hangs", hanging.addr, 504, "the outcome is unknown", "outcome=unknown", "proxy.answer_timeout")
}

// What a client sends that is not HTTP shows in the log without its secrets.
func TestNoSecretsOfBadRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "127.0.0.1:1")
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nAuthorization: Bearer SECRET\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\x01\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\nTransfer-Encoding: SECRET\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nBearer SECRET\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nBearer\x01SECRET: 1\r\n\r\n",
		"GET /?token=SECRET\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET token=SECRET HTTP/1.1\r\nHost: x\r\n\r\n",
		"SECRET\r\n\r\n", "GET SECRET\r\n\r\n", "GET / SECRET\r\n\r\n", "\x01SECRET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET" + strings.Repeat("x", 100_000) + "\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n",
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: SECRET\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: SECRET\x01\r\n\r\n",
	} {
		if got := h.talk(raw); strings.Contains(got, "SECRET") {
			t.Errorf("%q: answer %q", raw, got)
		}
	}
	if log := h.log.String(); strings.Contains(log, "SECRET") {
		t.Errorf("a secret in the log:\n%s", log)
	}
}

// A panic of the tap costs one request, not the process.
func TestPanicsOfTheTap(t *testing.T) {
	t.Parallel()
	boom := func(set func(*fakeTap)) func(*house, *Config) { return func(h *house, _ *Config) { set(h.tap) } }
	check := func(name string, status int, executed int64, set func(*fakeTap)) {
		t.Helper()
		for size, answer := range map[string]string{
			"small": okAnswer, "large": "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("x", 3_000_000), "none": "HTTP/1.1 204 No Content\r\n\r\n",
		} {
			t.Run(name+"/"+size, func(t *testing.T) {
				t.Helper()
				c := newCMS(t, answering(answer))
				h := newHouse(t, c.addr, boom(set))
				got := h.talk(request("PUT"))
				if s := statusOf(got); s != status && (status != 200 || !strings.HasSuffix(answer, got[strings.Index(got, "\r\n\r\n"):])) {
					t.Errorf("status %d", s)
				}
				if lines := h.lines("panic"); len(lines) != 1 || !strings.Contains(lines[0], "boom") || c.whole.Load() != executed {
					t.Errorf("%d executed, log: %q", c.whole.Load(), lines)
				}
			})
		}
	}
	check("Classify", 500, 0, func(f *fakeTap) { f.classify = func(event.Head) { panic("boom") } })
	check("Begin", 500, 0, func(f *fakeTap) { f.begin = func(*event.Intent) error { panic("boom") } })
	check("Finish", 200, 1, func(f *fakeTap) { f.finish = func(*event.Exchange) { panic("boom") } })
}

// A panic while an answer is judged does not keep Finish from being called.
func TestPanicOfTheJudge(t *testing.T) {
	t.Parallel()
	tap := &fakeTap{finished: make(chan *event.Exchange, 1)}
	p := New(Config{Upstream: mustURL("http://x")}, tap, slog.New(slog.DiscardHandler))
	x := &event.Exchange{Status: 200}
	p.conclude(x, nil, &boundedCopy{}, "", nil)
	if got := next(t, tap.finished); got.Outcome != event.Unknown || got.Answer.Err == "" {
		t.Errorf("%+v", got)
	}
}

func TestTakenPortNamesTheSetting(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "127.0.0.1:1")
	config := h.config
	config.Listen = h.Addr()
	if err := New(config, h.tap, slog.New(slog.DiscardHandler)).Listen(); err == nil || !strings.HasPrefix(err.Error(), "proxy.listen: ") {
		t.Errorf("error %v", err)
	}
}

// Config mistakes come back all at once, each with its setting.
func TestValidate(t *testing.T) {
	t.Parallel()
	text := `
listen: nowhere
upstream: https://u:p@x/?q=1
host: mine
durability: sometimes
max_header: 1KiB
max_connections: 0
answer_timeout: 0s
tls: { cert: /none, key: /none }
trusted_proxies: [10.0.0.0/8, "::1", nobody]`
	config := DefaultConfig()
	err := setting.Decode("f", []byte(text), &config, config.Validate)
	want := []string{"2: listen", "3: upstream", "4: host", "5: durability", "6: max_header", "7: max_connections", "8: answer_timeout", "9: tls", "10: trusted_proxies[2]"}
	var got []string
	for line := range strings.SplitSeq(fmt.Sprint(err), "\n") {
		parts := strings.SplitN(line, ":", 4)
		got = append(got, parts[1]+":"+parts[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if err := setting.Decode("f", []byte("{}"), &config, (&Config{}).Validate); !strings.Contains(fmt.Sprint(err), "upstream: name the address") {
		t.Error(err)
	}
}

// Shutdown waits for what is in flight, and ends it when it is told to.
func TestShutdown(t *testing.T) {
	t.Parallel()
	check := func(grace time.Duration, want string, outcome event.Outcome) {
		t.Helper()
		asked, goOn := make(chan bool), make(chan bool)
		c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
			c.read(r)
			asked <- true
			<-goOn
			_, _ = io.WriteString(conn, okAnswer)
			_, _ = r.ReadByte()
		})
		h := newHouse(t, c.addr)
		answer := make(chan string)
		go func() { answer <- h.talk(request("PUT")) }()
		next(t, asked)
		ctx, cancel := context.WithTimeout(t.Context(), grace)
		defer cancel()
		stopped := make(chan error)
		go func() { stopped <- h.Shutdown(ctx) }()
		if grace < time.Second {
			defer close(goOn) // the CMS stays silent until the stop
		} else {
			close(goOn)
		}
		if err := next(t, stopped); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if got := next(t, answer); !strings.HasPrefix(got, want) {
			t.Errorf("answer %q", got)
		}
		if x := h.outcome(); x.Outcome != outcome {
			t.Errorf("outcome %s", x.Outcome)
		}
		if _, err := net.Dial("tcp", h.Addr()); err == nil {
			t.Error("a new connection was accepted")
		}
		cut := h.lines("cut")
		for end := time.After(patience); outcome == event.Unknown && len(cut) < 2; cut = h.lines("cut") {
			select {
			case <-end:
				t.Fatalf("log: %s", h.log)
			case <-time.After(time.Millisecond): // the handler says it after it has finished the write
			}
		}
		if blamed := h.lines("upstream"); len(blamed) > 0 || (len(cut) > 0) != (outcome == event.Unknown) {
			t.Errorf("log: %s", h.log)
		}
		if len(cut) > 0 && !strings.Contains(cut[len(cut)-1], "outcome=unknown method=PUT path=/w hint=\"the stop") {
			t.Errorf("log: %s", h.log)
		}
	}
	check(patience, "HTTP/1.1 200", event.Done)
	check(time.Millisecond, "", event.Unknown)
}

// When there are no more connections, the log says so, once a minute.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	h := newHouse(t, newCMS(t, answeringOnce(okAnswer)).addr, func(_ *house, c *Config) { c.MaxConnections = 1 })
	first := h.dial()
	first.send(request("GET"))
	if got, err := readHead(first.r); err != nil || got.line != "HTTP/1.1 200 OK" {
		t.Fatalf("%+v, %v", got, err)
	}
	for range 3 {
		if got := h.dial().rest(); statusOf(got) != 503 {
			t.Errorf("answer %q", got)
		}
	}
	if busy := h.lines("busy"); len(busy) != 1 || !strings.Contains(busy[0], "level=WARN") || !strings.Contains(busy[0], "connections=1 ") || !strings.Contains(busy[0], "proxy.max_connections") {
		t.Errorf("log: %s", h.log)
	}
}

// A stop that comes before Serve has begun ends it.
func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	config := DefaultConfig()
	config.Listen, config.Upstream = "127.0.0.1:0", mustURL("http://127.0.0.1:1")
	p := New(config, &fakeTap{}, slog.New(slog.DiscardHandler))
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve() }()
	if err := next(t, served); err != nil {
		t.Error(err)
	}
}

// What the tap keeps of an exchange stays as it was when the connection serves
// other requests.
func TestExchangesAreNotShared(t *testing.T) {
	t.Parallel()
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		for {
			got, whole := c.read(r)
			if !whole {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got.body), got.body)
		}
	})
	h := newHouse(t, c.addr)
	client := h.dial()
	for i := range 20 {
		body := strings.Repeat(string(rune('a'+i)), 100)
		client.send(fmt.Sprintf("PUT /w%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n%s", body, body))
		client.answer()
	}
	for i := range 20 {
		x, body := h.outcome(), strings.Repeat(string(rune('a'+i)), 100)
		if string(x.Answer.Bytes) != body || x.Intent.Path != "/w"+body {
			t.Errorf("exchange %d: %q %q", i, x.Intent.Path, x.Answer.Bytes)
		}
	}
}

// Many clients at once, each with requests of its own, get their own answers.
func TestManyClients(t *testing.T) {
	t.Parallel()
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			got, whole := c.read(r)
			if !whole {
				return
			}
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got.body), got.body)
			if n%2 == 1 {
				answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunks(got.body)
			}
			if n == 50 {
				answer = answer[:len(answer)-1] // breaks off, or is cut before its end
			}
			if _, err := io.WriteString(conn, answer); err != nil || n == 50 {
				return
			}
		}
	})
	h := newHouse(t, c.addr)
	var clients sync.WaitGroup
	for i := range 100 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for range 3 {
				client := h.dial()
				client.mixed(random, fmt.Sprintf("<%d>", i))
				client.Close()
			}
		})
	}
	clients.Wait()
}

// mixed sends some requests and checks that what comes back is what was sent.
// It may leave in between.
func (c *client) mixed(random *rand.Rand, mark string) {
	for range 5 {
		body := strings.Repeat(mark, random.IntN(3)*random.IntN(30_000))
		framed := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		if random.IntN(2) == 0 {
			framed = "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body)
		}
		whole := fmt.Sprintf("%s /%s HTTP/1.1\r\nHost: x\r\n%s", methods[random.IntN(5)], mark, framed)
		if random.IntN(20) == 0 {
			_, _ = io.WriteString(c, whole[:random.IntN(len(whole))])
			return
		}
		go func() { _, _ = io.WriteString(c, whole) }()
		got, err := readRequest(c.r)
		if err != nil || strings.Contains(got.line, " 502 ") {
			return // a broken answer
		}
		if got.body != body {
			c.Errorf("%s: %q with %d bytes came back, want %d", mark, got.line, len(got.body), len(body))
		}
	}
}
