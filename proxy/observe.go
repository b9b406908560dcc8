package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// maxObserved bounds how many answers are copied at a time to learn from them;
// more pass without a copy.
const maxObserved = 4

// observe passes a request like any other and copies its answer for the tap, if
// that says that it is one.
func (p *Proxy) observe(ctx *fasthttp.RequestCtx, t *trip, up *upload, plan event.Plan) {
	began := time.Now().UTC()
	p.forward(t, up)
	if t.err != nil {
		p.fail(ctx, t)
		return
	}
	x := &event.Exchange{Intent: plan.Intent, Status: t.status, Time: began}
	x.Outcome = outcomes[plan.Judge.Judge(x.Status)]
	if x.Outcome != event.Done || t.body == nil && len(t.whole) == 0 || !p.enter() {
		p.reply(ctx, t)
		return
	}
	coding := strings.ToLower(string(t.answer.Header.ContentEncoding()))
	copied := p.copyOf(bytes.Clone(t.whole))
	observed := &observedBody{answerBody: t.body, copied: copied, proxy: p, done: func() {
		x.Answer = decoded("the answer", copied, coding, nil)
		p.tap.Observe(x)
	}}
	if t.body == nil {
		p.reply(ctx, t)
		go observed.end()
		return
	}
	p.replyHeader(ctx, t)
	p.replyStream(ctx, t, observed)
}

// enter takes one of the few places for answers that are copied.
func (p *Proxy) enter() bool {
	select {
	case p.observed <- struct{}{}:
		return true
	default:
		return false
	}
}

// observedBody copies an answer while it is passed on.
type observedBody struct {
	*answerBody
	copied *boundedCopy
	proxy  *Proxy
	done   func() // what to do with a whole answer
	left   sync.Once
}

func (o *observedBody) Read(p []byte) (int, error) {
	n, err := o.answerBody.Read(p)
	if n > 0 { // after the end, it is read by another goroutine
		_, _ = o.copied.Write(p[:n]) // never fails
	}
	if errors.Is(err, io.EOF) {
		o.left.Do(func() { go o.end() }) // undoing the coding takes time, and a client waits
	}
	return n, err
}

func (o *observedBody) end() {
	defer func() { <-o.proxy.observed }()
	defer o.proxy.recovered("observing an answer", func() {})
	o.done()
}

// CloseWithError is called by the server in the end.
func (o *observedBody) CloseWithError(err error) error {
	o.left.Do(func() { <-o.proxy.observed })
	return o.answerBody.CloseWithError(err)
}
