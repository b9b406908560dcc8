package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Interim answers reach the client that knows them, and never overtake the
// answer to an earlier request.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	const hint, ok = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	h := newHouse(t, newCMS(t, answering(hint+ok)).addr)
	client := h.dial()
	for n := range 3 {
		client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		for _, want := range []string{"HTTP/1.1 103 Early Hints", "HTTP/1.1 200 OK"} {
			if got, err := readHead(client.r); err != nil || got.line != want {
				t.Fatalf("%d: %+v %v, want %s", n, got, err, want)
			}
		}
		_, _ = client.r.Discard(2)
	}
	all := h.talk(strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 20))
	if !strings.HasPrefix(all, hint+ok) || strings.Count(all, ok) != 20 || strings.ReplaceAll(strings.ReplaceAll(all, hint, ""), ok, "") != "" {
		t.Errorf("pipelined: %q", all)
	}
	if got := h.talk("GET / HTTP/1.0\r\nHost: x\r\n\r\n"); strings.Contains(got, "103") {
		t.Errorf("HTTP/1.0: %q", got)
	}
	endless := newHouse(t, newCMS(t, answeringOnce(strings.Repeat(hint, 1000))).addr)
	if got := endless.talk("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(got, "HTTP/1.1 502") {
		t.Errorf("%.300q", got)
	}
}

// Fields after a chunked body are passed on in both directions.
func TestTrailers(t *testing.T) {
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\nX-Sum: 1\r\nx-other: 2\r\n\r\n"
	const body = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\nx-other: 4\r\n\r\n"
	for _, line := range []string{"GET /", "GET /w", "PUT /", "GET /o"} {
		arrived := make(chan string, 1)
		c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
			var all strings.Builder
			for !strings.HasSuffix(all.String(), "x-other: 4\r\n\r\n") {
				b, err := r.ReadByte()
				if err != nil {
					break
				}
				all.WriteByte(b)
			}
			arrived <- all.String()
			_, _ = io.WriteString(conn, answer)
		})
		h := newHouse(t, c.addr)
		got := h.talk(line + " HTTP/1.1\r\nHost: x\r\n" + body)
		if sent := next(t, arrived); !strings.HasSuffix(sent, "3\r\nabc\r\n0\r\nX-Sum: 3\r\nx-other: 4\r\n\r\n") || !strings.Contains(sent, "\r\nTrailer: X-Sum\r\n") {
			t.Errorf("%s: the CMS got %q", line, sent)
		}
		if !strings.HasSuffix(got, "b\r\nhello world\r\n0\r\nX-Sum: 1\r\nx-other: 2\r\n\r\n") {
			t.Errorf("%s: answer %q", line, got)
		}
	}
}

// An event stream may be silent for longer than a body; when its client leaves,
// the CMS hears of it.
func TestSilentEventStream(t *testing.T) {
	t.Parallel()
	for _, secured := range []bool{false, true} {
		ended := make(chan error, 1)
		serve := func(_ *cms, conn net.Conn, r *bufio.Reader) {
			_, _ = readHead(r)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			<-time.After(600 * time.Millisecond)
			_, _ = io.WriteString(conn, "data: 1\n\n")
			_, err := r.ReadByte()
			ended <- err
		}
		short := func(_ *house, c *Config) { c.StallTimeout = setting.Duration(200 * time.Millisecond) }
		var h *house
		var conn net.Conn
		var err error
		if secured {
			h = newHouse(t, newTLSCMS(t, serve).addr, short, withTLS)
			conn, err = tls.Dial("tcp", h.Addr(), nil)
		} else {
			h = newHouse(t, newCMS(t, serve).addr, short)
			conn, err = net.Dial("tcp", h.Addr())
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
		var got strings.Builder
		buffer := make([]byte, 1000)
		for !strings.Contains(got.String(), "data: 1") {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatal(err, got.String())
			}
			got.Write(buffer[:n])
		}
		_ = conn.Close()
		if err := next(t, ended); err == nil {
			t.Error("the CMS did not hear of it")
		}
		if lines := h.lines("upstream"); len(lines) > 0 {
			t.Errorf("a client that leaves is no fault of the CMS: %s", lines)
		}
	}
}

