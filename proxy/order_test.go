package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// The intent is recorded before the CMS gets the first byte.
func TestBeginBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	arrived := make(chan bool, 10)
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		_, _ = r.Peek(1)
		arrived <- true
		answeringOnce(okAnswer)(c, conn, r)
	})
	begin, goOn := make(chan bool), make(chan bool)
	h := newHouse(t, c.addr, func(h *house, _ *Config) {
		h.tap.begin = func(*event.Intent) error { begin <- true; <-goOn; return nil }
	})
	for _, raw := range []string{
		request("PUT"),
		"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000),
	} {
		answer := make(chan string)
		go func() { answer <- h.talk(raw) }()
		next(t, begin)
		select {
		case <-arrived:
			t.Error("the CMS got a byte before the intent was recorded")
		case <-time.After(20 * time.Millisecond):
		}
		goOn <- true
		next(t, arrived)
		if got := next(t, answer); statusOf(got) != 200 {
			t.Errorf("answer %q", got)
		}
	}
}

// No client sees a write end before the tap has finished with it: of an answer
// up to 2 MiB it sees nothing, of a larger one all but the last byte, of an
// event stream everything.
func TestFinishBeforeTheEnd(t *testing.T) {
	t.Parallel()
	check := func(name, kind string, size, early int) {
		t.Helper()
		body := strings.Repeat("~", size)
		fixed := fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", kind, size, body)
		chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", kind, size, body)
		closing := fmt.Sprintf("HTTP/1.1 200 OK\r\n%s\r\n%s", kind, body)
		for form, answer := range map[string]string{"fixed": fixed, "chunked": chunked, "closing": closing} {
			t.Run(name+"/"+form, func(t *testing.T) {
				t.Helper()
				t.Parallel()
				if kind != "" && form == "fixed" {
					checkHeld(t, answer, size, 0) // a stream that has an end is like any other answer
					return
				}
				checkHeld(t, answer, size, early)
			})
		}
	}
	check("small", "", 2, 0)
	check("2 MiB", "", holdLimit, 0)
	check("2 MiB and a byte", "", holdLimit+1, holdLimit)
	check("2 MiB and two bytes", "", holdLimit+2, holdLimit+1)
	check("3 MiB", "", 3<<20, 3<<20-1)
	check("larger than the copy", "", copyLimit+1000, copyLimit+999)
	check("event stream", "Content-Type: text/event-stream; charset=utf-8\r\n", 1000, 1000)
}

// checkHeld counts the bytes of the body that come before Finish has returned:
// at most early, and of an event stream just as many.
func checkHeld(t *testing.T, answer string, size, early int) {
	t.Helper()
	c := newCMS(t, answeringOnce(answer))
	finishing, goOn := make(chan bool), make(chan bool)
	h := newHouse(t, c.addr, func(h *house, _ *Config) {
		h.tap.finish = func(*event.Exchange) { finishing <- true; <-goOn }
	})
	client := h.dial()
	client.send(strings.Replace(request("PUT"), "Host: x", "Host: x\r\nConnection: close", 1))
	var seen atomic.Int64
	all := make(chan bool)
	go func() {
		defer close(all)
		for {
			b, err := client.r.ReadByte()
			if err != nil {
				return
			}
			if b == '~' {
				seen.Add(1)
			}
		}
	}()
	next(t, finishing)
	for end := time.Now().Add(patience); early == size && seen.Load() < int64(size) && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
	<-time.After(30 * time.Millisecond)
	if n := seen.Load(); n > int64(early) || early == size && n != int64(size) {
		t.Errorf("%d of %d bytes came before Finish returned, want at most %d", n, size, early)
	}
	goOn <- true
	next(t, all)
	if n := seen.Load(); n != int64(size) {
		t.Errorf("%d of %d bytes came", n, size)
	}
}

// An event stream answers each event as it comes.
func TestEventStreamIsNotHeld(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"PUT", "GET"} {
		more := make(chan bool)
		c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
			c.read(r)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range more {
				_, _ = io.WriteString(conn, "9\r\ndata: 1\n\n\r\n")
			}
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		})
		h := newHouse(t, c.addr)
		client := h.dial()
		client.send(strings.Replace(request(method), "/w", "/", 1))
		if got, err := readHead(client.r); err != nil || got.line != "HTTP/1.1 200 OK" {
			t.Fatalf("%+v, %v", got, err)
		}
		for range 3 {
			more <- true
			if got, err := client.r.ReadString('\n'); err != nil || got != "9\r\n" {
				t.Fatalf("%q, %v", got, err)
			}
			if _, err := client.r.Discard(len("data: 1\n\n\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		close(more)
		if got, err := client.r.ReadString('\n'); err != nil || got != "0\r\n" {
			t.Errorf("%q, %v", got, err)
		}
		if method == "PUT" {
			if x := h.outcome(); string(x.Answer.Bytes) != strings.Repeat("data: 1\n\n", 3) {
				t.Errorf("copy %+v", x.Answer)
			}
		}
	}
}

// An event stream without an end does not last for ever once its client left.
func TestEndlessStreamWithoutAClient(t *testing.T) {
	t.Parallel()
	c := newCMS(t, func(c *cms, conn net.Conn, r *bufio.Reader) {
		c.read(r)
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
		for ; err == nil; <-time.After(10 * time.Millisecond) {
			_, err = io.WriteString(conn, "data: 1\n\n")
		}
	})
	h := newHouse(t, c.addr, func(_ *house, c *Config) { c.AnswerTimeout = setting.Duration(200 * time.Millisecond) })
	client := h.dial()
	client.send(request("PUT"))
	_, _ = client.r.Peek(200)
	client.reset()
	if x := h.outcome(); x.Outcome != event.Unknown || x.Status != 200 || x.Answer.Err == "" {
		t.Errorf("%+v", x)
	}
}
