package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
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
	defer answered(ctx)
	in := &ctx.Request.Header
	if why := refusal(in); why != "" {
		p.say(ctx, fasthttp.StatusBadRequest, why)
		ctx.SetConnectionClose()
		return
	}
	in.SetRequestURIBytes(originForm(in.RequestURI()))
	t := newTrip()
	defer t.end()
	named := connectionTokens(in.AllInOrder())
	t.headers = requestHeaders{in, named}
	head := headOf(in, &t.headers)
	plan := p.tap.Classify(head)
	t.interim = p.interim(ctx)
	p.outgoing(ctx, &t.req.Header, named)
	ctx.Response.Header.CopyTo(&t.answer.Header) // no invented Date and Content-Type, names as they are
	up, err := p.incoming(ctx, t)
	if err == nil && plan.Body {
		var body event.Copy
		if body, err = identifying(t, up, in.ContentEncoding()); err == nil {
			plan = p.tap.Identify(head, body)
		}
	}
	switch {
	case err != nil:
		p.cutShort(ctx, err)
	case plan.Class == event.Observe:
		p.nameHost(in, plan.Intent)
		t.leaves = ctx.Conn().(*watchedConn)
		p.observe(ctx, t, up, plan)
	case plan.Class == event.Pass && up == nil && isUpgrade(in, named):
		p.tunnel(ctx, t)
	case plan.Class == event.Pass:
		t.leaves = ctx.Conn().(*watchedConn)
		p.pass(ctx, t, up)
	default:
		p.nameHost(in, plan.Intent)
		x := &event.Exchange{Intent: plan.Intent, Credentials: credentials(&t.headers, plan.Credentials)}
		if p.begin(ctx, x) {
			p.write(ctx, t, up, x, plan.Judge)
		}
	}
}

// answered notes what the server is about to write.
func answered(ctx *fasthttp.RequestCtx) {
	size := ctx.Response.Header.ContentLength()
	if !ctx.Response.IsBodyStream() {
		size = len(ctx.Response.Body())
	}
	ctx.Conn().(*watchedConn).willWrite(size)
}

// nameHost notes the host that the client addressed, if the CMS gets that one.
func (p *Proxy) nameHost(in *fasthttp.RequestHeader, intent *event.Intent) {
	if p.config.Host == "preserve" {
		intent.Host = string(in.Host())
	}
}

// credentials copies the headers that let a caller read.
func credentials(headers *requestHeaders, names []string) event.Credentials {
	var found event.Credentials
	for _, name := range names {
		if value := headers.Get(name); value != "" {
			if found == nil {
				found = event.Credentials{}
			}
			found[name] = value
		}
	}
	return found
}

