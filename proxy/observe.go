package proxy

import (
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

// observe passes a request like any other and copies its answer for the tap.
func (p *Proxy) observe(ctx *fasthttp.RequestCtx, t *trip, up *upload, plan event.Plan) {
	select {
	case p.observed <- struct{}{}:
	default:
		p.pass(ctx, t, up)
		return
	}
	plan.Intent.Time = time.Now().UTC()
	leave := sync.OnceFunc(func() { <-p.observed })
	p.forward(t, up)
	if t.err != nil {
		leave()
		p.fail(ctx, t)
		return
	}
	x := &event.Exchange{Intent: plan.Intent, Status: t.answer.StatusCode()}
	x.Outcome = outcomes[plan.Judge.Judge(x.Status)]
	coding := strings.ToLower(string(t.answer.Header.ContentEncoding()))
	p.replyHeader(ctx, t)
	body := &observedBody{answerBody: t.body, leave: leave}
	body.whole = func() {
		go func() { // undoing the coding takes time, and a client waits
			defer leave()
			defer p.recovered("observing an answer", func() {})
			x.Answer = decoded("the answer", &body.copied, coding, nil)
			p.tap.Observe(x)
		}()
	}
	if t.body == nil {
		body.whole()
		return
	}
	p.replyStream(ctx, t, body)
}

// observedBody copies an answer while it is passed on.
type observedBody struct {
	*answerBody
	copied boundedCopy
	whole  func() // called once if the answer is whole, else
	leave  func() // is called
}

func (o *observedBody) Read(p []byte) (int, error) {
	n, err := o.answerBody.Read(p)
	_, _ = o.copied.Write(p[:n]) // never fails
	if whole := o.whole; errors.Is(err, io.EOF) && whole != nil {
		o.whole, o.leave = nil, func() {}
		whole()
	}
	return n, err
}

// CloseWithError is called by the server in the end.
func (o *observedBody) CloseWithError(err error) error {
	o.leave()
	return o.answerBody.CloseWithError(err)
}
