package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

var errPanic = errors.New("a panic, see the log")

// handle is one request from its head to its answer.
func (p *Proxy) handle(ctx *fasthttp.RequestCtx) {
	defer p.recovered("a request", func() {
		ctx.Response.Reset()
		p.say(ctx, fasthttp.StatusInternalServerError, "a fault in cmstap; see its log")
		ctx.SetConnectionClose()
	})
	if why := refusal(&ctx.Request.Header); why != "" {
		p.say(ctx, fasthttp.StatusBadRequest, why)
		ctx.SetConnectionClose()
		return
	}
	plan := p.tap.Classify(headOf(&ctx.Request.Header))
	t := &trip{req: fasthttp.AcquireRequest(), answer: fasthttp.AcquireResponse()}
	defer fasthttp.ReleaseRequest(t.req)
	up, err := p.incoming(ctx, t)
	if err != nil {
		p.cutShort(ctx, err)
		return
	}
	if plan.Class != event.Write {
		p.pass(ctx, t, up)
		return
	}
	if err := p.tap.Begin(plan.Intent); err != nil {
		p.log.Error("refused", "error", err, "method", plan.Intent.Method, "path", plan.Intent.Path,
			"hint", "the write was not forwarded: it could not be recorded (proxy.durability, outbox)")
		p.say(ctx, fasthttp.StatusServiceUnavailable, "the write can not be recorded now and was not sent to the CMS; try again")
		return
	}
	p.write(ctx, t, up, plan)
}

// incoming prepares the request for the CMS. A small body is read whole first;
// a large one, or one of unknown length, is returned to be streamed.
func (p *Proxy) incoming(ctx *fasthttp.RequestCtx, t *trip) (*upload, error) {
	p.outgoing(ctx, t.req)
	ctx.Response.Header.CopyTo(&t.answer.Header) // no invented Date and Content-Type, names as they are
	if !ctx.Request.IsBodyStream() {
		return nil, nil
	}
	up := &upload{
		body: ctx.RequestBodyStream(), conn: ctx.Conn().(*watchedConn),
		size: ctx.Request.Header.ContentLength(), stall: p.config.StallTimeout.Std(), progress: func() {},
	}
	if up.size < 0 || up.size > smallBody {
		return up, nil
	}
	body := make([]byte, up.size)
	if _, err := io.ReadFull(up, body); err != nil {
		return nil, err
	}
	t.req.SetBodyRaw(body)
	return nil, nil
}

// pass streams the request and its answer and copies nothing.
func (p *Proxy) pass(ctx *fasthttp.RequestCtx, t *trip, up *upload) {
	p.forward(t, up)
	if t.err != nil {
		p.fail(ctx, t)
		return
	}
	p.replyHeader(ctx, t)
	if t.body == nil {
		fasthttp.ReleaseResponse(t.answer)
		return
	}
	p.replyStream(ctx, t, t.body)
}

// write forwards a write and replies once the tap has finished with it.
func (p *Proxy) write(ctx *fasthttp.RequestCtx, t *trip, up *upload, plan event.Plan) {
	x := &event.Exchange{Intent: plan.Intent}
	finish := func() {
		x.Time = time.Now().UTC()
		p.tap.Finish(x)
	}
	p.forward(t, up)
	if t.err != nil {
		x.Outcome = t.outcome
		finish()
		p.fail(ctx, t)
		return
	}
	x.Status = t.answer.StatusCode()
	coding := bytes.Clone(t.answer.Header.ContentEncoding())
	judge := func(whole bool) event.Outcome {
		if !whole {
			return event.Unknown
		}
		return [...]event.Outcome{event.Doubt: event.Unknown, event.Accepted: event.Done, event.Rejected: event.Refused}[plan.Judge.Judge(x.Status)]
	}
	if t.body == nil {
		x.Outcome = judge(true)
		finish()
		p.replyHeader(ctx, t)
		fasthttp.ReleaseResponse(t.answer)
		return
	}
	streamed := bytes.HasPrefix(t.answer.Header.ContentType(), []byte("text/event-stream"))
	var start []byte
	if !streamed {
		var err error
		start, err = io.ReadAll(io.LimitReader(t.body, holdLimit+1))
		if err != nil || len(start) <= holdLimit {
			x.Outcome, x.Answer = judge(err == nil), decoded(&boundedCopy{bytes: start}, coding)
			finish()
			p.replyWhole(ctx, t, start, err)
			return
		}
	}
	held := newHeldBody(start, t.body, !streamed, func(copied *boundedCopy, err error) {
		x.Outcome, x.Answer = judge(errors.Is(err, io.EOF)), decoded(copied, coding)
		finish()
	})
	p.replyHeader(ctx, t)
	p.replyStream(ctx, t, &prefixed{start, held})
}

