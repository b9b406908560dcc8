package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// What a whole answer makes of a write, and what the tap gets of it.
func TestOutcomeOfAWholeAnswer(t *testing.T) {
	t.Parallel()
	check := func(answer string, outcome event.Outcome, status int, body string) {
		t.Helper()
		c := newCMS(t, answering(answer))
		h := newHouse(t, c.addr)
		got := h.talk(request("PUT"))
		x := h.outcome()
		want := &event.Exchange{
			Intent:  &event.Intent{Method: "PUT", Path: "/w"},
			Outcome: outcome, Status: status, Answer: event.Copy{Bytes: []byte(body)}, Time: x.Time,
		}
		if body == "" {
			want.Answer.Bytes = nil
		}
		if diff := cmp.Diff(want, x); diff != "" || x.Time.IsZero() {
			t.Error(diff)
		}
		if statusOf(got) != status || !strings.HasSuffix(got, "\r\n\r\n"+body) {
			t.Errorf("answer %q", got)
		}
	}
	with := func(status string) string { return "HTTP/1.1 " + status + "\r\nContent-Length: 2\r\n\r\nok" }
	check(with("200 OK"), event.Done, 200, "ok")
	check(with("201 Created"), event.Done, 201, "ok")
	check("HTTP/1.1 204 No Content\r\n\r\n", event.Done, 204, "")
	check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", event.Done, 200, "")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", event.Done, 200, "ok")
	check(with("400 Bad Request"), event.Refused, 400, "ok")
	check(with("409 Conflict"), event.Refused, 409, "ok")
	check(with("422 Unprocessable"), event.Refused, 422, "ok")
	check(with("501 Not Implemented"), event.Refused, 501, "ok")
	check(with("503 Service Unavailable"), event.Refused, 503, "ok")
	check(with("500 Internal Server Error"), event.Unknown, 500, "ok")
	check(with("502 Bad Gateway"), event.Unknown, 502, "ok")
	check(with("302 Found"), event.Unknown, 302, "ok")
}

// An answer that is not whole, or no answer, leaves the outcome unknown, and
// the client never sees a complete one. One line says so.
func TestOutcomeOfABrokenAnswer(t *testing.T) {
	t.Parallel()
	check := func(answer string) {
		t.Helper()
		c := newCMS(t, answeringOnce(answer))
		h := newHouse(t, c.addr)
		got := h.talk(request("PUT"))
		if statusOf(got) != 502 || !strings.Contains(got, "the outcome is unknown") {
			t.Errorf("answer %q", got)
		}
		if x := h.outcome(); x.Outcome != event.Unknown || c.whole.Load() != 1 {
			t.Errorf("outcome %s, executed %d times", x.Outcome, c.whole.Load())
		}
		lines := h.lines("upstream")
		if len(lines) != 1 || !strings.Contains(lines[0], "proxy.upstream") || strings.Contains(h.log.String(), "SECRET") {
			t.Errorf("log: %s", h.log)
		}
	}
	check("")
	check("garbage SECRET\r\n\r\n")
	check("HTTP/1.1 two SECRET\r\nX: SECRET\r\n\r\n")
	check("HTTP/9 200 SECRET\r\n\r\n")
	check("HTTP/1.1 200 OK\r\nX: SECRET\x00\r\n\r\n")
	check("HTTP/1.1 200 OK\r\nX-Token: SECRET\r\nX")
	check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\nX: SECRET\r\n\r\nok")
	check("HTTP/1.1 200 OK\r\nX: SECRET" + strings.Repeat("x", 100_000) + "\r\n\r\n")
	check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
	check("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n")
	check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nSECRET")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nSECRET\r\n")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nSECRET")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nSECRET\r\n0\r\n")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n")
}

const bigAnswer = 3_000_000 // too large to be held whole

