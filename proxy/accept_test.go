package proxy

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"cmstap/internal/testlog"
)

// exhausted is a listener that has no files for a while.
type exhausted struct {
	net.Listener
	errors []error
}

func (e *exhausted) Accept() (net.Conn, error) {
	if len(e.errors) > 0 {
		err := e.errors[0]
		e.errors = e.errors[1:]
		return nil, &net.OpError{Op: "accept", Err: err}
	}
	return e.Listener.Accept()
}

// A process without files goes on once it has some, and says it once.
func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	log := &testlog.Log{}
	config := DefaultConfig()
	if err := config.Upstream.UnmarshalText([]byte("http://cms.example")); err != nil {
		t.Fatal(err)
	}
	p := New(config, nil, log.Logger())
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := clientListener{&exhausted{own, []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}}, p}
	client, err := net.Dial("tcp", own.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	_ = conn.Close()
	if text := log.String(); strings.Count(text, "msg=busy") != 1 || !strings.Contains(text, "too many open files") {
		t.Error(text)
	}
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
}