// A client that leaves while a read waits for the CMS ends that; a write goes on.
func TestClientLeavesWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/o", "/w"} {
		ended := make(chan error, 1)
		asked, answer := make(chan bool, 1), make(chan bool)
		c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
			_, _ = readHead(r)
			asked <- true
			if path == "/w" {
				<-answer
				_, _ = io.WriteString(conn, okAnswer)
				return
			}
			_, err := r.ReadByte()
			ended <- err
		})
		h := newHouse(t, c.addr)
		client := h.dial()
		client.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		next(t, asked)
		_ = client.Close()
		if path != "/w" {
			if err := next(t, ended); err == nil {
				t.Errorf("%s: the CMS did not hear of it", path)
			}
			continue
		}
		<-time.After(2500 * time.Millisecond) // longer than it takes to notice
		close(answer)
		if x := h.outcome(); x.Outcome != event.Done {
			t.Errorf("the write is %s", x.Outcome)
		}
	}
}

// tunnelCMS says yes to a WebSocket, and then sends back what it gets.
func tunnelCMS(_ *cms, conn net.Conn, r *bufio.Reader) {
	got, err := readHead(r)
	if err != nil {
		return
	}
	if len(got.field("Connection")) != 1 || len(got.field("Upgrade")) != 1 || len(got.field("Sec-WebSocket-Protocol")) != 0 {
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad\r\nContent-Length: 5\r\n\r\nfalse")
		return
	}
	if strings.Contains(got.line, "/none") {
		_, _ = io.WriteString(conn, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nFIRST")
	_, _ = io.Copy(conn, r)
}

// A WebSocket is a tunnel: what was sent along arrives, both ways, each side may
// end it, and a stop does.
// A client that waits has not left, whatever became of the deadline by which its
// request had to be there.
func TestSlowAnswerAfterTheHeaderTimeout(t *testing.T) {
	t.Parallel()
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		_, _ = c.read(r)
		<-time.After(3500 * time.Millisecond)
		_, _ = io.WriteString(conn, okAnswer)
	})
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.HeaderTimeout = setting.Duration(300 * time.Millisecond) })
	client := h.dial()
	client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	client.hears("HTTP/1.1 200")
}

// Looking whether a client left does not get in the way of its upload.
func TestEarlyAnswerWhileTheClientIsWatched(t *testing.T) {
	t.Parallel()
	c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
		_, _ = readHead(r)
		<-time.After(2500 * time.Millisecond)
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
	})
	h := newHouse(t, c.addr)
	client := h.dial()
	client.send("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	began := time.Now()
	client.hears("HTTP/1.1 413")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("took %s", took)
	}
}

func TestTunnel(t *testing.T) {
	t.Parallel()
	c := newCMS(t, tunnelCMS)
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.StallTimeout = setting.Duration(200 * time.Millisecond) })
	const ask = " HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
	open := func(ask string) *client {
		client := h.dial()
		client.send("GET /" + ask + "EARLY")
		got, err := readHead(client.r)
		if err != nil || got.line != "HTTP/1.1 101 Switching Protocols" || !got.has("Upgrade: websocket") || !got.has("Connection: Upgrade") || !got.has("Sec-WebSocket-Accept: x") {
			t.Fatalf("%+v %v", got, err)
		}
		client.hears("FIRSTEARLY")
		return client
	}
	for _, ask := range []string{ask, strings.ToLower(strings.Replace(ask, "HTTP/1.1\r\nHost: x", "", 1))} {
		if !strings.Contains(ask, "HTTP/1.1") {
			ask = " HTTP/1.1\r\nhost: x" + strings.TrimPrefix(ask, " ")
		}
		client := open(ask)
		for n := range 5 {
			client.send(fmt.Sprint("ping", n))
			client.hears(fmt.Sprint("ping", n))
			<-time.After(100 * time.Millisecond) // silence is no fault
		}
		_ = client.CloseWrite()
		if rest := client.rest(); rest != "" {
			t.Errorf("%q", rest)
		}
	}
	if got := h.talk("GET /none" + ask); statusOf(got) != 426 || !strings.HasSuffix(got, "no") {
		t.Errorf("answer %q", got)
	}
	if got := h.talk("POST /" + ask); statusOf(got) == 101 {
		t.Errorf("a POST was switched: %q", got)
	}
	stays := open(ask)
	ctx := t.Context()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if rest := stays.rest(); rest != "" {
		t.Errorf("%q", rest)
	}
}

