package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// isUpgrade tells whether a client asks for a WebSocket (RFC 6455 section 4.1), on
// a connection that can become one.
func isUpgrade(h *fasthttp.RequestHeader, named []string) bool {
	return h.IsHTTP11() && !h.ConnectionClose() && text(h.Method()) == fasthttp.MethodGet && isAny("upgrade", named...) &&
		isAny("websocket", tokens((&requestHeaders{header: h}).Get("Upgrade"))...)
}

// tunnel asks the CMS for a WebSocket, over a connection of its own. If the CMS
// agrees the two are connected until one of them ends it; if not, its answer is
// passed on.
func (p *Proxy) tunnel(ctx *fasthttp.RequestCtx, t *trip) {
	raw, err := dialUpstream(p.config)
	if err != nil {
		t.outcome, t.err = event.NotSent, err
		p.fail(ctx, t)
		return
	}
	conn := p.conns.watch(raw)
	reader := bufio.NewReaderSize(conn, p.pool.ReadBufferSize)
	t.conn, t.reader = conn, reader
	t.req.Header.Add("Connection", "Upgrade")
	t.req.Header.Add("Upgrade", "websocket")
	if err = p.writeRequest(t, nil); err == nil {
		err = p.readHeader(t, true)
	}
	if err != nil {
		p.giveBack(t, false)
		t.outcome, t.err = event.Unknown, err
		p.fail(ctx, t)
		return
	}
	if t.answer.StatusCode() != fasthttp.StatusSwitchingProtocols {
		p.takeBody(t)
		p.reply(ctx, t)
		return
	}
	p.replyHeader(ctx, t)
	ctx.Response.Header.Add("Connection", "Upgrade")
	ctx.Response.Header.Add("Upgrade", "websocket")
	client := ctx.Conn().(*watchedConn)
	// The server does not come to the tunnel if the client is gone.
	client.tunnel.Store(conn)
	ctx.Hijack(func(hijacked net.Conn) { // which has what the client sent along
		p.tunnels.Add(1)
		defer p.tunnels.Add(-1)
		defer p.recovered("a tunnel", func() {})
		p.connect(hijacked, client, conn, reader)
	})
}

// connect copies both ways until both directions have ended, or a stop closes
// the connections.
func (p *Proxy) connect(from io.Reader, client, upstream *watchedConn, reader io.Reader) {
	_ = errors.Join(client.SetReadDeadline(time.Time{}), upstream.SetReadDeadline(time.Time{}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.recovered("a tunnel", func() {})
		pipe(upstream, from)
	}()
	pipe(client, reader)
	<-done
	_ = errors.Join(client.Close(), upstream.Close())
}

// pipe copies until from ends, and then ends to; the other direction may go on.
func pipe(to *watchedConn, from io.Reader) {
	_, err := io.Copy(to, from)
	if half, ok := to.Conn.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}

// tokens lists the words of a field.
func tokens(value string) []string {
	var list []string
	for token := range strings.SplitSeq(value, ",") {
		if token = strings.TrimSpace(token); token != "" {
			list = append(list, token)
		}
	}
	return list
}
