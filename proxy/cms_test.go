package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// received is a request as the CMS got it.
type received struct {
	line   string
	fields []string // as sent: "Name: value"
	body   string
}

func (r received) has(field string) bool { return slices.Contains(r.fields, field) }

// field returns all values of a field, whatever its case.
func (r received) field(name string) (values []string) {
	for _, f := range r.fields {
		if key, value, _ := strings.Cut(f, ": "); strings.EqualFold(key, name) {
			values = append(values, value)
		}
	}
	return values
}

// readRequest reads one request strictly.
func readRequest(r *bufio.Reader) (received, error) {
	got, err := readHead(r)
	if err != nil {
		return got, err
	}
	length, coding := got.field("Content-Length"), got.field("Transfer-Encoding")
	var body io.Reader = strings.NewReader("")
	switch {
	case len(coding) == 1 && coding[0] == "chunked" && length == nil:
		body = httputil.NewChunkedReader(r)
	case len(coding) > 0 || len(length) > 1:
		return got, fmt.Errorf("ambiguous framing: %q", got.fields)
	case len(length) == 1:
		n, err := strconv.ParseInt(length[0], 10, 64)
		if err != nil {
			return got, err
		}
		body = &exactly{r, n}
	}
	all, err := io.ReadAll(body)
	if err == nil && coding != nil {
		_, err = readHead(r) // the trailer
	}
	got.body = string(all)
	return got, err
}

// readHead reads up to the empty line.
func readHead(r *bufio.Reader) (got received, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return got, err
		}
		switch line = strings.TrimSuffix(line, "\r\n"); {
		case line == "":
			return got, nil
		case got.line == "":
			got.line = line
		default:
			got.fields = append(got.fields, line)
		}
	}
}

// exactly reads n bytes; fewer are an error.
type exactly struct {
	r io.Reader
	n int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.n)])
	if e.n -= int64(n); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// cms is a content API over raw TCP that counts what it gets.
type cms struct {
	addr    string
	accepts atomic.Int64
	whole   atomic.Int64  // requests that were read to their end
	broken  chan error    // requests that were not
	got     chan received // the first whole ones
}

// newCMS runs serve for each connection that it accepts, then closes it.
func newCMS(t testing.TB, serve func(c *cms, conn net.Conn, r *bufio.Reader)) *cms {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cms{addr: listener.Addr().String(), broken: make(chan error, 100), got: make(chan received, 100)}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.accepts.Add(1)
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				serve(c, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return c
}

// read reads one request and takes note of it.
func (c *cms) read(r *bufio.Reader) (received, bool) {
	got, err := readRequest(r)
	switch {
	case err == nil:
		c.whole.Add(1)
		select {
		case c.got <- got:
		default:
		}
	case got.line != "":
		select {
		case c.broken <- err:
		default:
		}
	}
	return got, err == nil
}

// answering answers every request with the same bytes.
func answering(answer string) func(*cms, net.Conn, *bufio.Reader) {
	return func(c *cms, conn net.Conn, r *bufio.Reader) {
		for {
			if _, whole := c.read(r); !whole {
				return
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	}
}

// answeringOnce answers one request and closes the connection.
func answeringOnce(answer string) func(*cms, net.Conn, *bufio.Reader) {
	return func(c *cms, conn net.Conn, r *bufio.Reader) {
		if _, whole := c.read(r); whole {
			_, _ = io.WriteString(conn, answer)
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
