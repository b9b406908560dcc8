package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
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
	slack time.Duration // by which a deadline may be off
	mu    sync.Mutex
	open  map[*watchedConn]bool
	of    map[netip.Addr]int // how many are of a client
}

func (o *openConns) watch(conn net.Conn) *watchedConn {
	c := &watchedConn{Conn: conn, stall: o.stall, among: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[c] = true
	return c
}

// admit is watch for a client's connection, unless it has too many; without a
// bound it may have any number.
func (o *openConns) admit(c *watchedConn, bound int) bool {
	c.stall, c.among, c.mark = o.stall, o, -1
	o.mu.Lock()
	defer o.mu.Unlock()
	if bound > 0 && o.of[c.from] >= bound {
		return false
	}
	o.of[c.from]++
	o.open[c] = true
	return true
}

func (o *openConns) forget(c *watchedConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open[c] {
		return
	}
	delete(o.open, c)
	if o.of[c.from]--; o.of[c.from] <= 0 {
		delete(o.of, c.from)
	}
}

func (o *openConns) all() []*watchedConn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.open))
}

func (o *openConns) closeAll() {
	for _, c := range o.all() {
		_ = c.Close()
	}
}

// letGo closes the CMS's connection of each client that left while nothing of
// the answer moves, so that an event stream or a slow question ends.
func (o *openConns) letGo() {
	for _, c := range o.all() {
		c.leaveIfGone()
	}
}

// clientListener wraps every connection that it accepts.
type clientListener struct {
	net.Listener
	proxy *Proxy
}

func (l clientListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if isPassing(err) {
			l.proxy.sayExhausted(err)
			time.Sleep(acceptPause)
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &watchedConn{Conn: conn, from: addressOf(conn), name: "unknown"}
		bound := l.proxy.config.MaxPerClient
		if c.from.IsValid() {
			c.name, c.trusted = c.from.String(), l.proxy.isTrusted(c.from)
		}
		if c.trusted {
			bound = 0 // it stands for many
		}
		if l.proxy.conns.admit(c, bound) {
			return c, nil
		}
		l.proxy.turnAway(conn, c.from)
	}
}

// acceptPause is how long is waited for files or memory to be given back.
const acceptPause = 20 * time.Millisecond

// isPassing tells whether an error of Accept says nothing of the listener: there are
// too many files or too little memory just now, or the client left already
// (accept(2)).
func isPassing(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED},
		func(one error) bool { return errors.Is(err, one) })
}

// sayExhausted says that connections wait, once a minute at most.
func (p *Proxy) sayExhausted(err error) {
	if errors.Is(err, syscall.ECONNABORTED) {
		return
	}
	if last := p.exhausted.Swap(time.Now().Unix()); time.Now().Unix()-last >= 60 {
		p.log.Error("busy", "error", err, "hint", "connections wait until others end; give the process more files (LimitNOFILE), or lower proxy.max_connections")
	}
}

// turnAway ends the connection of a client that has too many.
func (p *Proxy) turnAway(conn net.Conn, from netip.Addr) {
	if last := p.turnedAway.Swap(time.Now().Unix()); time.Now().Unix()-last >= 60 {
		p.log.Warn("busy", "client", from, "connections", p.config.MaxPerClient,
			"hint", "a client has too many connections (proxy.max_per_client): further ones get 503; name proxies in trusted_proxies")
	}
	if p.config.tls == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n\r\n"+
			"cmstap: too many connections from one client's side\n")
	}
	_ = conn.Close()
}

// addressOf is the address that a connection comes from; zero if it has none.
func addressOf(conn net.Conn) netip.Addr {
	from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return from.Addr().Unmap()
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

	from    netip.Addr  // of a client
	name    string      // the same as text
	trusted bool        // the client is a proxy that may name its own
	left    atomic.Bool // the client is gone, and the CMS's connection was closed

	giveBack func(reusable bool) // to the pool; nil for one that is not of it
	glance   glance

	reading  atomic.Bool
	mu       sync.Mutex
	readBy   time.Time    // when reads are to end, and what the system was told
	readSet  time.Time    //
	writeSet time.Time    // the same of writes
	halted   bool         // nothing more is to be written
	serves   *watchedConn // the CMS's connection that is of no use without this client
	gone     *watchedConn // the one for which the client was seen to be gone

	tunnel atomic.Pointer[watchedConn] // the CMS's connection that ends with this one

	// Of the server's goroutine, which writes through a buffer of its own.
	mark   int64 // what was written before the last answer; -1 before the first
	unsure bool  // something of an answer may wait in that buffer
}

