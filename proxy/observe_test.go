package proxy

import (
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
)

// A request that is observed passes as any other; the tap gets its whole answer
// if that says that it is one.
func TestObserve(t *testing.T) {
	t.Parallel()
	observed := make(chan *event.Exchange, 10)
	c := newCMS(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	h := newHouse(t, c.addr, func(h *house, _ *Config) { h.tap.observe = func(x *event.Exchange) { observed <- x } })
	get := "GET /o HTTP/1.1\r\nHost: x\r\n\r\n"

	// Whoever never ends a request takes nobody's place.
	for range 2 * maxObserved {
		h.dial().send("GET /o HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	}
	for range 3 * maxObserved {
		if got := h.talk(get); !strings.HasSuffix(got, "hello") {
			t.Errorf("answer %q", got)
		}
		if x := next(t, observed); string(x.Answer.Bytes) != "hello" || x.Outcome != event.Done || x.Time.IsZero() {
			t.Errorf("%+v", x)
		}
	}
}

func TestObserveOnlyAnswers(t *testing.T) {
	t.Parallel()
	for status, body := range map[string]string{"404 Not Found": "no", "204 No Content": "", "200 OK": "too"} {
		c := newCMS(t, answeringOnce(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: 9\r\n\r\n%s", status, body))) // 200 breaks off
		h := newHouse(t, c.addr, func(h *house, _ *Config) { h.tap.observe = func(x *event.Exchange) { t.Errorf("observed %+v", x) } })
		h.talk("GET /o HTTP/1.1\r\nHost: x\r\n\r\n")
	}
}
