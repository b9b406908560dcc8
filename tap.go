package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/outbox"
	"cmstap/rules"

	"github.com/google/uuid"
)

// storeBound is how long a client waits for the disk, before its write is
// forwarded and again before it gets its answer.
const storeBound = 2 * time.Second

// tap is the path of a write between the proxy's hops: begin, then, once the
// forward has ended, derive, match and commit.
type tap struct {
	rules      *rules.Rules
	outbox     *outbox.Outbox
	resolver   *resolve.Resolver
	log        *slog.Logger
	bestEffort bool

	ctx     context.Context // ends at the stop
	repeats sync.WaitGroup
}

// Classify implements proxy.Tap.
func (t *tap) Classify(head event.Head) event.Plan { return t.rules.Classify(head) }

// Begin implements proxy.Tap.
func (t *tap) Begin(intent *event.Intent) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	intent.ID, intent.Time = id.String(), time.Now().UTC()
	ctx, cancel := context.WithTimeout(context.Background(), storeBound)
	defer cancel()
	err = t.outbox.Begin(ctx, intent)
	if err == nil {
		return nil
	}
	if t.bestEffort {
		t.log.Error("gap", "error", err, "method", intent.Method, "path", intent.Path,
			"hint", "the write passes without a record (proxy.durability: best_effort); its event is lost if cmstap stops now")
		return nil
	}
	// It may be stored all the same.
	t.repeats.Go(func() { t.repeat(func(ctx context.Context) error { return t.outbox.Drop(ctx, intent.ID) }) })
	return err
}

// Finish implements proxy.Tap. A write in doubt is the resolver's; of any
// other the intent ends here.
func (t *tap) Finish(x *event.Exchange) {
	switch x.Outcome {
	case event.Unknown:
		t.resolver.Add(x)
	case event.NotSent, event.Cut, event.Refused:
		t.end(x, func(ctx context.Context) error { return t.outbox.Drop(ctx, x.Intent.ID) })
	case event.Done:
		t.end(x, func(ctx context.Context) error { return t.commit(ctx, x) })
	}
}

// end stores how a write ended, and waits for that, storeBound at most. What
// takes longer goes on by itself.
func (t *tap) end(x *event.Exchange, store func(context.Context) error) {
	ctx, cancel := context.WithTimeout(t.ctx, storeBound)
	defer cancel()
	if err := store(ctx); err != nil {
		t.log.Error("store", "error", err, "method", x.Intent.Method, "path", x.Intent.Path, "outcome", x.Outcome.String(),
			"hint", "the outcome could not be stored in time; its intent is kept, and storing is repeated")
		t.repeats.Go(func() { t.repeat(store) })
	}
}

// repeat stores until it works or cmstap stops. The intent is on disk: what
// does not work before the stop is resolved after the next start.
func (t *tap) repeat(store func(context.Context) error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		if store(t.ctx) == nil {
			return
		}
		select {
		case <-t.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// commit makes the events of an exchange durable, with their deliveries, and
// ends its intent. It may be repeated.
func (t *tap) commit(ctx context.Context, x *event.Exchange) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			t.log.Error("panic", "during", "deriving an event", "path", x.Intent.Path, "error", fault, "stack", string(debug.Stack()))
			err = fmt.Errorf("a panic: %v", fault)
		}
	}()
	var captured []event.Captured
	for _, e := range t.rules.Derive(x) {
		captured = append(captured, t.match(e))
	}
	if err := t.outbox.Commit(ctx, x.Intent.ID, captured); err != nil {
		return err
	}
	if len(captured) == 0 {
		t.log.Error("gap", "error", "the dialect does not know this write any more", "method", x.Intent.Method, "path", x.Intent.Path,
			"hint", "it was recorded under the dialect "+x.Intent.Dialect+"; no event is made of it")
	}
	for i := range captured {
		t.report(&captured[i])
	}
	return nil
}

// match asks the webhooks which of them want an event.
func (t *tap) match(e event.Event) event.Captured {
	c := event.Captured{Event: e}
	for _, decision := range t.rules.Match(&e) {
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
	webhooks := make([]string, len(c.Want))
	for i, want := range c.Want {
		webhooks[i] = want.Webhook
		if want.Undecided != "" {
			t.log.Warn("undecided", "event", e.ID, "webhook", want.Webhook, "reason", want.Undecided)
		}
	}
	fields := []any{"event", e.ID, "topic", e.Topic(), "entity", e.Entity.ID, "environment", e.Environment, "webhooks", strings.Join(webhooks, ",")}
	if e.PayloadError != "" {
		fields = append(fields, "payload_error", e.PayloadError)
	}
	if !e.Confirmed {
		t.log.Warn("unconfirmed", append(fields, "hint", "nobody saw the CMS answer; the event is delivered all the same")...)
		return
	}
	t.log.Info("captured", fields...)
}
