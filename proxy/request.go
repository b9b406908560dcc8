package proxy

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// requestHeaders reads a request's headers by name, ignoring case. The strings
// that it returns are valid as long as the request.
type requestHeaders struct{ header *fasthttp.RequestHeader }

// Get implements event.Headers.
func (h requestHeaders) Get(name string) string {
	for key, value := range h.header.AllInOrder() {
		if strings.EqualFold(text(key), name) {
			return text(value)
		}
	}
	return ""
}

// text is bytes as a string without a copy; it lives as long as they do.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// headOf is the request's head as rules see it.
func headOf(h *fasthttp.RequestHeader) event.Head {
	path, query, _ := bytes.Cut(h.RequestURI(), []byte("?"))
	return event.Head{Method: text(h.Method()), Path: text(path), Query: text(query), Headers: requestHeaders{h}}
}

// refusal says why a request must not be passed on, or "".
func refusal(h *fasthttp.RequestHeader) string {
	if bytes.EqualFold(h.Method(), []byte("CONNECT")) {
		return "CONNECT is not served here"
	}
	for key := range h.AllInOrder() {
		if bytes.ContainsAny(key, " \t") {
			return "a header name has a space in it"
		}
	}
	return ""
}

// originForm turns http://host/path into /path, and drops a fragment.
func originForm(target []byte) []byte {
	target, _, _ = bytes.Cut(target, []byte("#"))
	if len(target) > 0 && target[0] == '/' || bytes.Equal(target, []byte("*")) {
		return target
	}
	if _, rest, found := bytes.Cut(target, []byte("://")); found {
		if slash := bytes.IndexAny(rest, "/?"); slash >= 0 && rest[slash] == '/' {
			return rest[slash:]
		}
	}
	return []byte("/")
}

// outgoing fills req with the head that the CMS gets: the client's, without
// hop-by-hop fields, with forwarded fields.
func (p *Proxy) outgoing(ctx *fasthttp.RequestCtx, req *fasthttp.Request) {
	in := &ctx.Request.Header
	in.CopyTo(&req.Header)
	target := originForm(in.RequestURI())
	if p.basePath != "" {
		target = append([]byte(p.basePath), target...)
	}
	req.Header.SetRequestURIBytes(target)
	req.Header.SetNoDefaultContentType(true)
	if p.host != "" {
		req.Header.SetHost(p.host)
	}
	client, trusted := p.client(ctx)
	forwardedFor := client
	named := connectionTokens(in)
	for key, value := range in.AllInOrder() {
		name := text(key)
		switch {
		case isHopByHop(name, named):
			req.Header.DelBytes(key)
		case strings.EqualFold(name, "X-Forwarded-For"):
			if trusted {
				forwardedFor = string(value) + ", " + client
			}
			req.Header.DelBytes(key)
		case !trusted && isForwarded(name):
			req.Header.DelBytes(key)
		}
	}
	req.Header.ResetConnectionClose()
	req.Header.SetProtocol("HTTP/1.1")
	req.Header.Set("X-Forwarded-For", forwardedFor)
	headers := requestHeaders{in}
	if !trusted || headers.Get("X-Forwarded-Host") == "" {
		req.Header.Set("X-Forwarded-Host", string(in.Host()))
	}
	if !trusted || headers.Get("X-Forwarded-Proto") == "" {
		req.Header.Set("X-Forwarded-Proto", p.scheme())
	}
}

func (p *Proxy) scheme() string {
	if p.config.tls != nil {
		return "https"
	}
	return "http"
}

// client is the address that the connection comes from, and whether it is a
// proxy that is trusted to name clients of its own.
func (p *Proxy) client(ctx *fasthttp.RequestCtx) (address string, trusted bool) {
	from, err := netip.ParseAddrPort(ctx.RemoteAddr().String())
	if err != nil {
		return "unknown", false
	}
	ip := from.Addr().Unmap()
	return ip.String(), slices.ContainsFunc(p.config.trusted, func(r netip.Prefix) bool { return r.Contains(ip) })
}

func isForwarded(name string) bool {
	return isAny(name, "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-IP")
}

// isHopByHop tells whether a field ends at this hop (RFC 9110 section 7.6.1),
// by itself or because the Connection field names it. Expect was answered by
// the server.
func isHopByHop(name string, named []string) bool {
	return isAny(name, "Connection", "Proxy-Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Expect") || isAny(name, named...)
}

func isAny(name string, of ...string) bool {
	return slices.ContainsFunc(of, func(other string) bool { return strings.EqualFold(name, other) })
}

// connectionTokens lists the fields that a request's Connection field names.
func connectionTokens(h *fasthttp.RequestHeader) []string {
	var named []string
	for key, value := range h.AllInOrder() {
		if strings.EqualFold(text(key), "Connection") {
			named = append(named, tokens(value)...)
		}
	}
	return named
}

func tokens(value []byte) []string {
	var list []string
	for token := range strings.SplitSeq(string(value), ",") {
		// A client can not have the fields removed that frame or route the message.
		if token = strings.TrimSpace(token); !isAny(token, "close", "keep-alive", "Host", "Content-Length") {
			list = append(list, token)
		}
	}
	return list
}
