package main

import (
	"context"
	"errors"

	"cmstap/event"
	"cmstap/outbox"
)

// operations is what an operator can do with a cmstap that runs, and what is to
// be known of it.
type operations struct {
	*outbox.Outbox
}

var errNotBuilt = errors.New("not built yet")

// Resend implements admin.Operator.
func (o *operations) Resend(context.Context, string, string) (event.Resent, error) {
	return event.Resent{}, errNotBuilt
}

// CountFailed implements admin.Operator.
func (o *operations) CountFailed(context.Context, event.Query) (event.Tally, error) {
	return event.Tally{}, errNotBuilt
}

// ResendFailed implements admin.Operator.
func (o *operations) ResendFailed(context.Context, event.Query, int, func(event.Tally)) (event.Tally, error) {
	return event.Tally{}, errNotBuilt
}

// Pause implements admin.Operator.
func (o *operations) Pause(context.Context, string) error { return errNotBuilt }

// Resume implements admin.Operator.
func (o *operations) Resume(context.Context, string) error { return errNotBuilt }

// Explain implements admin.Operator.
func (o *operations) Explain(string, string) (event.Explanation, error) {
	return event.Explanation{}, errNotBuilt
}

// CountReplay implements admin.Operator.
func (o *operations) CountReplay(context.Context, event.Query, func(event.Tally)) (event.Tally, error) {
	return event.Tally{}, errNotBuilt
}

// Replay implements admin.Operator.
func (o *operations) Replay(context.Context, event.Query, int, func(event.Tally)) (event.Tally, error) {
	return event.Tally{}, errNotBuilt
}

// Compare implements admin.Operator.
func (o *operations) Compare(context.Context, []byte, event.Query, func(event.Comparison)) (event.Comparison, error) {
	return event.Comparison{}, errNotBuilt
}

// Test implements admin.Operator.
func (o *operations) Test(context.Context, string) (event.Call, error) {
	return event.Call{}, errNotBuilt
}

// Tail implements admin.Operator.
func (o *operations) Tail(event.Query, string) (event.Tail, error) { return event.Tail{}, errNotBuilt }
