package proxy

import (
	"bytes"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/valyala/fasthttp"
)

// requestHeaders reads a request's headers by name, ignoring case, without
// those that the CMS will not see.
type requestHeaders struct {
	header  *fasthttp.RequestHeader
	dropped []string // named by the Connection field
}

// Get implements event.Headers.
func (h *requestHeaders) Get(name string) string {
	if isAny(name, h.dropped...) {
		return ""
	}
	for key, value := range h.header.All() {
		if strings.EqualFold(text(key), name) {
			return string(value)
		}
	}
	return ""
}

// text is bytes as a string without a copy; it lives as long as they do.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// headOf is the request's head as rules see it: what the CMS will get.
func headOf(h *fasthttp.RequestHeader, headers *requestHeaders) event.Head {
	path, query, _ := bytes.Cut(h.RequestURI(), []byte("?"))
	return event.Head{Method: text(h.Method()), Path: text(path), Query: text(query), Headers: headers}
}

// refusal says why a request must not be passed on, or "".
func refusal(h *fasthttp.RequestHeader) string {
	if bytes.EqualFold(h.Method(), []byte("CONNECT")) {
		return "CONNECT is not served here"
	}
	if raw := h.RawHeaders(); bytes.Contains(raw, []byte("\n ")) || bytes.Contains(raw, []byte("\n\t")) {
		return "a header value goes over several lines" // the codec reads it otherwise each time
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
		switch end := bytes.IndexAny(rest, "/?"); {
		case end >= 0 && rest[end] == '/':
			return rest[end:]
		case end >= 0:
			return append([]byte("/"), rest[end:]...)
		}
	}
	return []byte("/")
}

// outgoing fills to with the head that the CMS gets: the client's, field by
// field as it came, without hop-by-hop fields, with forwarded fields.
func (p *Proxy) outgoing(ctx *fasthttp.RequestCtx, to *fasthttp.RequestHeader, named []string) {
	in := &ctx.Request.Header
	to.DisableNormalizing()
	to.DisableSpecialHeader()
	to.SetMethodBytes(in.Method())
	if target := in.RequestURI(); p.basePath == "" || string(target) == "*" {
		to.SetRequestURIBytes(target)
	} else {
		to.SetRequestURI(p.basePath + string(target))
	}
	if p.host != "" {
		to.Add("Host", p.host)
	} else {
		to.AddBytesV("Host", in.Host())
	}
	client := ctx.Conn().(*watchedConn)
	trusted, forwardedFor := client.trusted, ""
	for key, value := range in.AllInOrder() {
		switch name := text(key); {
		case isHopByHop(name, named), isAny(name, "Host"):
		case isAny(name, "Content-Length") && in.ContentLength() < 0: // chunked as well, and that wins
		case isAny(name, "X-Forwarded-For"):
			if trusted {
				forwardedFor += string(value) + ", "
			}
		case !trusted && isForwarded(name):
		default:
			to.AddBytesKV(key, value)
		}
	}
	to.Add("X-Forwarded-For", forwardedFor+client.name)
	headers := requestHeaders{in, named}
	if !trusted || headers.Get("X-Forwarded-Host") == "" {
		to.AddBytesV("X-Forwarded-Host", in.Host())
	}
	if !trusted || headers.Get("X-Forwarded-Proto") == "" {
		to.Add("X-Forwarded-Proto", p.scheme())
	}
}

func (p *Proxy) scheme() string {
	if p.config.tls != nil {
		return "https"
	}
	return "http"
}

func (p *Proxy) isTrusted(ip netip.Addr) bool {
	return slices.ContainsFunc(p.config.TrustedProxies, func(r setting.Range) bool { return r.Contains(ip) })
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
	for _, other := range of {
		if len(name) == len(other) && strings.EqualFold(name, other) {
			return true
		}
	}
	return false
}

// connectionTokens lists the fields that the Connection fields name.
func connectionTokens(fields iter.Seq2[[]byte, []byte]) []string {
	var named []string
	for key, value := range fields {
		if !isAny(text(key), "Connection") || isAny(text(value), "close", "keep-alive") {
			continue
		}
		for _, token := range tokens(string(value)) {
			// Nobody can have the fields removed that frame or route the message.
			if !isAny(token, "close", "keep-alive", "Host", "Content-Length") {
				named = append(named, token)
			}
		}
	}
	return named
}
