// Package resolve ends what a request could not: writes in doubt, and writes
// whose end could not be stored in time. It runs beside the listener, never
// before it.
package resolve

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cmstap/event"
)

// Resolver settles exchanges, again and again until that works. One in doubt
// becomes unconfirmed events: nobody saw the CMS refuse it, and doubt delivers.
type Resolver struct {
	settle func(context.Context, *event.Exchange) error
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	waiting []*event.Exchange
	held    int // bytes of their answers
}

// What may wait in memory. The intents of all but the not-sent ones are on
// disk, so outbox.max_open bounds those; answers beyond the bytes are let go.
const (
	maxWaiting = 20_000
	maxHeld    = 64 << 20
)

// New returns a resolver. Settle stores how a write ended and ends its intent.
func New(settle func(context.Context, *event.Exchange) error, log *slog.Logger) *Resolver {
	return &Resolver{settle: settle, log: log, wake: make(chan struct{}, 1)}
}

// AddOrphans takes the intents that an earlier process left open.
func (r *Resolver) AddOrphans(intents []event.Intent, now time.Time) {
	for i := range intents {
		r.Add(&event.Exchange{Intent: &intents[i], Outcome: event.Unknown, Time: now})
	}
}

// Add takes an exchange and returns at once.
func (r *Resolver) Add(x *event.Exchange) {
	r.keep(x)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Resolver) keep(x *event.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.Outcome == event.NotSent && len(r.waiting) >= maxWaiting {
		return // its intent is hardly stored; if it is, the next start resolves it
	}
	if r.held+len(x.Answer.Bytes) > maxHeld {
		x.Answer = event.Copy{Err: "the outbox was stalled for too long to keep the answer"}
	}
	r.held += len(x.Answer.Bytes)
	r.waiting = append(r.waiting, x)
}

// Run resolves until ctx ends. What is left then is an orphan of the next
// start.
func (r *Resolver) Run(ctx context.Context) {
	const first, longest = 100 * time.Millisecond, 10 * time.Second
	wait, retry := first, time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-retry.C:
		}
		err := r.round(ctx)
		if err == nil {
			wait = first
			continue
		}
		if wait == first && ctx.Err() == nil {
			r.log.Error("store", "error", err, "hint", "how a write ended can not be stored; that is repeated until it works")
		}
		retry.Reset(wait)
		wait = min(2*wait, longest)
	}
}

// round tries everything that waits once, and returns the last error. What
// fails does not keep the rest from its turn.
func (r *Resolver) round(ctx context.Context) (last error) {
	r.mu.Lock()
	all := r.waiting
	r.waiting, r.held = nil, 0
	r.mu.Unlock()
	for _, x := range all {
		if err := r.settle(ctx, x); err != nil {
			last = err
			r.keep(x)
		}
	}
	return last
}
