package demo

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// Fault is a way in which an answer goes wrong.
type Fault int

// The faults. In place of NoFault and of the right answer the client gets:
const (
	NoFault         Fault = iota
	AnswerError           // 500 with Contentful's error shape
	AnswerReset           // a TCP reset, without a byte of an answer
	AnswerHang            // nothing, until the client gives up or the server closes its connections
	AnswerTruncated       // a good head and half of the body; where there is no body, half a head
	AnswerGarbage         // bytes that are not HTTP, then the end of the connection
)

// String returns the name of the fault.
func (f Fault) String() string {
	names := []string{"NoFault", "AnswerError", "AnswerReset", "AnswerHang", "AnswerTruncated", "AnswerGarbage"}
	if f < 0 || int(f) >= len(names) {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return names[f]
}

// send answers as the fault says, where a is the right answer.
func (f Fault) send(w http.ResponseWriter, r *http.Request, a answer) {
	switch f {
	case AnswerError:
		injected().answer(w.Header().Get("X-Contentful-Request-Id")).send(w, r)
	case AnswerReset:
		reset(w)
	case AnswerHang:
		hang(r)
	case AnswerTruncated:
		a.truncate(w, r)
	case AnswerGarbage:
		raw(w, "\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n")
	default:
		a.send(w, r)
	}
}

// truncate sends the head, which promises the whole body, and half of the body.
func (a answer) truncate(w http.ResponseWriter, r *http.Request) {
	wire := a.wire(w.Header(), r)
	if wire == nil {
		raw(w, "HTTP/1.1 204 No Con")
		return
	}
	if w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(wire)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(wire[:len(wire)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // the way to make net/http close the connection in the middle of an answer
}

// hang keeps the client waiting until it gives up.
func hang(r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// reset closes the connection so that the client sees a TCP reset.
func reset(w http.ResponseWriter) {
	conn := hijack(w)
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Discards what is unsent and makes Close send RST. If it can not be set, the client sees a plain end.
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// raw sends bytes outside of HTTP and closes the connection.
func raw(w http.ResponseWriter, s string) {
	conn := hijack(w)
	_, _ = conn.Write([]byte(s))
	_ = conn.Close()
}

// hijack takes the connection; where there is none to take (HTTP/2) it ends the request instead.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return conn
}