// A tunnel's connection to the CMS does not outlive the client's.
func TestTunnelWithoutAClient(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan bool, 1), make(chan error, 1)
	flood := strings.Repeat("x", 32<<20)
	c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
		got, err := readHead(r)
		if err != nil {
			return
		}
		if got.field("Upgrade") == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			return
		}
		asked <- true
		<-time.After(100 * time.Millisecond)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if strings.Contains(got.line, "/flood") {
			_, _ = io.WriteString(conn, flood)
		}
		_, err = r.ReadByte()
		ended <- err
	})
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.StallTimeout = setting.Duration(2 * time.Second) })
	const ask = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	left := h.dial()
	left.send("GET / HTTP/1.1\r\nHost: x\r\n" + ask)
	next(t, asked)
	_ = left.SetLinger(0)
	left.Close()
	if err := next(t, ended); err == nil {
		t.Error("the CMS did not hear that the client left")
	}
	deaf := h.dial()
	deaf.send("GET /flood HTTP/1.1\r\nHost: x\r\n" + ask)
	next(t, asked)
	if err := next(t, ended); err == nil {
		t.Error("the CMS did not hear that the client does not read")
	}
	for _, closing := range []string{"HTTP/1.1\r\nConnection: close\r\n", "HTTP/1.0\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n"} {
		if got := h.talk("GET / " + strings.Replace(closing, "\r\n", "\r\nHost: x\r\n", 1) + ask); statusOf(got) != 200 {
			t.Errorf("%q: %q", closing, got)
		}
	}
}

func (c *client) hears(want string) {
	c.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		c.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// A client has so many connections and no more, but a trusted proxy any number.
func TestMaxPerClient(t *testing.T) {
	t.Parallel()
	check := func(want int, change ...func(*house, *Config)) {
		t.Helper()
		h := newHouse(t, newCMS(t, answering(okAnswer)).addr, append(change, func(_ *house, c *Config) { c.MaxPerClient = 2 })...)
		ask := func(c *client) int {
			c.send(request("GET"))
			got, _ := readHead(c.r)
			_, _ = c.r.Discard(2)
			return statusOf(got.line)
		}
		first := h.dial()
		if a, b, c := ask(first), ask(h.dial()), ask(h.dial()); a != 200 || b != 200 || c != want {
			t.Errorf("%d %d %d", a, b, c)
		}
		_ = first.Close()
		for end := time.Now().Add(patience); ask(h.dial()) != 200; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the place of a connection that is closed is not free")
			}
		}
		if busy := h.lines("busy"); want != 200 && (len(busy) != 1 || !strings.Contains(busy[0], "max_per_client")) {
			t.Errorf("log: %s", h.log)
		}
	}
	check(503)
	check(200, trustLoopback)
}

// A body that is too large is refused, and the CMS never has all of it.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering(okAnswer))
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.MaxBody = 100_000 })
	body := strings.Repeat("x", 100_000)
	for _, framed := range []string{"Content-Length: 100000\r\n\r\n" + body, "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body)} {
		if got := h.talk("PUT / HTTP/1.1\r\nHost: x\r\n" + framed); statusOf(got) != 200 || len(next(t, c.got).body) != 100_000 {
			t.Errorf("answer %q", got)
		}
		h.outcome()
	}
	whole := c.whole.Load()
	for _, framed := range []string{"Content-Length: 100001\r\n\r\n" + body + "x", "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body+"x")} {
		client := h.dial()
		go func() { _, _ = io.WriteString(client, "PUT / HTTP/1.1\r\nHost: x\r\n"+framed) }()
		if got := client.rest(); statusOf(got) != 413 || !strings.Contains(got, "proxy.max_body") {
			t.Errorf("answer %q", got)
		}
	}
	if x := h.outcome(); x.Outcome != event.Cut || c.whole.Load() != whole {
		t.Errorf("%s, %d", x.Outcome, c.whole.Load()-whole)
	}
}

