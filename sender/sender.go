// Package sender calls the webhooks: next, shape, send, judge, settle. Each
// webhook has its own goroutines and connections, so that one that hangs costs
// the others nothing.
package sender

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/sender/shape"
)

// Webhook is what the sender knows of a webhook.
type Webhook struct {
	Name     string
	Endpoint Endpoint
}

// Store is the outbox as the sender sees it; the outbox's package comment says
// what its methods promise.
type Store interface {
	Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error)
	Settle(ctx context.Context, d event.Delivery, s event.Settlement) error
	Release(d event.Delivery)
}

// Sender calls the webhooks of a config.
type Sender struct {
	lines []*line
}

// New returns a sender for webhooks whose endpoints have been validated.
func New(webhooks []Webhook, store Store, log *slog.Logger) *Sender {
	s := &Sender{}
	for _, w := range webhooks {
		s.lines = append(s.lines, &line{
			webhook: w, store: store, log: log, transport: newTransport(w.Endpoint),
			slots: make(chan struct{}, w.Endpoint.Concurrency), unsettled: make(chan struct{}, max(maxUnsettled, w.Endpoint.Concurrency)),
			gate: newGate(w.Endpoint, log.With("webhook", w.Name)),
		})
	}
	return s
}

// stopGrace is how long calls in flight may go on after a stop.
const stopGrace = 3 * time.Second

// Run delivers until ctx ends. Then it claims nothing more, waits a little for
// the calls in flight, and returns.
func (s *Sender) Run(ctx context.Context) {
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	var all sync.WaitGroup
	for _, l := range s.lines {
		all.Go(func() { l.run(ctx, calls) })
	}
	all.Wait()
}

// maxUnsettled bounds the calls of a webhook that have ended while their results
// are on the way to the disk: a crash repeats them.
const maxUnsettled = 64

// line is one webhook's senders.
type line struct {
	webhook   Webhook
	store     Store
	log       *slog.Logger
	transport transport
	slots     chan struct{} // one for each call that runs
	unsettled chan struct{} // one for each call that has ended and is not settled
	gate      *gate
	gone      context.CancelFunc // ends the claiming for good
}

// transport makes calls. An http.Client would do more than that: it reads the
// Location of a redirect, and hides the answer if it can not.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// run claims deliveries while there are free slots, until claiming ends.
func (l *line) run(claiming, calls context.Context) {
	var running sync.WaitGroup
	defer l.transport.CloseIdleConnections()
	defer running.Wait()
	claiming, l.gone = context.WithCancel(claiming)
	defer l.gone()
	for troubled := false; ; {
		n := l.takeSlots(claiming)
		if n == 0 {
			return
		}
		deliveries, err := l.store.Next(claiming, l.webhook.Name, l.gate.wait(claiming, n))
		for range n - len(deliveries) {
			<-l.slots
		}
		if err != nil && claiming.Err() == nil {
			if !troubled {
				l.log.Error("store", "webhook", l.webhook.Name, "error", err, "hint", "claiming is tried again every second")
			}
			pause(claiming, time.Second)
		}
		troubled = err != nil
		for _, d := range deliveries {
			allowed, probe := l.gate.start(time.Now())
			if claiming.Err() != nil || !allowed {
				l.store.Release(d) // the stop came in between, or the gate has closed
				<-l.slots
				continue
			}
			running.Go(func() { l.deliver(calls, d, probe) })
		}
	}
}

// takeSlots waits for a free slot and takes all that are free; 0 means that
// ctx ended.
func (l *line) takeSlots(ctx context.Context) int {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case l.slots <- struct{}{}:
		default:
			return n
		}
	}
}

// deliver makes one attempt and settles it. The slot is free for the next call
// while the disk takes its time.
func (l *line) deliver(ctx context.Context, d event.Delivery, probe bool) {
	s, made := l.attempt(ctx, d, probe)
	l.unsettled <- struct{}{}
	<-l.slots
	l.conclude(ctx, d, s, made)
	<-l.unsettled
}