// incoming takes the client's body. A small one is read whole first; a large
// one, or one of unknown length, is returned to be streamed.
func (p *Proxy) incoming(ctx *fasthttp.RequestCtx, t *trip) (*upload, error) {
	if !ctx.Request.IsBodyStream() {
		return nil, nil
	}
	up := &upload{
		body: ctx.RequestBodyStream(), conn: ctx.Conn().(*watchedConn),
		size: ctx.Request.Header.ContentLength(), stall: p.config.StallTimeout.Std(), progress: func() {},
		most: int(p.config.MaxBody),
	}
	if up.most > 0 && up.size > up.most {
		return nil, errTooLarge
	}
	if up.size < 0 {
		up.ended = func() { copyTrailers(&ctx.Request.Header, &t.req.Header) }
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

// identifying reads a body that tells what the request means, and leaves it to
// be sent.
func identifying(t *trip, up *upload, coding []byte) (event.Copy, error) {
	start := t.req.Body()
	if up != nil {
		var err error
		if start, err = io.ReadAll(io.LimitReader(up, event.MaxIdentify+1)); err != nil {
			return event.Copy{}, err
		}
		up.start = start
	}
	if len(start) > event.MaxIdentify {
		return event.Copy{Err: fmt.Sprintf("the request's body is larger than %d KiB", event.MaxIdentify>>10)}, nil
	}
	return decoded("the request", &boundedCopy{limit: copyLimit, bytes: start}, strings.ToLower(string(coding)), nil), nil
}

// begin has the intent recorded, or refuses the request.
func (p *Proxy) begin(ctx *fasthttp.RequestCtx, x *event.Exchange) bool {
	err := p.tap.Begin(x)
	if err != nil {
		p.log.Error("refused", "error", err, "method", x.Intent.Method, "path", x.Intent.Path,
			"hint", "the write was not forwarded: it could not be recorded (proxy.durability, outbox)")
		p.say(ctx, fasthttp.StatusServiceUnavailable, "the write can not be recorded now and was not sent to the CMS; try again")
	}
	return err == nil
}

// pass streams the request and its answer and copies nothing.
func (p *Proxy) pass(ctx *fasthttp.RequestCtx, t *trip, up *upload) {
	p.forward(t, up)
	if t.err != nil {
		p.fail(ctx, t)
		return
	}
	p.reply(ctx, t)
}

// write forwards a write and replies once the tap has finished with it.
func (p *Proxy) write(ctx *fasthttp.RequestCtx, t *trip, up *upload, x *event.Exchange, judge event.Judge) {
	defer func() {
		if fault := recover(); fault != nil {
			if x.Time.IsZero() { // not finished yet: nobody knows what the CMS did
				p.finish(x)
			}
			panic(fault)
		}
	}()
	p.forward(t, up)
	x.Status = t.status
	if t.err != nil {
		x.Outcome = t.outcome
		if t.status > 0 {
			x.Answer.Err = t.err.Error()
		}
		p.finish(x)
		p.fail(ctx, t)
		return
	}
	x.Location = headerOf(t.answer, "Location")
	coding := strings.ToLower(string(t.answer.Header.ContentEncoding()))
	conclude := func(copied *boundedCopy, broke error) { p.conclude(x, judge, copied, coding, broke) }
	if t.body == nil {
		conclude(p.copyOf(append([]byte(nil), t.whole...)), nil)
		p.reply(ctx, t)
		return
	}
	hold := !isEventStream(t.answer)
	var start []byte
	if hold {
		var err error
		start, err = p.readHeld(t.body)
		if err != nil || len(start) <= holdLimit {
			conclude(p.copyOf(start), err)
			p.replyWhole(ctx, t, start, err)
			return
		}
	}
	p.replyHeader(ctx, t)
	p.replyStream(ctx, t, newHeldBody(p.copyOf(start), t.body, hold, conclude))
}

// headerOf returns a header of an answer, whose names are as the CMS wrote them.
func headerOf(answer *fasthttp.Response, name string) string {
	for key, value := range answer.Header.All() {
		if strings.EqualFold(string(key), name) {
			return string(value)
		}
	}
	return ""
}

// maxHolding bounds how many large answers of writes are held at a time; others
// wait, and so does the CMS.
const maxHolding = 16

// readHeld reads what is held of an answer: all, or a little more than that.
func (p *Proxy) readHeld(body io.Reader) ([]byte, error) {
	start, err := io.ReadAll(io.LimitReader(body, smallBody))
	if err != nil || len(start) < smallBody {
		return start, err
	}
	p.holding <- struct{}{}
	defer func() { <-p.holding }()
	rest, err := io.ReadAll(io.LimitReader(body, holdLimit+1-smallBody))
	return append(start, rest...), err
}

// conclude judges a write's answer and hands it to the tap, whatever happens.
func (p *Proxy) conclude(x *event.Exchange, judge event.Judge, copied *boundedCopy, coding string, broke error) {
	defer p.finish(x)
	defer p.recovered("reading an answer", func() { x.Answer = event.Copy{Err: "a fault in cmstap; see its log"} })
	if broke == nil {
		x.Outcome = outcomes[judge.Judge(x.Status)]
	}
	x.Answer = decoded("the answer", copied, coding, broke)
}

// outcomes is what the verdict on a whole answer makes of a write.
var outcomes = [...]event.Outcome{event.Doubt: event.Unknown, event.Accepted: event.Done, event.Rejected: event.Refused}

// finish hands a write to the tap. The CMS has answered: not even a fault of
// the tap keeps that from the client.
func (p *Proxy) finish(x *event.Exchange) {
	defer p.recovered("finishing a write", func() {})
	x.Time = time.Now().UTC()
	p.tap.Finish(x)
}

// isEventStream tells whether an answer comes in events and has no end in
// sight.
func isEventStream(answer *fasthttp.Response) bool {
	if answer.Header.ContentLength() >= 0 {
		return false
	}
	kind, _, _ := strings.Cut(text(answer.Header.ContentType()), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// replyHeader hands the CMS's header to the client, without hop-by-hop fields.
// It is written out and parsed again: the codec reorders fields when one is
// deleted, and takes no Date but from the wire.
func (p *Proxy) replyHeader(ctx *fasthttp.RequestCtx, t *trip) {
	from, to := &t.answer.Header, &ctx.Response.Header
	t.head = appendHead(t.head[:0], from)
	t.parsed.Reset(t.head)
	if t.parser == nil || t.parser.Size() < len(t.head) {
		t.parser = bufio.NewReaderSize(nil, max(len(t.head), 4<<10))
	}
	t.parser.Reset(&t.parsed)
	if err := to.Read(t.parser); err != nil {
		panic("an answer's head can not be parsed again") // it was before; err may quote it
	}
	to.ResetConnectionClose()
	if t.early {
		ctx.SetConnectionClose()
	}
	if t.body != nil {
		t.body.broke = func(err error) { p.complain(ctx, err, event.Unknown) }
		if t.body.chunked {
			t.body.ended = func() { copyTrailers(&t.answer.Header, to) }
		}
	}
}

// interim is the client's connection if interim answers may be written to it now:
// HTTP/1.0 does not know them.
func (p *Proxy) interim(ctx *fasthttp.RequestCtx) *watchedConn {
	client := ctx.Conn().(*watchedConn)
	if !ctx.Request.Header.IsHTTP11() || !client.isFlushed() {
		return nil
	}
	return client
}

// appendHead appends an answer's head without hop-by-hop fields. An interim answer
// has no length either (RFC 9110 section 8.6).
func appendHead(head []byte, from *fasthttp.ResponseHeader) []byte {
	named := connectionTokens(from.All())
	head = append(head, "HTTP/1.1 "...)
	head = strconv.AppendInt(head, int64(from.StatusCode()), 10)
	head = append(append(append(head, ' '), from.StatusMessage()...), "\r\n"...)
	for key, value := range from.All() {
		name := text(key)
		if !isHopByHop(name, named) && (from.StatusCode() >= 200 || !isAny(name, "Content-Length")) {
			head = append(append(append(append(head, key...), ": "...), value...), "\r\n"...)
		}
	}
	return append(head, "\r\n"...)
}

// reply hands the CMS's answer to the client.
func (p *Proxy) reply(ctx *fasthttp.RequestCtx, t *trip) {
	p.replyHeader(ctx, t)
	switch {
	case t.body != nil:
		p.replyStream(ctx, t, t.body)
	case len(t.whole) > 0:
		ctx.Response.SetBody(t.whole)
	}
}

// replyWhole sends an answer that was read to its end, or says that it broke
// off.
func (p *Proxy) replyWhole(ctx *fasthttp.RequestCtx, t *trip, body []byte, err error) {
	if err != nil {
		p.complain(ctx, err, event.Unknown)
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS's answer broke off; the outcome is unknown")
		return
	}
	p.replyHeader(ctx, t)
	ctx.Response.SetBodyRaw(body)
	if t.body != nil && t.body.chunked {
		copyTrailers(&t.answer.Header, &ctx.Response.Header)
	}
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
	if t.early {
		ctx.SetConnectionClose()
	}
	switch {
	case t.outcome == event.Cut:
		p.cutShort(ctx, t.err)
		return
	case errors.Is(t.err, fasthttp.ErrNoFreeConns):
		p.say(ctx, fasthttp.StatusServiceUnavailable, "all connections to the CMS are in use; nothing was sent to it")
	case t.outcome == event.NotSent:
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS can not be reached; nothing was sent to it")
	case errors.Is(t.err, errBrokeOff):
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS's answer broke off; the outcome is unknown")
	case isTimeout(t.err):
		p.say(ctx, fasthttp.StatusGatewayTimeout, "the CMS did not answer in time; the outcome is unknown")
	default:
		p.say(ctx, fasthttp.StatusBadGateway, "the CMS gave no valid answer; the outcome is unknown")
	}
	p.complain(ctx, t.err, t.outcome)
}

// complain writes the one line about a CMS that did not answer as it should,
// or was not given the time to.
func (p *Proxy) complain(ctx *fasthttp.RequestCtx, err error, outcome event.Outcome) {
	if ctx.Conn().(*watchedConn).left.Load() {
		p.log.Debug("left", "error", "the client left before the CMS had answered")
		return
	}
	msg, hint := "upstream", "look at the CMS and at proxy.upstream"
	if errors.Is(err, fasthttp.ErrNoFreeConns) {
		hint = "the CMS is slow, or proxy.upstream_connections is too low"
	}
	if p.cutting.Load() {
		msg, hint = "cut", "the stop did not wait any longer for the CMS's answer"
	}
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?"))
	p.log.Warn(msg, "error", err, "upstream", upstreamAddress(p.config), "outcome", outcome.String(),
		"method", string(ctx.Method()), "path", string(path), "hint", hint)
}

// cutShort ends a request whose client did not finish its body.
func (p *Proxy) cutShort(ctx *fasthttp.RequestCtx, err error) {
	p.log.Debug("cut", "error", err)
	ctx.SetConnectionClose()
	if errors.Is(err, errTooLarge) {
		p.say(ctx, fasthttp.StatusRequestEntityTooLarge, "the request's body is larger than proxy.max_body")
		return
	}
	p.say(ctx, fasthttp.StatusBadRequest, "the request body ended early")
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
