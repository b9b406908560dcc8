package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/outbox"
	"cmstap/proxy"
	"cmstap/rules"

	"github.com/google/uuid"
)

// storeBound is how long a client waits for the disk, before its write is
// forwarded and again before it gets its answer.
const storeBound = 2 * time.Second

// recallBound is how long a write waits for what is in doubt about its entity.
const recallBound = time.Second

// tap is the path of a write between the proxy's hops: begin, then, once the
// forward has ended, derive, match and commit.
type tap struct {
	ruling     atomic.Pointer[ruling]
	outbox     *outbox.Outbox
	resolver   *resolve.Resolver
	fetch      func(ctx context.Context, host, path string, headers map[string]string) (proxy.Fetched, error)
	log        *slog.Logger
	metrics    *metrics
	bestEffort bool
	underWay   underWay
	turns      turns
	unasked    atomic.Pointer[time.Time] // until when nothing is read before a write
}

// ruling is what a reload replaces.
type ruling struct {
	*rules.Rules
	token  event.Credentials // what recovery.token stands for
	lookup bool              // entities may be read before they are written
}

func newRuling(c *Config) *ruling {
	r := rules.New(c.dialect, c.subscribers()).Truncating(int(c.Outbox.MaxPayload))
	return &ruling{r, r.Credentials(c.Recovery.Token.Reveal()), c.Lookup != "off"}
}

// now is how things are ruled at the moment. A write may begin under one ruling and
// end under the next.
func (t *tap) now() *ruling { return t.ruling.Load() }

// Classify implements proxy.Tap.
func (t *tap) Classify(head event.Head) event.Plan {
	plan := t.now().Classify(head, t.outbox.Links())
	t.metrics.request(plan)
	return plan
}

// Identify implements proxy.Tap.
func (t *tap) Identify(head event.Head, body event.Copy) event.Plan {
	plan := t.now().Identify(head, body, t.outbox.Links())
	t.metrics.request(plan)
	return plan
}

// Begin implements proxy.Tap.
func (t *tap) Begin(x *event.Exchange) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	intent := x.Intent
	t.recall(x)
	intent.ID, intent.Time = id.String(), time.Now().UTC()
	ctx, cancel := context.WithTimeout(context.Background(), storeBound)
	defer cancel()
	t.underWay.enter(intent)
	if err = t.outbox.Begin(ctx, intent); err == nil {
		t.lookUp(x)
		return nil
	}
	if t.bestEffort {
		intent.Unrecorded = true
		t.gap(intent, err, "the write passes without a record (proxy.durability: best_effort); its event is lost if cmstap stops now")
		return nil
	}
	t.underWay.leave(intent)
	if !errors.Is(err, outbox.ErrFull) && !errors.Is(err, outbox.ErrNoSpace) { // it may be stored all the same
		t.resolver.Add(&event.Exchange{Intent: intent, Outcome: event.NotSent})
	}
	return err
}

// recall settles what is in doubt about the entity of a write, as far as that
// goes in a second.
func (t *tap) recall(x *event.Exchange) {
	ctx, cancel := context.WithTimeout(context.Background(), recallBound)
	defer cancel()
	t.resolver.Before(ctx, x.Intent.Entity, x.Credentials)
}

// Finish implements proxy.Tap. It waits until the end of the write is stored,
// storeBound at most; what takes longer, and what is in doubt, is the
// resolver's.
func (t *tap) Finish(x *event.Exchange) {
	t.metrics.writes.WithLabelValues(x.Outcome.String()).Inc()
	if x.Outcome == event.Unknown {
		t.underWay.leave(x.Intent)
		t.resolver.Add(x)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeBound)
	defer cancel()
	err := t.settle(ctx, x)
	switch {
	case err == nil:
	case x.Intent.Unrecorded && x.Outcome != event.Done: // there is no event to lose
		t.underWay.leave(x.Intent)
	case x.Intent.Unrecorded:
		t.underWay.leave(x.Intent)
		t.gap(x.Intent, err, "the write was not recorded before, and its event can not be stored now: it is lost")
	default:
		t.resolver.Add(x)
	}
}

// Observe implements proxy.Tap.
func (t *tap) Observe(x *event.Exchange) {
	ctx, cancel := context.WithTimeout(context.Background(), storeBound)
	defer cancel()
	if err := t.outbox.Learn(ctx, t.now().Learn(x)); err != nil {
		t.log.Warn("store", "error", err, "hint", "what an alias leads to can not be stored; it will be learned again")
	}
	if poll := t.now().Poll(x); poll != "" {
		finding := event.Finding{Status: x.Status, Entity: x.Answer}
		ctx, cancel := context.WithTimeout(context.Background(), jobBound)
		defer cancel()
		t.resolver.Told(ctx, x.Intent.Host, poll, func(job *event.Exchange) (event.Verdict, *event.Exchange) {
			return t.told(ctx, job, finding)
		})
	}
}