// replyHeader hands the CMS's header to the client, without hop-by-hop fields.
func (p *Proxy) replyHeader(ctx *fasthttp.RequestCtx, t *trip) {
	to := &ctx.Response.Header
	t.answer.Header.CopyTo(to)
	to.ResetConnectionClose()
	to.SetProtocol([]byte("HTTP/1.1"))
	var named []string
	for key, value := range t.answer.Header.All() {
		if isAny(text(key), "Connection") {
			named = append(named, tokens(value)...)
		}
	}
	for key := range t.answer.Header.All() {
		if isHopByHop(text(key), named) {
			to.DelBytes(key)
		}
	}
	if t.early {
		ctx.SetConnectionClose()
	}
}

// replyWhole sends an answer that was read to its end, or says that it broke
// off.
func (p *Proxy) replyWhole(ctx *fasthttp.RequestCtx, t *trip, body []byte, err error) {
	defer fasthttp.ReleaseResponse(t.answer)
	if err != nil {
		p.complain(ctx, err, event.Unknown)
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS's answer broke off; the outcome is unknown")
		return
	}
	p.replyHeader(ctx, t)
	ctx.Response.SetBodyRaw(body)
}

// replyStream sends an answer while it comes.
func (p *Proxy) replyStream(ctx *fasthttp.RequestCtx, t *trip, body io.Reader) {
	size := t.answer.Header.ContentLength()
	if size < 0 {
		size = -1
		ctx.Response.ImmediateHeaderFlush = true
	}
	ctx.Response.SetBodyStream(body, size)
}

// fail answers for a CMS that gave no answer.
func (p *Proxy) fail(ctx *fasthttp.RequestCtx, t *trip) {
	defer fasthttp.ReleaseResponse(t.answer)
	switch {
	case t.outcome == event.Cut:
		p.cutShort(ctx, t.err)
		return
	case t.outcome == event.NotSent:
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS can not be reached; nothing was sent to it")
	case isTimeout(t.err):
		p.say(ctx, fasthttp.StatusGatewayTimeout, "the CMS did not answer in time; the outcome is unknown")
	default:
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS gave no valid answer; the outcome is unknown")
	}
	p.complain(ctx, t.err, t.outcome)
}

// complain writes the one line about a CMS that did not answer as it should.
func (p *Proxy) complain(ctx *fasthttp.RequestCtx, err error, outcome event.Outcome) {
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?"))
	p.log.Warn("upstream", "error", err, "upstream", upstreamAddress(p.config), "outcome", outcome.String(),
		"method", string(ctx.Method()), "path", string(path), "hint", "look at the CMS and at proxy.upstream")
}

// cutShort ends a request whose client did not finish its body.
func (p *Proxy) cutShort(ctx *fasthttp.RequestCtx, err error) {
	p.log.Debug("cut", "error", err)
	p.say(ctx, fasthttp.StatusBadRequest, "the request body ended early")
	ctx.SetConnectionClose()
}

// say answers in cmstap's own name.
func (p *Proxy) say(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString("cmstap: " + text + "\n")
}

// recovered turns a panic into one log line and runs then.
func (p *Proxy) recovered(during string, then func()) {
	if fault := recover(); fault != nil {
		p.log.Error("panic", "during", during, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
		then()
	}
}

// prefixed is the start of a body, already read, and its rest.
type prefixed struct {
	start []byte
	*heldBody
}

func (b *prefixed) Read(p []byte) (int, error) {
	if len(b.start) > 0 {
		n := copy(p, b.start)
		b.start = b.start[n:]
		return n, nil
	}
	return b.heldBody.Read(p)
}