// A large answer that breaks off does so for the client as well.
func TestLargeAnswerBreaksOff(t *testing.T) {
	t.Parallel()
	check := func(head string) {
		t.Helper()
		c := newCMS(t, answeringOnce(head+strings.Repeat("x", bigAnswer)))
		h := newHouse(t, c.addr)
		got := h.talk(request("PUT"))
		if _, err := readRequest(bufio.NewReader(strings.NewReader(got))); statusOf(got) != 200 || err == nil {
			t.Errorf("the client got a whole answer of %d bytes", len(got))
		}
		if x := h.outcome(); x.Outcome != event.Unknown || x.Answer.Err == "" {
			t.Errorf("outcome %s, copy error %q", x.Outcome, x.Answer.Err)
		}
		if lines := h.lines("upstream"); len(lines) != 1 {
			t.Errorf("log: %q", lines)
		}
	}
	check(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", bigAnswer+1))
	check(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", bigAnswer))
	check(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", bigAnswer+1))
}

// A client that does not finish its body has changed nothing: a small fixed
// body is not even begun, of the others the CMS never sees the end, and learns
// at once.
func TestCut(t *testing.T) {
	t.Parallel()
	const head = "PUT /w HTTP/1.1\r\nHost: x\r\n"
	check := func(name, sent string, begun int64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			c := newCMS(t, answering(okAnswer))
			h := newHouse(t, c.addr)
			if got := h.talk(sent); statusOf(got) != 400 {
				t.Errorf("answer %q", got)
			}
			if n := h.tap.begun.Load(); n != begun {
				t.Fatalf("%d begun, want %d", n, begun)
			}
			if begun == 1 {
				if x := h.outcome(); x.Outcome != event.Cut || x.Status != 0 {
					t.Errorf("outcome %s, status %d", x.Outcome, x.Status)
				}
			}
			if begun == 1 && len(sent) > 50_000 {
				if err := next(t, c.broken); err == nil {
					t.Error("the CMS saw no error")
				}
			}
			if n := c.whole.Load(); n != 0 {
				t.Errorf("the CMS saw %d whole requests", n)
			}
			if lines := h.lines("upstream"); len(lines) != 0 {
				t.Errorf("the CMS is blamed: %q", lines)
			}
		})
	}
	check("tiny", head+"Content-Length: 20\r\n\r\nhello", 0)
	check("small", head+"Content-Length: 30000\r\n\r\n"+strings.Repeat("x", 20_000), 0)
	check("small, all but one", head+"Content-Length: 65536\r\n\r\n"+strings.Repeat("x", 65_535), 0)
	check("large", head+"Content-Length: 500000\r\n\r\n"+strings.Repeat("x", 300_000), 1)
	check("large, all but one", head+"Content-Length: 500000\r\n\r\n"+strings.Repeat("x", 499_999), 1)
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	check("no chunk", chunked, 1)
	check("at a chunk's end", chunked+"5\r\nhello\r\n", 1)
	check("in a chunk", chunked+"5\r\nhel", 1)
	check("in a chunk's size", chunked+"5\r\nhello\r\n5", 1)
	check("in the last chunk", chunked+"5\r\nhello\r\n0\r\n", 1)
	check("large, at a chunk's end", chunked+strings.Repeat("186a0\r\n"+strings.Repeat("x", 100_000)+"\r\n", 3), 1)
	check("large, in a chunk", chunked+"f4240\r\n"+strings.Repeat("x", 300_000), 1)
	check("bad chunk size", chunked+"0x3\r\nabc\r\n0\r\n\r\n", 1)
	check("bare line feeds", chunked+"3\nabc\n0\n\n", 1)
	check("overflowing size", chunked+"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", 1)
	check("bad extension", chunked+"3;a=b\nabc\r\n0\r\n\r\n", 1)
	check("chunk too long", chunked+"3\r\nabcd\r\n0\r\n\r\n", 1)
	check("length as a trailer", chunked+"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", 1)
}

// A write that can not be recorded is refused, and the CMS never hears of it.
func TestBeginFails(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answering(okAnswer))
	h := newHouse(t, c.addr, func(h *house, _ *Config) {
		h.tap.begin = func(*event.Intent) error { return errors.New("the disk is full") }
	})
	large := strings.Repeat("x", 1_000_000)
	for _, raw := range []string{
		request("PUT"), request("DELETE"),
		"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + large,
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n" + large + "\r\n0\r\n\r\n",
	} {
		if got := h.talk(raw); statusOf(got) != 503 {
			t.Errorf("answer %q", got)
		}
	}
	if c.accepts.Load() != 0 {
		t.Error("the CMS was called")
	}
	if lines := h.lines("refused"); len(lines) != 4 || !strings.Contains(lines[0], "the disk is full") {
		t.Errorf("log: %q", lines)
	}
}

// The client may leave whenever it likes: the write is finished once.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	large := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", bigAnswer) + strings.Repeat("x", bigAnswer)
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", bigAnswer) + strings.Repeat("x", bigAnswer) + "\r\n0\r\n\r\n"
	check := func(name, answer string, leave func(*client, chan bool)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			asked, left := make(chan bool, 1), make(chan bool)
			c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
				c.read(r)
				asked <- true
				<-left
				_, _ = io.WriteString(conn, answer)
				_, _ = r.ReadByte() // the proxy closes
			})
			h := newHouse(t, c.addr)
			client := h.dial()
			client.send(request("PUT"))
			next(t, asked)
			leave(client, left)
			if x := h.outcome(); x.Outcome != event.Done || x.Status != 200 || x.Answer.Err != "" {
				t.Errorf("outcome %s, status %d, copy error %q", x.Outcome, x.Status, x.Answer.Err)
			}
		})
	}
	before := func(client *client, left chan bool) { client.reset(); close(left) }
	during := func(client *client, left chan bool) {
		close(left)
		_, _ = client.r.Peek(100)
		client.reset()
	}
	check("before a small answer", okAnswer, before)
	check("before a large answer", large, before)
	check("before a chunked answer", chunked, before)
	check("in a large answer", large, during)
	check("in a chunked answer", chunked, during)
	check("in an event stream", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+chunked[len("HTTP/1.1 200 OK\r\n"):], during)
}

// reset leaves without a word.
func (c *client) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
