package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

var methods = []string{"PUT", "POST", "DELETE", "PATCH", "GET"}

// request is a complete request for a path that is always a write.
func request(method string) string {
	body := ""
	if method == "PUT" || method == "POST" || method == "PATCH" {
		body = `{"a":1}`
	}
	return fmt.Sprintf("%s /w HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
}

// However the connection to the CMS dies, a request is executed once at most,
// and the outcome says what is known.
func TestAtMostOnce(t *testing.T) {
	t.Parallel()
	const big = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 50\r\n\r\n"
	run := func(name string, serve func(*cms, net.Conn, *bufio.Reader), outcome event.Outcome, executed int64, status int) {
		t.Helper()
		for _, method := range methods {
			t.Run(name+"/"+method, func(t *testing.T) {
				t.Helper()
				t.Parallel()
				c := newCMS(t, serve)
				h := newHouse(t, c.addr)
				if got := statusOf(h.talk(request(method))); got != status {
					t.Errorf("status %d, want %d", got, status)
				}
				if x := h.outcome(); x.Outcome != outcome {
					t.Errorf("outcome %s, want %s", x.Outcome, outcome)
				}
				if n := c.whole.Load(); n != executed {
					t.Errorf("executed %d times, want %d", n, executed)
				}
			})
		}
	}
	run("dies after the head", func(_ *cms, _ net.Conn, r *bufio.Reader) { _, _ = readHead(r) }, event.Unknown, 0, 502)
	run("reset after the head", func(_ *cms, conn net.Conn, r *bufio.Reader) {
		_, _ = readHead(r)
		_ = conn.(*net.TCPConn).SetLinger(0)
	}, event.Unknown, 0, 502)
	run("dies without an answer", answeringOnce(""), event.Unknown, 1, 502)
	for _, k := range []int{1, 8, 9, 12, 15, 17, 30, len(big) - 3, len(big) - 1} {
		run(fmt.Sprintf("dies after %d bytes", k), answeringOnce(big[:k]), event.Unknown, 1, 502)
	}
	run("dies before the body", answeringOnce(big), event.Unknown, 1, 502)
	run("dies in the body", answeringOnce(big+"12345"), event.Unknown, 1, 502)
	run("answers", answeringOnce(big+strings.Repeat("x", 50)), event.Done, 1, 200)
}

// A CMS that can not be reached was sent nothing.
func TestNotSent(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	h := newHouse(t, listener.Addr().String())
	for _, method := range methods {
		if got := statusOf(h.talk(request(method))); got != 502 {
			t.Errorf("%s: status %d", method, got)
		}
		if x := h.outcome(); x.Outcome != event.NotSent {
			t.Errorf("%s: outcome %s", method, x.Outcome)
		}
	}
}

// A connection that the CMS closed while it was idle is not used: every method
// succeeds, on a new one.
func TestIdleConnectionClosedByTheCMS(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			closed := make(chan bool, 10)
			c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
				answeringOnce(okAnswer)(c, conn, r)
				_ = conn.Close() // before the proxy knows
				closed <- true
			})
			h := newHouse(t, c.addr)
			h.talk("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n")
			next(t, closed)
			if got := h.talk(request(method)); statusOf(got) != 200 {
				t.Errorf("answer %q", got)
			}
			if x := h.outcome(); x.Outcome != event.Done || c.whole.Load() != 2 {
				t.Errorf("outcome %s, %d requests", x.Outcome, c.whole.Load())
			}
		})
	}
}

