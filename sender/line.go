package sender

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/sender/shape"
)

// maxUnsettled bounds the calls of a webhook that have ended while their results
// are on the way to the disk: a crash repeats them.
const maxUnsettled = 64

// bundle is what goes in one call: a delivery, or those that a batch has together.
// They have the same end.
type bundle []event.Delivery

// attempts is how many were made so far.
func (b bundle) attempts() int { return b[0].Attempts }

// redelivery says why all of it goes once more; "" if that is not so of each.
func (b bundle) redelivery() event.Redelivery {
	for _, d := range b {
		if d.Redelivery != b[0].Redelivery {
			return ""
		}
	}
	return b[0].Redelivery
}

// line is one webhook's senders.
type line struct {
	webhook   Webhook
	store     Store
	log       *slog.Logger
	transport transport
	tokens    *tokens // nil without auth.oauth2
	redactor  func() *redactor
	slots     chan struct{} // one for each call that runs
	unsettled chan struct{} // one for each call that has ended and is not settled
	gate      *gate
	stop      context.CancelFunc // ends the claiming for good; nil before it began
}

func newLine(w Webhook, store Store, log *slog.Logger) *line {
	concurrency := w.Endpoint.Concurrency
	if w.Bundled {
		concurrency = 1
	}
	return &line{
		webhook: w, store: store, log: log, transport: newTransport(&w.Endpoint), tokens: newTokens(&w.Endpoint),
		redactor: sync.OnceValue(func() *redactor { return newRedactor(w.Endpoint.secrets()) }), // most never fail
		slots:    make(chan struct{}, concurrency), unsettled: make(chan struct{}, max(maxUnsettled, concurrency)),
		gate: newGate(w.Endpoint, log.With("webhook", w.Name)),
	}
}

// follow keeps to what the webhook was promised before its settings changed: to the
// number of calls at a time and to the rate, as far as they are the same, and to the
// pause that the receiver asked for, if it is the same one.
func (l *line) follow(old *line) {
	was, is := old.webhook.Endpoint, l.webhook.Endpoint
	if cap(old.slots) == cap(l.slots) {
		l.slots = old.slots
	}
	old.gate.mu.Lock()
	defer old.gate.mu.Unlock()
	if was.Rate == is.Rate {
		l.gate.pace = old.gate.pace
		l.gate.pace.starts = slices.Clone(old.gate.pace.starts)
	}
	if was.URL.String() == is.URL.String() {
		l.gate.paused = old.gate.paused
	}
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
	defer l.closeIdle()
	defer running.Wait()
	for troubled := false; ; {
		n := l.takeSlots(claiming)
		if n == 0 {
			return
		}
		bundles, err := l.next(claiming, l.gate.wait(claiming, n))
		for range n - len(bundles) {
			<-l.slots
		}
		if err != nil && claiming.Err() == nil {
			if !troubled {
				l.log.Error("store", "webhook", l.webhook.Name, "error", err, "hint", "claiming is tried again every second")
			}
			pause(claiming, time.Second)
		}
		troubled = err != nil
		for _, b := range bundles {
			allowed, probe := l.gate.start(time.Now())
			if claiming.Err() != nil || !allowed {
				l.release(b) // the stop came in between, or the gate has closed
				<-l.slots
				continue
			}
			running.Go(func() { l.deliver(calls, b, probe) })
		}
	}
}

// next returns what may go in up to n calls.
func (l *line) next(ctx context.Context, n int) ([]bundle, error) {
	deliveries, err := l.store.Next(ctx, l.webhook.Name, n)
	if l.webhook.Bundled && len(deliveries) > 0 {
		return []bundle{deliveries}, err
	}
	var bundles []bundle
	for _, d := range deliveries {
		bundles = append(bundles, bundle{d})
	}
	return bundles, err
}

