package proxy

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
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