// A connection pool in good order: one upstream connection serves one client,
// whatever the form of the bodies.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 100_000)
	check := func(name, request, answer string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			c := newCMS(t, answering(answer))
			h := newHouse(t, c.addr)
			client := h.dial()
			requests := 100
			if len(answer) > 1_000_000 {
				requests = 10
			}
			for i := range requests {
				client.send(request)
				if status := client.answer().line; status != "HTTP/1.1 200 OK" {
					t.Fatalf("request %d: %q", i, status)
				}
			}
			if n := c.accepts.Load(); n != 1 {
				t.Errorf("%d connections to the CMS", n)
			}
		})
	}
	chunkedAnswer := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	check("small", request("PUT"), okAnswer)
	check("get", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", okAnswer)
	check("chunked", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", okAnswer)
	check("large", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+large, okAnswer)
	check("chunked answer", request("PUT"), chunkedAnswer)
	check("streamed chunked answer", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", chunkedAnswer)
	check("streamed answer", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+large)
	check("held answer", request("PUT"), "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"+strings.Repeat(large, 30))
	check("no body", "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

// answer reads one answer with a body.
func (c *client) answer() received {
	c.Helper()
	got, err := readRequest(c.r)
	if err != nil {
		c.Fatal("reading an answer: ", err)
	}
	return got
}

// A connection that the CMS will close, or that did not take a whole request,
// serves nobody else.
func TestConnectionsAreNotReused(t *testing.T) {
	t.Parallel()
	check := func(name, request, answer string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
				_, _ = readHead(r)
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(io.Discard, r) // and stays open
			})
			h := newHouse(t, c.addr)
			for n := range int64(3) {
				client := h.dial()
				client.send(request)
				if got := client.answer(); got.line != "HTTP/1.1 200 OK" || c.accepts.Load() != n+1 {
					t.Errorf("%+v over connection %d", got, c.accepts.Load())
				}
				client.Close()
			}
		})
	}
	check("closing", request("PUT"), strings.Replace(okAnswer, "\r\n", "\r\nconnection: x, close\r\n", 1))
	check("early", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", okAnswer)
	check("bytes too many", request("PUT"), okAnswer+"HTTP/1.1 200 Poison\r\nContent-Length: 0\r\n\r\n")
	check("HTTP/1.0", request("PUT"), strings.Replace(okAnswer, "1.1", "1.0", 1))
}

// A CMS that hangs is given up: before it read the request, and after.
func TestHangingCMS(t *testing.T) {
	t.Parallel()
	short := func(_ *house, c *Config) {
		c.AnswerTimeout, c.StallTimeout = setting.Duration(50*time.Millisecond), setting.Duration(100*time.Millisecond)
	}
	check := func(name, request string, serve func(*cms, net.Conn, *bufio.Reader)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			done := make(chan bool)
			c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) { serve(c, conn, r); <-done })
			t.Cleanup(func() { close(done) })
			h := newHouse(t, c.addr, short)
			client := h.dial()
			go func() { _, _ = io.WriteString(client, request) }()
			if got := client.rest(); statusOf(got) != 504 {
				t.Errorf("answer %q", got)
			}
			if x := h.outcome(); x.Outcome != event.Unknown || x.Status != 0 {
				t.Errorf("outcome %s, status %d", x.Outcome, x.Status)
			}
			if lines := h.lines("upstream"); len(lines) != 1 || !strings.Contains(lines[0], "proxy.answer_timeout") {
				t.Errorf("log: %q", lines)
			}
		})
	}
	closing := strings.Replace(request("PUT"), "Host: x", "Host: x\r\nConnection: close", 1)
	reads := func(c *cms, _ net.Conn, r *bufio.Reader) { c.read(r) }
	check("no answer", closing, reads)
	check("half a header", closing, func(c *cms, conn net.Conn, r *bufio.Reader) {
		reads(c, conn, r)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-")
	})
	check("does not read", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"+strings.Repeat("x", 50_000_000),
		func(*cms, net.Conn, *bufio.Reader) {})
	check("reads, does not answer", "PUT / HTTP/1.1\r\nConnection: close\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", reads)
}

// TestLocation: a write's exchange has the answer's header Location, however that
// is written.
func TestLocation(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Location: /a?b#c", "location: /a?b#c", "LOCATION: /a?b#c", "X-Location: /x"} {
		h := newHouse(t, newCMS(t, answering("HTTP/1.1 201 Created\r\n"+header+"\r\nContent-Length: 0\r\n\r\n")).addr)
		h.talk(request("PUT"))
		want := "/a?b#c"
		if strings.HasPrefix(header, "X") {
			want = ""
		}
		if x := h.outcome(); x.Location != want {
			t.Errorf("%s: %q", header, x.Location)
		}
	}
}

// A body of an answer that does not move ends both sides.
func TestHangingAnswerBody(t *testing.T) {
	t.Parallel()
	done := make(chan bool)
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		c.read(r)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
		<-done
	})
	t.Cleanup(func() { close(done) })
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.StallTimeout = setting.Duration(50 * time.Millisecond) })
	if got := h.talk(request("PUT")); statusOf(got) != 502 {
		t.Errorf("write: answer %q", got)
	}
	if x := h.outcome(); x.Outcome != event.Unknown || x.Status != 200 || x.Answer.Err == "" {
		t.Errorf("exchange %+v", x)
	}
	if got := h.talk("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); statusOf(got) != 502 {
		t.Errorf("pass: answer %q", got)
	}
	if lines := h.lines("upstream"); len(lines) != 2 {
		t.Errorf("log: %q", lines)
	}
}

// A client that does not read its answer is given up, and its write finished.
func TestHangingClient(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"+strings.Repeat("x", 50_000_000)))
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.StallTimeout = setting.Duration(500 * time.Millisecond) })
	client := h.dial()
	client.send(request("PUT"))
	if x := h.outcome(); x.Outcome != event.Done || x.Answer.Err == "" {
		t.Errorf("outcome %s, copy error %q", x.Outcome, x.Answer.Err)
	}
	client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n") // the end of this test waits for the proxy to give up
}