// attempt makes one attempt, unless the stop cuts it off. A delivery that
// panicked is given up, so that the others of its entity go on: it would panic
// again.
func (l *line) attempt(ctx context.Context, d event.Delivery, probe bool) (s event.Settlement, made bool) {
	defer func() {
		if fault := recover(); fault != nil {
			l.gate.abandon(probe)
			l.log.Error("panic", "during", "a delivery", "webhook", d.Webhook, "event", d.Event.ID, "error", fault, "stack", string(debug.Stack()))
			s, made = event.Settlement{
				Attempt: event.Attempt{Number: d.Attempts + 1, Time: time.Now().UTC()},
				Result:  event.GiveUp, Reason: "a fault in cmstap, see the log",
			}, true
		}
	}()
	a := l.send(ctx, d)
	if ctx.Err() != nil && a.attempt.Status == 0 {
		return s, false // stopped in mid-call: not an attempt
	}
	if a.gone() {
		l.gone()
	}
	if a.failure == unfillable {
		l.gate.abandon(probe) // nobody was called
	} else {
		l.gate.end(time.Now(), probe, a)
	}
	return l.webhook.Endpoint.Retry.judge(a, rand.Float64()), true
}

// conclude settles an attempt, and tells of it only if that worked: what is
// not settled is repeated. A delivery that was not attempted is given back.
func (l *line) conclude(ctx context.Context, d event.Delivery, s event.Settlement, made bool) {
	if !made {
		l.store.Release(d)
	} else if l.settle(ctx, d, s) {
		l.report(d, s)
	}
}

// How much of an answer is read, and for how long, and what is kept of one.
const (
	maxAnswer  = 4 << 10
	drainBytes = 64 << 10
	drainTime  = time.Second
)

// send makes one call.
func (l *line) send(ctx context.Context, d event.Delivery) answer {
	start := time.Now()
	a := answer{attempt: event.Attempt{Number: d.Attempts + 1, Time: start.UTC()}}
	ctx, cancel := context.WithTimeout(ctx, l.webhook.Endpoint.Timeout.Std())
	defer cancel()
	filled, err := l.webhook.Endpoint.templates().Fill(d)
	if err != nil {
		a.failure, a.attempt.Error = unfillable, shorten(l.redact(err.Error()), maxError)
		return a
	}
	request := l.request(ctx, d, a.attempt, filled)
	a.attempt.Wire = l.wire(d, request)
	response, err := l.transport.RoundTrip(request)
	a.attempt.Duration = time.Since(start)
	if err != nil {
		a.failure, a.attempt.Error = l.explain(err)
		return a
	}
	defer response.Body.Close()
	a.attempt.Status = response.StatusCode
	// Read a little, but not for long, so that the connection can be used again.
	defer time.AfterFunc(drainTime, cancel).Stop()
	body := io.LimitReader(response.Body, drainBytes)
	begin, _ := io.ReadAll(io.LimitReader(body, 2*maxAnswer))
	a.attempt.Answer = l.told(a.attempt.Wire, request, response.Header, strings.ToValidUTF8(string(begin), "\uFFFD"))
	_, _ = io.Copy(io.Discard, body)
	a.retryAfter = retryAfter(response.Header, time.Now())
	return a
}

func (l *line) request(ctx context.Context, d event.Delivery, attempt event.Attempt, filled shape.Filled) *http.Request {
	e := l.webhook.Endpoint
	headers := filled.Headers
	for name, value := range e.Headers {
		if _, isTemplate := headers[name]; !isTemplate {
			headers[name] = value.Reveal()
		}
	}
	shaped := shape.Build(shape.Call{
		Delivery: d, Attempt: attempt.Number, Time: attempt.Time, Headers: headers,
		Username: e.Auth.Basic.Username, Password: e.Auth.Basic.Password.Reveal(), SigningKey: e.Signing.Secret.Reveal(),
		Content: &filled.Content,
	})
	// GetBody lets a connection that the receiver closed while it was idle be
	// replaced without a failed attempt.
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(shaped.Body)), nil }
	if len(shaped.Body) == 0 {
		body = func() (io.ReadCloser, error) { return http.NoBody, nil }
	}
	r := &http.Request{
		Method: shaped.Method, URL: filled.URL, Host: filled.URL.Host, Header: shaped.Header,
		GetBody: body, ContentLength: int64(len(shaped.Body)),
	}
	r.Body, _ = body()
	if user := e.URL.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
	return r.WithContext(ctx)
}

