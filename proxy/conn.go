package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// openConns are the connections of both sides, so that a shutdown can end what
// does not end by itself: an event stream, for example.
type openConns struct {
	stall time.Duration
	mu    sync.Mutex
	open  map[*watchedConn]bool
}

func (o *openConns) watch(conn net.Conn) *watchedConn {
	c := &watchedConn{Conn: conn, stall: o.stall, among: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[c] = true
	return c
}

func (o *openConns) forget(c *watchedConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, c)
}

func (o *openConns) closeAll() {
	o.mu.Lock()
	all := slices.Collect(maps.Keys(o.open))
	o.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// clientListener wraps every connection that it accepts.
type clientListener struct {
	net.Listener
	conns *openConns
}

func (l clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns.watch(conn), nil
}

// watchedConn remembers what the message codec forgets: that the peer ended
// the stream (a chunked body that is cut at a chunk's end looks complete), and
// how many bytes were written. Its writes do not wait for ever.
type watchedConn struct {
	net.Conn
	stall   time.Duration
	among   *openConns // nil in tests
	ended   atomic.Bool
	ending  atomic.Bool // the next Read will find the end
	written atomic.Int64

	mu     sync.Mutex
	halted bool // nothing more is to be written
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if n > 0 {
		// TLS tells the last bytes and the end at once, but a message that
		// these bytes complete was not cut by the end.
		c.ending.Store(true)
		return n, nil
	}
	c.ended.Store(true)
	return n, err
}

// Close closes the connection. It may be called again.
func (c *watchedConn) Close() error {
	if c.among != nil {
		c.among.forget(c)
	}
	return c.Conn.Close()
}

// writePiece is what must be taken by the peer within one stall timeout.
const writePiece = 64 << 10

// Write fails if the peer takes nothing for a while; a slow one may take long.
func (c *watchedConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err = c.allowWrite(); err != nil {
			break
		}
		var wrote int
		wrote, err = c.Conn.Write(p[n:min(len(p), n+writePiece)])
		n += wrote
		c.written.Add(int64(wrote))
	}
	return n, err
}

func (c *watchedConn) allowWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.halted {
		return os.ErrDeadlineExceeded
	}
	return c.SetWriteDeadline(time.Now().Add(c.stall))
}

// haltWrites ends a write that waits, and all later ones.
func (c *watchedConn) haltWrites() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = true
	_ = c.SetWriteDeadline(unblock)
}

// dialUpstream connects to the CMS. TLS is set up here, so that the pool sees
// plain bytes.
func dialUpstream(c Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.ConnectTimeout.Std())
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", upstreamAddress(c))
	if err != nil {
		return nil, err
	}
	if c.Upstream.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Upstream.Hostname()})
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secured
	}
	return conn, nil
}

// isAlive looks at an idle connection without reading from it: a live one has
// nothing to read yet.
func (c *watchedConn) isAlive() bool {
	if c.ending.Load() {
		return false
	}
	conn := c.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && alive
}

// unblock makes reads and writes that wait return at once.
var unblock = time.Unix(1, 0)
