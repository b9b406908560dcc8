package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// clientListener wraps every connection that it accepts.
type clientListener struct{ net.Listener }

func (l clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn}, nil
}

// watchedConn remembers what the message codec forgets: that the peer ended
// the stream (a chunked body that is cut at a chunk's end looks complete), and
// how many bytes were written.
type watchedConn struct {
	net.Conn
	ended   atomic.Bool
	written atomic.Int64
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// dialUpstream connects to the CMS. TLS is set up here, so that the pool and
// watchedConn see plain bytes.
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
	return &watchedConn{Conn: conn}, nil
}

// isAlive looks at an idle connection without reading from it: a live one has
// nothing to read yet.
func (c *watchedConn) isAlive() bool {
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