// willWrite notes that the server is about to write an answer with a body of size
// bytes.
func (c *watchedConn) willWrite(size int) {
	c.mark = c.written.Load()
	c.unsure = c.unsure || size < 0 || size > 4<<10 // a part of it may be written by itself
}

// isFlushed tells whether all earlier answers went out. The server keeps one back
// if the next request is there already.
func (c *watchedConn) isFlushed() bool {
	c.unsure = c.unsure || c.mark >= 0 && c.mark == c.written.Load()
	return !c.unsure
}

// cuts names the connection to close if the client leaves; nil for none. Without
// a client it does nothing.
func (c *watchedConn) cuts(other *watchedConn) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serves = other
}

// leaveIfGone closes what serves only a client that is gone, once that was seen
// twice.
func (c *watchedConn) leaveIfGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.serves == nil || !c.isGone():
		c.gone = nil
	case c.gone != c.serves:
		c.gone = c.serves
	default:
		c.left.Store(true)
		_ = c.serves.Close()
	}
}

func (c *watchedConn) Read(p []byte) (int, error) {
	if err := c.beginRead(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
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

// beginRead tells the system when the read is to end, if that is news.
func (c *watchedConn) beginRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading.Store(true)
	if c.isNear(c.readSet, c.readBy) {
		return nil
	}
	c.readSet = c.readBy
	return c.Conn.SetReadDeadline(c.readBy)
}

// SetReadDeadline says when reads end. The system is told once somebody reads:
// most deadlines are replaced before that, or by one that is hardly later.
func (c *watchedConn) SetReadDeadline(by time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = by
	if !c.reading.Load() && by != unblock {
		return nil
	}
	c.readSet = by
	return c.Conn.SetReadDeadline(by)
}

// SetDeadline is the server's when it lets go of a connection. Each write has a
// deadline of its own.
func (c *watchedConn) SetDeadline(by time.Time) error { return c.SetReadDeadline(by) }

// isNear tells whether two deadlines may stand for each other.
func (c *watchedConn) isNear(set, by time.Time) bool {
	if set.IsZero() || by.IsZero() || c.among == nil {
		return set.Equal(by)
	}
	return by.Sub(set).Abs() <= c.among.slack
}

// Close closes the connection. It may be called again.
func (c *watchedConn) Close() error {
	if c.among != nil {
		c.among.forget(c)
	}
	if other := c.tunnel.Load(); other != nil {
		_ = other.Close()
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
	by := time.Now().Add(c.stall)
	if c.isNear(c.writeSet, by) {
		return nil
	}
	c.writeSet = by
	return c.SetWriteDeadline(by)
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
		secured := tls.Client(conn, c.upstreamTLS)
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
	_, err := c.glance.at(c.Conn)
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, errors.ErrUnsupported)
}

// isGone tells whether the peer ended the connection: nothing comes any more, or
// with TLS, the word that nothing will.
func (c *watchedConn) isGone() bool {
	n, err := c.glance.at(c.Conn)
	return err == nil && (n == 0 || c.glance.ended) || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, errors.ErrUnsupported)
}

// glance looks at the first bytes that wait to be read. It is kept with its
// connection, since it is needed for each request.
type glance struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	first [maxAlert + 1]byte
	n     int
	err   error
	ended bool // with TLS: only the word that nothing comes any more waits to be read
}

// maxAlert is more than the word takes by which TLS ends, however it is encrypted.
const maxAlert = 128

// at returns how many bytes wait, of the few that are looked at. That is 0 at the
// end of the stream; if nothing has come yet, the error is EAGAIN. It is not for
// two at a time.
func (g *glance) at(conn net.Conn) (n int, err error) {
	if g.raw == nil {
		secured, isSecured := conn.(*tls.Conn)
		if isSecured {
			conn = secured.NetConn()
		}
		socket, ok := conn.(syscall.Conn)
		if !ok {
			return 0, errors.ErrUnsupported
		}
		if g.raw, err = socket.SyscallConn(); err != nil {
			return 0, err
		}
		g.look = func(fd uintptr) {
			g.n, _, g.err = syscall.Recvfrom(int(fd), g.first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			g.ended = isSecured && g.err == nil && g.n > 0 && g.n <= maxAlert && endsWith(int(fd), g.first[:g.n])
		}
	}
	// Read would wait for a read that is under way, and fail after its deadline.
	if err = g.raw.Control(g.look); err == nil {
		err = g.err
	}
	return g.n, err
}

// unblock makes reads and writes that wait return at once.
var unblock = time.Unix(1, 0)
