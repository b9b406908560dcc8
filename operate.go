package main

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cmstap/event"
	"cmstap/outbox"
	"cmstap/sender"
)

// operations is what an operator can do with a cmstap that runs, and what is to
// be known of it. It implements admin.Operator and admin.Store.
type operations struct {
	*outbox.Outbox
	config *atomic.Pointer[Config] // the one in force
	tap    *tap
	sender *sender.Sender
	recent *recent
	log    *slog.Logger
	// comparing is held by the one comparison that may run: it costs what somebody
	// else's filters cost.
	comparing sync.Mutex
}

// Backlogs implements admin.Store: with what the sender knows.
func (o *operations) Backlogs() ([]event.Backlog, error) {
	list, err := o.Outbox.Backlogs()
	breakers := o.sender.Breakers()
	for i := range list {
		if !list[i].Parked {
			list[i].Breaker, list[i].Recent = breakers[list[i].Webhook], o.recent.of(list[i].Webhook)
		}
	}
	return list, err
}

// Call implements admin.Store: with the body that was sent.
func (o *operations) Call(id string) (call event.Call, found bool, err error) {
	call, found, err = o.Outbox.Call(id)
	if err != nil || call.Wire == nil {
		return call, found, err
	}
	e, there, err := o.Whole(call.Event)
	if err == nil && there {
		o.tap.now().Restore(&e)
		call.Wire.Body = o.sender.Body(event.Delivery{Want: event.Want{Webhook: call.Webhook}, Event: &e}, call.Wire.Bytes)
	}
	return call, found, err
}

// Resend implements admin.Operator.
func (o *operations) Resend(ctx context.Context, id, webhook string) (event.Resent, error) {
	err := o.Outbox.Resend(ctx, id, webhook)
	if err == nil {
		o.log.Info("resend", "webhook", webhook, "event", id)
	}
	return event.Resent{Event: id, Webhook: webhook}, err
}

// ResendFailed implements admin.Operator.
func (o *operations) ResendFailed(ctx context.Context, query event.Query, rate int, report func(event.Tally)) (event.Tally, error) {
	tally, err := o.Outbox.ResendFailed(ctx, query, rate, report)
	o.said("resend", query, rate, tally, err)
	return tally, err
}

// said writes the line of a work on many deliveries.
func (o *operations) said(what string, query event.Query, rate int, tally event.Tally, err error) {
	fields := []any{"webhook", cmp.Or(query.Webhook, "*"), "deliveries", tally.Deliveries, "rate", rate}
	if err != nil {
		o.log.Warn(what, append(fields, "error", err, "hint", "what was not reached is left as it was; ask for it again")...)
		return
	}
	o.log.Info(what, fields...)
}

// Explain implements admin.Operator.
func (o *operations) Explain(id, webhook string) (event.Explanation, error) {
	e, found, err := o.Whole(id)
	switch {
	case err != nil:
		return event.Explanation{}, err
	case !found:
		return event.Explanation{}, event.Refuse(event.NotFound, "there is no event of that id; it may be past its retention (outbox.retention)")
	}
	if err := o.knows(webhook); err != nil {
		return event.Explanation{}, err
	}
	o.tap.now().Restore(&e)
	list := o.tap.now().Explain(&e, o.Links())
	if webhook != "" {
		list = slices.DeleteFunc(list, func(w event.Explained) bool { return w.Webhook != webhook })
	}
	return event.Explanation{Event: e.ID, Topic: e.Topic(), BeforeUnseen: e.BeforeUnseen, Webhooks: list}, nil
}

// knows refuses a webhook that the config does not have; "" is all of them.
func (o *operations) knows(webhook string) error {
	if webhook == "" || o.tap.now().Has(webhook) {
		return nil
	}
	return event.Refuse(event.NotFound, "the config that runs has no webhook %q", webhook)
}

// CountReplay implements admin.Operator.
func (o *operations) CountReplay(ctx context.Context, query event.Query, report func(event.Tally)) (event.Tally, error) {
	return o.each(ctx, query, report, func(captured []event.Captured) (made, waiting int, err error) {
		for _, c := range captured {
			made += len(c.Want)
		}
		return made, 0, nil
	})
}

// Replay implements admin.Operator.
func (o *operations) Replay(ctx context.Context, query event.Query, rate int, report func(event.Tally)) (event.Tally, error) {
	redelivery, err := o.Redeliver(rate)
	if err != nil {
		return event.Tally{}, err
	}
	tally, err := o.each(ctx, query, report, func(captured []event.Captured) (made, waiting int, err error) {
		return redelivery.Add(ctx, captured)
	})
	o.said("replay", query, rate, tally, err)
	return tally, err
}

// each asks the config that runs who wants recorded events, and hands them over
// with that, some at a time.
func (o *operations) each(ctx context.Context, query event.Query, report func(event.Tally),
	do func([]event.Captured) (made, waiting int, err error)) (tally event.Tally, err error) {
	if err := o.knows(query.Webhook); err != nil {
		return tally, err
	}
	links := o.Links()
	err = o.Walk(ctx, query, func(events []event.Event) error {
		captured := make([]event.Captured, len(events))
		for i := range events {
			captured[i] = event.Captured{Event: events[i], Want: o.wants(&events[i], links, query.Webhook)}
			tally.Time = events[i].Time
		}
		made, waiting, err := do(captured)
		tally.Events += len(events)
		tally.Deliveries += made
		tally.Waiting += waiting
		report(tally)
		return err
	})
	tally.Done = err == nil
	return tally, err
}

// wants are the webhooks that want a recorded event, or whether one of them does.
func (o *operations) wants(e *event.Event, links event.Links, webhook string) (list []event.Want) {
	o.tap.now().Restore(e)
	for _, decision := range o.tap.now().Match(e, links) {
		if decision.Wanted && (webhook == "" || webhook == decision.Webhook) {
			list = append(list, decision.Want)
		}
	}
	return list
}

// Test implements admin.Operator.
func (o *operations) Test(ctx context.Context, webhook string) (event.Call, error) {
	e, found := o.tap.now().Sample(webhook, time.Now().UTC())
	if !found {
		return event.Call{}, o.knows(webhook)
	}
	end, found, err := o.sender.Try(ctx, webhook, &e)
	if err != nil || !found {
		return event.Call{}, cmp.Or(err, o.knows(webhook))
	}
	a := end.Attempt
	o.log.Info("test", "webhook", webhook, "result", end.Result, "status", a.Status, "error", a.Error)
	return event.Call{
		Webhook: webhook, Event: e.ID, Topic: e.Topic(), Entity: e.Entity.ID, Environment: e.Environment, Attempt: a.Number, Time: a.Time,
		Duration: float64(a.Duration.Microseconds()) / 1000, Status: a.Status, Error: a.Error, Result: end.Result.String(), Wire: a.Wire,
	}, nil
}

// recent keeps how the last calls of each webhook ended.
type recent struct {
	mu sync.Mutex
	by map[string][]string
}

// maxRecent is how many calls are kept of each webhook.
const maxRecent = 50

func (r *recent) add(webhook string, result event.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[webhook] = append(r.by[webhook], result.String())
	r.by[webhook] = r.by[webhook][max(len(r.by[webhook])-maxRecent, 0):]
}

func (r *recent) of(webhook string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.by[webhook])
}
