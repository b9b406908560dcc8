package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"cmstap/event"
)

// askBound is how long the CMS may take to answer a question.
const askBound = 3 * time.Second

// Askable implements resolve.Tap.
func (t *tap) Askable(x *event.Exchange) bool {
	_, known := t.rules.Question(x.Intent)
	return known && len(x.Credentials)+len(t.token) > 0
}

// Ask implements resolve.Tap: it reads the entity and compares it with the
// intent. Without credentials it uses recovery.token.
func (t *tap) Ask(ctx context.Context, x *event.Exchange, with event.Credentials) (verdict event.Verdict, done *event.Exchange) {
	defer func() {
		if fault := recover(); fault != nil { // it stays in doubt
			t.log.Error("panic", "during", "settling a doubt", "path", x.Intent.Path, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
			verdict, done = event.Doubt, x
		}
	}()
	if len(with) == 0 {
		with = t.token
	}
	finding, err := t.find(ctx, x, with)
	fields := []any{"method", x.Intent.Method, "path", x.Intent.Path, "request", x.Intent.ID}
	if err != nil {
		t.log.Info("asked", append(fields, "result", "unknown", "error", err)...)
		return event.Doubt, x
	}
	verdict, done = t.rules.Resolve(x, finding)
	result := [...]string{event.Doubt: "unknown", event.Accepted: "applied", event.Rejected: "not applied"}[verdict]
	t.log.Info("asked", append(fields, "result", result, "status", finding.Status)...)
	return verdict, done
}

// find reads the entity that a write is about.
func (t *tap) find(ctx context.Context, x *event.Exchange, with event.Credentials) (event.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	path, _ := t.rules.Question(x.Intent)
	fetched, err := t.fetch(ctx, path, with)
	if err != nil {
		return event.Finding{}, err
	}
	finding := event.Finding{Status: fetched.Status, Entity: fetched.Body}
	if !fetched.Date.IsZero() {
		finding.Began = fetched.Date.Add(-time.Since(x.Intent.Time))
	}
	finding.Seen, err = t.outbox.Seen(ctx, x.Intent.Entity)
	return finding, err
}
