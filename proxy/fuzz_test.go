package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
)

// Whatever a client sends, the CMS gets only requests with one strict reading,
// and no more of them than the client gets answers.
func FuzzRequest(f *testing.F) {
	const host = "PUT /a HTTP/1.1\r\nHost: x\r\n"
	for _, seed := range []string{
		request("PUT"), request("GET") + request("POST"),
		host + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n" + request("GET"),
		host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + request("GET"),
		host + "Connection: close, Content-Length\r\nContent-Length: 3\r\n\r\nabc" + request("GET"),
		host + "X: a\r\n b\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"GET http://a/b?c#d HTTP/1.0\r\nHost: x\r\nCookie: a=b;c\r\nTrailer: X\r\n\r\n",
		host + "Content-Length: 3\nTransfer-Encoding: identity\r\n\r\nabc",
	} {
		f.Add([]byte(seed))
	}
	c := newCMS(f, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	h := newHouse(f, c.addr)
	f.Fuzz(func(t *testing.T, raw []byte) {
		start, before, h := time.Now(), c.whole.Load(), *h
		h.TB = t
		got := h.talk(string(raw))
		answers := countAnswers(t, got)
		if n := c.whole.Load() - before; n > answers {
			t.Errorf("the CMS got %d requests, the client %d answers: %q", n, answers, got)
		}
		select {
		case err := <-c.broken:
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) { // what was cut is
				t.Errorf("the CMS got what is not HTTP: %v", err)
			}
		default:
		}
		if log := h.log.Take(); strings.Contains(log, "msg=panic") {
			t.Error(log)
		}
		if time.Since(start) > patience/2 {
			t.Errorf("took %s: somebody waits for what does not come", time.Since(start))
		}
	})
}

// countAnswers parses what a client got.
func countAnswers(t *testing.T, got string) (n int64) {
	t.Helper()
	for r := bufio.NewReader(strings.NewReader(got)); ; {
		answer, err := readRequest(r)
		if errors.Is(err, io.EOF) && answer.line == "" {
			return n
		}
		// Our own answer to a HEAD has a length and no body, and is the last.
		if err != nil && !strings.HasPrefix(answer.line, "HTTP/1.1 ") {
			t.Errorf("not an answer: %q, %v", got, err)
			return n
		}
		if !strings.HasPrefix(answer.line, "HTTP/1.1 100 ") {
			n++
		}
	}
}

// Whatever the CMS answers, the client gets one valid answer at most, that of a
// write counts as done only if it is whole, and nothing panics.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		okAnswer, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okAnswer,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: close, X\r\nX: 1\r\n\r\nabc", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nabc",
		"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	var answer atomic.Pointer[[]byte]
	c := newCMS(f, func(c *cms, conn net.Conn, r *bufio.Reader) {
		if _, whole := c.read(r); whole {
			_, _ = conn.Write(*answer.Load())
		}
	})
	h := newHouse(f, c.addr)
	f.Fuzz(func(t *testing.T, raw []byte, write bool) {
		answer.Store(&raw)
		path, start, h := "/", time.Now(), *h
		if write {
			path = "/w"
		}
		h.TB = t
		got := h.talk("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		reader := bufio.NewReader(strings.NewReader(got))
		first, err := readRequest(reader)
		for err == nil && strings.HasPrefix(first.line, "HTTP/1.1 1") {
			first, err = readRequest(reader)
		}
		_, rest := reader.ReadByte()
		if !strings.HasPrefix(first.line, "HTTP/1.1 ") || err == nil && rest == nil && !hasNoBody(first.line) {
			t.Errorf("%q became %q", raw, got)
		}
		if write {
			if x := h.outcome(); x.Outcome == event.Done && err != nil && len(first.field("Content-Length"))+len(first.field("Transfer-Encoding")) > 0 && !hasNoBody(first.line) {
				t.Errorf("%q was done, and became %q: %v", raw, got, err)
			}
		}
		select {
		case <-c.got:
		default:
		}
		if log := h.log.Take(); strings.Contains(log, "msg=panic") {
			t.Error(log)
		}
		if time.Since(start) > patience/2 {
			t.Errorf("took %s: somebody waits for what does not come", time.Since(start))
		}
	})
}

// hasNoBody tells whether an answer has no body, whatever its head says.
func hasNoBody(line string) bool {
	return strings.HasPrefix(line, "HTTP/1.1 204") || strings.HasPrefix(line, "HTTP/1.1 304")
}
