package proxy

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// Fetched is what the CMS answered to a GET of the program's own.
type Fetched struct {
	Status int
	Date   time.Time // by the CMS's clock, in whole seconds; zero if it gave none
	Body   event.Copy
}

// Fetch reads a resource of the CMS through the same upstream: path is without
// the upstream's base path, an empty host is the upstream's. It returns when ctx
// ends, which needs a deadline; the error says why there is no whole answer.
func (p *Proxy) Fetch(ctx context.Context, host, path string, headers map[string]string) (Fetched, error) {
	type result struct {
		Fetched
		err error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errPanic}
		defer func() { done <- r }()
		defer p.recovered("asking the CMS", func() {})
		r.Fetched, r.err = p.fetch(ctx, host, path, headers)
	}()
	select {
	case r := <-done:
		return r.Fetched, r.err
	case <-ctx.Done():
		return Fetched{}, context.Cause(ctx)
	}
}

func (p *Proxy) fetch(ctx context.Context, host, path string, headers map[string]string) (Fetched, error) {
	t := newTrip()
	defer t.end()
	t.until, _ = ctx.Deadline()
	to := &t.req.Header
	to.DisableNormalizing()
	to.DisableSpecialHeader()
	to.SetMethod(fasthttp.MethodGet)
	to.SetRequestURI(p.basePath + path)
	to.Add("Host", cmp.Or(host, p.config.Upstream.Host))
	to.Add("User-Agent", "cmstap")
	for name, value := range headers {
		to.Add(name, value)
	}
	p.forward(t, nil)
	if t.err != nil {
		return Fetched{}, t.err
	}
	fetched := Fetched{Status: t.answer.StatusCode()}
	if date, err := fasthttp.ParseHTTPDate(t.answer.Header.Peek("Date")); err == nil {
		fetched.Date = date
	}
	coding := strings.ToLower(string(t.answer.Header.ContentEncoding()))
	if t.body == nil {
		fetched.Body = decoded("the answer", p.copyOf(append([]byte(nil), t.whole...)), coding, nil)
		return fetched, nil
	}
	copied := p.copyOf(nil)
	_, err := io.Copy(copied, t.body)
	_ = t.body.CloseWithError(err)
	fetched.Body = decoded("the answer", copied, coding, err)
	return fetched, err
}