// Who waits too long for a connection to the CMS is told so, and nothing was sent.
func TestUpstreamConnections(t *testing.T) {
	t.Parallel()
	answer, asked := make(chan bool), make(chan bool, 1)
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		if _, whole := c.read(r); whole {
			asked <- true
			<-answer
			_, _ = io.WriteString(conn, okAnswer)
		}
	})
	h := newHouse(t, c.addr, func(_ *house, c *Config) {
		c.UpstreamConnections, c.WaitTimeout = 1, setting.Duration(50*time.Millisecond)
	})
	first := h.dial()
	first.send(request("GET"))
	next(t, asked)
	if got := h.talk("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); statusOf(got) != 503 || !strings.Contains(got, "nothing was sent") {
		t.Errorf("answer %q", got)
	}
	if x := h.outcome(); x.Outcome != event.NotSent || c.whole.Load() != 1 {
		t.Errorf("%s, %d requests", x.Outcome, c.whole.Load())
	}
	close(answer)
	if got := first.answer(); got.line != "HTTP/1.1 200 OK" {
		t.Errorf("%+v", got)
	}
}

// The CMS's certificate may be of an authority of its own and for another name,
// and the CMS may ask for ours.
func TestUpstreamTLS(t *testing.T) {
	t.Parallel()
	cert, key := makeCertificate(time.Now().Add(time.Hour), "cms.internal")
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(cert)) })
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var asked string
	c := newCMS(t, func(c *cms, conn net.Conn, _ *bufio.Reader) {
		secured := tls.Server(conn, &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12,
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) { asked = hello.ServerName; return nil, nil },
		})
		answering(okAnswer)(c, secured, bufio.NewReader(secured))
		_ = secured.CloseWrite()
	})
	check := func(want int, of setting.ClientTLS) {
		t.Helper()
		h := newHouse(t, c.addr, func(_ *house, config *Config) {
			config.Upstream = mustURL("https://" + c.addr)
			config.UpstreamTLS = of
		})
		if got := h.talk(request("GET")); statusOf(got) != want {
			t.Errorf("%+v: answer %q, log %s", of, got, h.log)
		}
	}
	all := setting.ClientTLS{CA: cert, ServerName: "cms.internal", Cert: testCert, Key: testKey}
	if check(200, all); asked != "cms.internal" {
		t.Errorf("asked for %q", asked)
	}
	check(502, setting.ClientTLS{ServerName: "cms.internal", Cert: testCert, Key: testKey})
	check(502, setting.ClientTLS{CA: cert, Cert: testCert, Key: testKey})
	check(502, setting.ClientTLS{CA: cert, ServerName: "cms.internal"})

	for of, want := range map[setting.ClientTLS]string{
		{CA: "/nowhere"}: "upstream_tls.ca: the file can not be read", {CA: testKey}: "upstream_tls.ca: there is no certificate",
		{Cert: testCert}: "upstream_tls: the certificate and key can not be read", {}: "",
	} {
		config := DefaultConfig()
		config.Upstream, config.UpstreamTLS = mustURL("https://cms"), of
		err := setting.Decode("f", []byte("{}"), &config, config.Validate)
		if want == "" && err != nil || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%+v: %v", of, err)
		}
	}
	config := DefaultConfig()
	config.Upstream, config.UpstreamTLS = mustURL("http://cms"), all
	if err := setting.Decode("f", []byte("{}"), &config, config.Validate); !strings.Contains(fmt.Sprint(err), "begins with https://") {
		t.Error(err)
	}
}

// Many large answers of writes at once take turns, so that they do not fill the
// memory; all arrive.
func TestLargeAnswersTakeTurns(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", holdLimit)
	c := newCMS(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)))
	h := newHouse(t, c.addr)
	results := make(chan error, 60)
	for range cap(results) {
		go func() {
			if got := h.talk("GET /w HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, body) {
				results <- fmt.Errorf("%d bytes came: %.200s", len(got), got)
				return
			}
			results <- nil
		}()
	}
	var err error
	for range cap(results) {
		err = errors.Join(err, next(t, results))
	}
	if err != nil {
		t.Error(err)
	}
}