// Settle implements resolve.Tap. An end that is stored already, though Finish did
// not wait to see it, is not stored again: what its events say of their entities
// would make other events of it.
func (t *tap) Settle(ctx context.Context, x *event.Exchange) error {
	if (x.Outcome == event.Done || x.Outcome == event.Unknown) && !x.Intent.Unrecorded {
		ended, err := t.outbox.Ended(ctx, x.Intent.ID)
		if err != nil {
			return err
		}
		if ended {
			t.follow(x, t.now().Job(x))
			t.underWay.leave(x.Intent)
			t.log.Info("stored", "method", x.Intent.Method, "path", x.Intent.Path, "request", x.Intent.ID)
			return nil
		}
	}
	return t.settle(ctx, x)
}

// settle stores how a write ended, without an event or with what it made.
func (t *tap) settle(ctx context.Context, x *event.Exchange) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			t.log.Error("panic", "during", "storing how a write ended", "path", x.Intent.Path, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
			err = errors.New("a fault in cmstap, see the log")
		}
		if err == nil {
			t.underWay.leave(x.Intent)
		}
	}()
	switch x.Outcome {
	case event.NotSent, event.Cut, event.Refused:
		return t.outbox.Drop(ctx, x.Intent.ID)
	default:
		return t.commit(ctx, x)
	}
}

// gap says loudly that a write may have no event.
func (t *tap) gap(intent *event.Intent, err error, hint string) {
	t.metrics.gaps.Inc()
	t.log.Error("gap", "error", err, "method", intent.Method, "path", intent.Path, "hint", hint)
}

// commit makes the events of an exchange durable, with their deliveries, and
// ends its intent.
func (t *tap) commit(ctx context.Context, x *event.Exchange) error {
	links := t.outbox.Links()
	keys, content := t.keys(x, links)
	end, err := t.turns.take(ctx, keys)
	if err != nil {
		return err
	}
	defer end()
	states, err := t.outbox.Recall(ctx, keys, content)
	if err != nil {
		return err
	}
	var captured []event.Captured
	for _, e := range t.derive(x, links, states) {
		captured = append(captured, t.match(e, links))
	}
	job := t.now().Job(x)
	start := time.Now()
	if err := t.outbox.Commit(ctx, x.Intent.ID, captured, t.now().Learn(x), job); err != nil {
		return err
	}
	t.metrics.committed(start)
	t.follow(x, job)
	if !t.now().Knows(x.Intent) {
		t.gap(x.Intent, errors.New("the dialect does not know this write any more"),
			"it was recorded under the dialect "+x.Intent.Dialect+"; no event is made of it")
	}
	for i := range captured {
		t.report(&captured[i])
	}
	return nil
}

// follow has the job that a write became asked about, if it became one.
func (t *tap) follow(x *event.Exchange, job *event.Intent) {
	if job == nil {
		return
	}
	t.log.Info("job", "job", job.Job.ID, "method", job.Method, "path", job.Path, "request", x.Intent.ID)
	t.resolver.Add(&event.Exchange{Intent: job, Time: x.Time, Credentials: maps.Clone(x.Credentials)})
}

// keys are those of the entities that an exchange is about, and whether anybody
// asks what they were.
func (t *tap) keys(x *event.Exchange, links event.Links) (keys []string, content bool) {
	defer func() {
		if recover() != nil { // derive says so
			keys, content = nil, false
		}
	}()
	return t.now().Recall(x, links)
}

// derive makes the events of an exchange. If the answer brings the rules down,
// the request's head alone must do.
func (t *tap) derive(x *event.Exchange, links event.Links, states map[string]event.State) (events []event.Event) {
	defer func() {
		if fault := recover(); fault != nil {
			t.log.Error("panic", "during", "deriving an event", "path", x.Intent.Path, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
			without := *x
			without.Answer = event.Copy{Err: "a fault in cmstap; see its log"}
			events = t.now().Derive(&without, links, states)
		}
	}()
	return t.now().Derive(x, links, states)
}

// match asks the webhooks which of them want an event.
func (t *tap) match(e event.Event, links event.Links) event.Captured {
	c := event.Captured{Event: e}
	for _, decision := range t.now().Match(&e, links) {
		if decision.Wanted {
			c.Want = append(c.Want, decision.Want)
			continue
		}
		t.log.Debug("skipped", "event", e.ID, "webhook", decision.Webhook, "reason", decision.Reason)
	}
	return c
}

// report writes the first line of an event's story.
func (t *tap) report(c *event.Captured) {
	e := &c.Event
	t.metrics.event(e.Topic())
	webhooks := make([]string, len(c.Want))
	for i, want := range c.Want {
		webhooks[i] = want.Webhook
		if want.Undecided != "" {
			t.log.Warn("undecided", "event", e.ID, "webhook", want.Webhook, "reason", want.Undecided)
		}
	}
	fields := []any{"event", e.ID, "topic", e.Topic(), "entity", e.Entity.ID, "environment", e.Environment, "webhooks", strings.Join(webhooks, ",")}
	if e.Accepted {
		fields = append(fields, "accepted", true)
	}
	if e.Late {
		fields = append(fields, "late", true)
	}
	if e.BeforeUnseen != "" {
		fields = append(fields, "before", "unknown")
	}
	if e.PayloadError != "" {
		fields = append(fields, "payload_error", e.PayloadError)
	}
	if !e.Confirmed {
		t.log.Warn("unconfirmed", append(fields, "hint", "nobody saw the CMS answer; the event is delivered all the same")...)
		return
	}
	t.log.Info("captured", fields...)
}