func (l *line) release(b bundle) {
	for _, d := range b {
		l.store.Release(d)
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
func (l *line) deliver(ctx context.Context, b bundle, probe bool) {
	s, made := l.attempt(ctx, b, probe)
	l.unsettled <- struct{}{}
	<-l.slots
	if made && s.Result == event.GiveUp && s.Attempt.Status == 0 {
		b = l.culprits(b)
	}
	l.conclude(ctx, b, s, made)
	<-l.unsettled
}

// culprits are the deliveries of a bundle that was given up without a call whose
// templates can not be filled in alone either. The others are given back, and come
// as another bundle.
func (l *line) culprits(b bundle) bundle {
	var found, others bundle
	for _, d := range b {
		if _, made := l.body(d); made {
			others = append(others, d)
		} else {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return b
	}
	l.release(others)
	return found
}

// attempt makes one attempt, unless the stop cuts it off. A delivery that
// panicked is given up, so that the others of its entity go on: it would panic
// again.
func (l *line) attempt(ctx context.Context, b bundle, probe bool) (s event.Settlement, made bool) {
	defer func() {
		if fault := recover(); fault != nil {
			l.gate.abandon(probe)
			l.log.Error("panic", "during", "a delivery", "webhook", l.webhook.Name, "event", b[0].Event.ID, "error", fault, "stack", string(debug.Stack()))
			s, made = event.Settlement{
				Attempt: event.Attempt{Number: b.attempts() + 1, Time: time.Now().UTC()},
				Result:  event.GiveUp, Reason: "a fault in cmstap, see the log",
			}, true
		}
	}()
	a := l.send(ctx, b)
	if ctx.Err() != nil && a.attempt.Status == 0 {
		return s, false // stopped in mid-call: not an attempt
	}
	if a.gone() {
		l.stop()
	}
	if a.failure == unfillable || a.failure == refused {
		l.gate.abandon(probe) // of the webhook it tells nothing
	} else {
		l.gate.end(time.Now(), probe, a)
	}
	return l.webhook.Endpoint.Retry.judge(a, rand.Float64()), true
}

// conclude settles an attempt, and tells of it only if that worked: what is
// not settled is repeated. A delivery that was not attempted is given back.
func (l *line) conclude(ctx context.Context, b bundle, s event.Settlement, made bool) {
	if !made {
		l.release(b)
	} else if l.settle(ctx, b, s) {
		l.report(b, s)
	}
}

// settle makes the result durable. While that fails the delivery stays claimed
// and it is tried again; at a stop the delivery is given back and repeated
// after the restart.
func (l *line) settle(ctx context.Context, b bundle, s event.Settlement) (settled bool) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := l.trySettle(ctx, b, s)
		if err == nil {
			return true
		}
		if wait == 100*time.Millisecond {
			l.log.Error("store", "webhook", l.webhook.Name, "event", b[0].Event.ID, "error", err,
				"hint", "the result is stored as soon as that works; after a stop the call is repeated")
		}
		if ctx.Err() != nil {
			l.release(b)
			return false
		}
		pause(ctx, wait)
	}
}

// settleTime bounds one try to settle.
const settleTime = 2 * time.Second

// trySettle does not end with the call's context: a result that came just as
// the stop did is not thrown away.
func (l *line) trySettle(ctx context.Context, b bundle, s event.Settlement) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	return l.store.SettleAll(own, b, s)
}

// bundleID names what a batch has together; "" if there is no batch.
func (l *line) bundleID(b bundle) string {
	if !l.webhook.Bundled {
		return ""
	}
	return shape.BundleID(b)
}

// report writes the one line of an attempt, or one for each event of a batch.
func (l *line) report(b bundle, s event.Settlement) {
	id := l.bundleID(b)
	for _, d := range b {
		l.reportOne(d, id, s)
	}
}

func (l *line) reportOne(d event.Delivery, id string, s event.Settlement) {
	fields := []any{
		"webhook", d.Webhook, "event", d.Event.ID, "topic", d.Event.Topic(), "entity", d.Event.Entity.ID,
		"attempt", s.Attempt.Number, "status", s.Attempt.Status, "duration", s.Attempt.Duration.Round(time.Microsecond),
	}
	if id != "" {
		fields = append(fields, "batch", id)
	}
	if d.Redelivery != "" {
		fields = append(fields, "redelivery", d.Redelivery)
	}
	if s.Attempt.Error != "" {
		fields = append(fields, "error", s.Attempt.Error)
	}
	if s.Attempt.Status == http.StatusGone {
		l.log.Error("gone", append(fields, "hint",
			"the receiver answered 410, gone for good: the webhook is stopped and its deliveries wait; a restart tries again, or a reload that changes it; if it is to end, remove it from the config")...)
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

func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
