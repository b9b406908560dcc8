package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"cmstap/event"
)

// What could be read in two ways is refused, and nothing of it reaches the
// CMS; what is passed has one reading.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering(okAnswer))
	h := newHouse(t, c.addr)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	head := "POST /s HTTP/1.1\r\nHost: x\r\n"
	refused := func(raw string) {
		t.Helper()
		before := c.whole.Load()
		got := h.talk(raw + smuggled)
		if statusOf(got) != 400 || strings.Count(got, "HTTP/1.1 ") != 1 || c.whole.Load() != before {
			t.Errorf("%q: %d requests reached the CMS, answer %q", raw, c.whole.Load()-before, got)
		}
	}
	passed := func(raw, body string, fields ...string) {
		t.Helper()
		before := c.whole.Load()
		if got := h.talk(raw); strings.Count(got, "HTTP/1.1 200") != 1 {
			t.Errorf("%q: answer %q", raw, got)
			return
		}
		got := next(t, c.got)
		if n := c.whole.Load() - before; n != 1 || got.body != body {
			t.Errorf("%q: the CMS got %d requests, the body %q", raw, n, got.body)
		}
		for _, field := range fields {
			if !got.has(field) {
				t.Errorf("%q: no %q in %q", raw, field, got.fields)
			}
		}
	}
	for _, field := range []string{
		"Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3, 3",
		"Content-Length: +3", "Content-Length: -1", "Content-Length : 3", "Content-Length: 0x3", "Content-Length: ",
		"Transfer-Encoding: xchunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x0bchunked",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding : chunked", "Host: y",
		"X: a\r\n b", "X: a\r\n\tb", "Transfer-Encoding:\r\n chunked", "X: a\rb", "X: a\x00b", "X A: 1", "X\tA: 1", ": 1", "NoColon",
	} {
		refused(head + field + "\r\n\r\nabc")
	}
	refused("POST /s HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	refused("POST /s HTTP/1.1\r\n\r\n")
	refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	refused("CONNECT a.b:80 HTTP/1.1\r\nHost: x\r\n\r\n")
	refused("CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n")
	refused("GET nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	refused("GET * HTTP/1.1\r\nHost: x\r\n\r\n")
	refused("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n")
	chunked := "Transfer-Encoding: chunked\r\n"
	body := "\r\n3\r\nabc\r\n0\r\n\r\n"
	passed(head+"Content-Length: 4\r\n"+chunked+body, "abc", "Transfer-Encoding: chunked")
	passed(head+chunked+"Content-Length: 4\r\n"+body, "abc", "Transfer-Encoding: chunked")
	passed(head+chunked+"Content-Length: 4\r\n"+body+smuggled, "abc") // closed after the answer
	passed(head+"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "abc", "Content-Length: 3")
	passed(head+"X: a\nContent-Length: 3\r\n\r\nabc", "abc", "X: a")
	passed(head+chunked+"\r\n3;a=b\r\nabc\r\n0\r\n\r\n", "abc")
	passed(head+chunked+"Connection: Transfer-Encoding\r\n"+body, "abc", "Transfer-Encoding: chunked")
	passed(head+"Content-Length: 3\r\nConnection: Content-Length\r\n\r\nabc", "abc", "Content-Length: 3")
}

// E1: what the handler did not read of a body is not the next request.
func TestUnreadBodyIsNotARequest(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, status := range []string{"400 Bad", "413 Too Large"} {
		c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
			if got, err := readHead(r); err == nil {
				if strings.Contains(got.line, "smuggled") {
					c.whole.Add(1)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
				_, _ = io.Copy(io.Discard, r)
			}
		})
		h := newHouse(t, c.addr)
		client := h.dial()
		client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n" + strings.Repeat("A", 8192) + "\r\n")
		h.outcome() // the answer was early
		go func() { _, _ = io.WriteString(client, smuggled) }()
		if got := client.rest(); strings.Count(got, "HTTP/1.1 ") != 1 || c.whole.Load() != 0 {
			t.Errorf("answer %q, %d smuggled", got, c.whole.Load())
		}
	}
}

// Requests that follow each other without waiting are answered in order, each
// once.
func TestPipelining(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering(okAnswer))
	h := newHouse(t, c.addr)
	got := h.talk(strings.Repeat(request("PUT")+"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 10))
	if n := strings.Count(got, "HTTP/1.1 200 OK"); n != 20 || c.whole.Load() != 20 || c.accepts.Load() != 1 {
		t.Errorf("%d answers, %d requests over %d connections", n, c.whole.Load(), c.accepts.Load())
	}
}

// Rules see what the CMS will get: the target without its host, the headers
// without those that are removed on the way.
func TestClassifySeesWhatTheCMSGets(t *testing.T) {
	t.Parallel()
	check := func(raw, path, query, override string) {
		t.Helper()
		c := newCMS(t, answering(okAnswer))
		h := newHouse(t, c.addr, func(h *house, _ *Config) {
			h.tap.classify = func(head event.Head) {
				got := head.Path + " " + head.Query + " " + head.Headers.Get("x-http-method-override") + head.Headers.Get("none")
				if want := path + " " + query + " " + override; got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
		if got := h.talk(raw); statusOf(got) != 200 {
			t.Errorf("answer %q", got)
		}
	}
	check("PUT /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n", "/a/b", "c=d", "")
	check("PUT http://cms.example/a/b?c=d#e HTTP/1.1\r\nHost: x\r\n\r\n", "/a/b", "c=d", "")
	check("PUT /a HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: GET\r\n\r\n", "/a", "", "GET")
	check("PUT /a HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: GET\r\nConnection: x-http-method-override\r\n\r\n", "/a", "", "")
}

// A slow head is cut off; a slow body is not.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering(okAnswer))
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.HeaderTimeout = 200_000_000 })
	client := h.dial()
	start := time.Now()
	client.send("GET / HTTP/1.1\r\n")
	if got := client.rest(); statusOf(got) == 200 || time.Since(start) > patience/2 {
		t.Errorf("answer %q after %s", got, time.Since(start))
	}
	for _, framing := range []string{"Content-Length: 15\r\n\r\n", "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 99_985), "Transfer-Encoding: chunked\r\n\r\nf\r\n"} {
		client = h.dial()
		client.send("PUT / HTTP/1.1\r\nHost: x\r\n" + framing)
		for range 15 {
			<-time.After(20 * time.Millisecond)
			client.send("x")
		}
		client.send(strings.Repeat("\r\n0\r\n\r\n", strings.Count(framing, "chunked")))
		if got := client.answer(); got.line != "HTTP/1.1 200 OK" {
			t.Errorf("answer %+v", got)
		}
	}
}