// explain names the class of a failed call and says why.
func (l *line) explain(err error) (class, why string) {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", "no answer in time (webhooks[].timeout)"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", shorten(l.redact(err.Error()), maxError)
	default:
		return "connection", shorten(l.redact(err.Error()), maxError)
	}
}

// maxError bounds the text of an error: it may quote what a receiver sent.
const maxError = 200

// redact takes out of a text what may be secret: the address but for
// its host, and what the config sends along. A receiver may have echoed it.
func (l *line) redact(text string) string {
	e := l.webhook.Endpoint
	secrets := []string{e.URL.RequestURI(), e.URL.Path, e.URL.RawQuery, e.Auth.Basic.Password.Reveal(), e.Signing.Secret.Reveal()}
	if e.URL.User != nil {
		password, _ := e.URL.User.Password()
		secrets = append(secrets, e.URL.User.String(), e.URL.User.Username(), password)
	}
	for _, header := range e.Headers {
		secrets = append(secrets, header.Reveal())
	}
	for _, secret := range append(secrets, e.literals()...) {
		if len(secret) > 4 { // less is no secret, and a word of the text perhaps
			text = strings.ReplaceAll(text, secret, "<secret>")
		}
	}
	return text
}

func shorten(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// settle makes the result durable. While that fails the delivery stays claimed
// and it is tried again; at a stop the delivery is given back and repeated
// after the restart.
func (l *line) settle(ctx context.Context, d event.Delivery, s event.Settlement) (settled bool) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := l.trySettle(ctx, d, s)
		if err == nil {
			return true
		}
		if wait == 100*time.Millisecond {
			l.log.Error("store", "webhook", l.webhook.Name, "event", d.Event.ID, "error", err,
				"hint", "the result is stored as soon as that works; after a stop the call is repeated")
		}
		if ctx.Err() != nil {
			l.store.Release(d)
			return false
		}
		pause(ctx, wait)
	}
}

// settleTime bounds one try to settle.
const settleTime = 2 * time.Second

// trySettle does not end with the call's context: a result that came just as
// the stop did is not thrown away.
func (l *line) trySettle(ctx context.Context, d event.Delivery, s event.Settlement) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	return l.store.Settle(own, d, s)
}

// report writes the one line of an attempt.
func (l *line) report(d event.Delivery, s event.Settlement) {
	fields := []any{
		"webhook", d.Webhook, "event", d.Event.ID, "topic", d.Event.Topic(), "entity", d.Event.Entity.ID,
		"attempt", s.Attempt.Number, "status", s.Attempt.Status, "duration", s.Attempt.Duration.Round(time.Microsecond),
	}
	if s.Attempt.Error != "" {
		fields = append(fields, "error", s.Attempt.Error)
	}
	if s.Attempt.Status == http.StatusGone {
		l.log.Error("gone", append(fields, "hint",
			"the receiver answered 410, gone for good: the webhook is stopped and its deliveries wait; a restart tries again; if it is to end, remove it from the config")...)
		return
	}
	switch s.Result {
	case event.Delivered:
		l.log.Info(s.Result.String(), fields...)
	case event.Retry:
		l.log.Warn(s.Result.String(), append(fields, "next", time.Now().Add(s.Wait).UTC().Format(time.RFC3339))...)
	case event.GiveUp:
		l.log.Error(s.Result.String(), append(fields, "reason", s.Reason)...)
	}
}

// newTransport makes the connections of one webhook. Redirects are answers, not
// followed; answers are bounded.
func newTransport(e Endpoint) transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		MaxConnsPerHost: e.Concurrency, MaxIdleConnsPerHost: e.Concurrency, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
}

func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
