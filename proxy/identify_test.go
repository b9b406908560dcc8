package proxy

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"cmstap/event"
)

// A body that tells what a request means is read first, up to a limit, and
// reaches the CMS as it was sent.
func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, smallBody, smallBody + 1, event.MaxIdentify, event.MaxIdentify + 1, 1 << 20} {
		body := strings.Repeat("0123456789abcdef\x00\r\n\xff", size/20+1)[:size]
		for framing, framed := range map[string]string{
			"fixed":   fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
			"chunked": "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body),
		} {
			t.Run(fmt.Sprintf("%s/%d", framing, size), func(t *testing.T) {
				t.Parallel()
				seen := make(chan event.Copy, 1)
				c := newCMS(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
				h := newHouse(t, c.addr, func(h *house, _ *Config) { h.tap.identify = func(b event.Copy) { seen <- b } })
				client := h.dial()
				for range 2 {
					go func() { _, _ = io.WriteString(client, "PUT /w HTTP/1.1\r\nHost: x\r\n"+framed) }()
					if got := client.answer(); got.body != "ok" {
						t.Errorf("answer %q", got.body)
					}
					if got := next(t, c.got); got.body != body {
						t.Errorf("%d bytes arrived", len(got.body))
					}
					copied := next(t, seen)
					if whole := size <= event.MaxIdentify; whole != (copied.Err == "") || whole && string(copied.Bytes) != body {
						t.Errorf("the tap saw %d bytes, %q", len(copied.Bytes), copied.Err)
					}
				}
			})
		}
	}
}

// The coding of such a body is undone on the copy only, within bounds.
func TestIdentifyCoded(t *testing.T) {
	t.Parallel()
	check := func(plain string, want event.Copy) {
		t.Helper()
		var coded bytes.Buffer
		z := gzip.NewWriter(&coded)
		_, _ = io.WriteString(z, plain)
		_ = z.Close()
		seen := make(chan event.Copy, 1)
		c := newCMS(t, answeringOnce("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		h := newHouse(t, c.addr, func(h *house, _ *Config) { h.tap.identify = func(b event.Copy) { seen <- b } })
		h.talk(fmt.Sprintf("PUT /w HTTP/1.1\r\nHost: x\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n%s", coded.Len(), coded.String()))
		if got := next(t, c.got); got.body != coded.String() {
			t.Errorf("%d bytes arrived, not %d", len(got.body), coded.Len())
		}
		if got := next(t, seen); string(got.Bytes) != string(want.Bytes) || (got.Err == "") != (want.Err == "") {
			t.Errorf("the tap saw %d bytes, %q", len(got.Bytes), got.Err)
		}
	}
	check(`{"a":1}`, event.Copy{Bytes: []byte(`{"a":1}`)})
	check(strings.Repeat("0", copyLimit+1), event.Copy{Err: "a bomb"})
}

// A client that leaves in the middle of such a body has written nothing.
func TestIdentifyCut(t *testing.T) {
	t.Parallel()
	c := newCMS(t, answeringOnce("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	h := newHouse(t, c.addr, func(h *house, _ *Config) { h.tap.identify = func(event.Copy) { t.Error("it was identified") } })
	got := h.talk(fmt.Sprintf("PUT /w HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nhalf", smallBody+1))
	if statusOf(got) != 400 || c.whole.Load() != 0 || h.tap.begun.Load() != 0 {
		t.Errorf("%q, %d executed, %d begun", got, c.whole.Load(), h.tap.begun.Load())
	}
}
