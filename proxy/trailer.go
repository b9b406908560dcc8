package proxy

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// trailers are the fields after a chunked body, as the codec has them.
type trailers interface {
	TrailerHeader() []byte
	AddTrailerBytes(name []byte) error
	AddBytesKV(name, value []byte)
}

var (
	_ trailers = (*fasthttp.RequestHeader)(nil)
	_ trailers = (*fasthttp.ResponseHeader)(nil)
)

// copyTrailers passes the fields after a body on. It is called at the body's end
// by who writes it out; the codec writes them next.
func copyTrailers(from, to trailers) {
	section := bytes.Clone(from.TrailerHeader())
	for line := range bytes.Lines(section) {
		if name, value, found := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": ")); found && to.AddTrailerBytes(name) == nil {
			to.AddBytesKV(name, value)
		}
	}
}
