// Package resolve ends what is in doubt: writes whose answer was not seen.
// It runs beside the listener, never before it.
package resolve

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cmstap/event"
)

// Resolver turns exchanges in doubt into unconfirmed events: nobody saw the CMS
// refuse them, and doubt delivers.
type Resolver struct {
	commit func(context.Context, *event.Exchange) error
	log    *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex
	doubts []*event.Exchange
}

// New returns a resolver. Commit derives, matches and stores the events of an
// exchange and ends its intent.
func New(commit func(context.Context, *event.Exchange) error, log *slog.Logger) *Resolver {
	return &Resolver{commit: commit, log: log, wake: make(chan struct{}, 1)}
}

// AddOrphans takes the intents that an earlier process left open.
func (r *Resolver) AddOrphans(intents []event.Intent, now time.Time) {
	for i := range intents {
		r.Add(&event.Exchange{Intent: &intents[i], Outcome: event.Unknown, Time: now})
	}
}

// Add takes an exchange in doubt and returns at once.
func (r *Resolver) Add(x *event.Exchange) {
	r.mu.Lock()
	r.doubts = append(r.doubts, x)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run resolves until ctx ends. What is left then is an orphan of the next
// start.
func (r *Resolver) Run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-retry.C:
		}
		if !r.resolveAll(ctx) {
			retry.Reset(time.Second)
		}
	}
}

// resolveAll works through the doubts; false means that some are left.
func (r *Resolver) resolveAll(ctx context.Context) bool {
	for {
		r.mu.Lock()
		if len(r.doubts) == 0 {
			r.mu.Unlock()
			return true
		}
		x := r.doubts[0]
		r.mu.Unlock()
		if err := r.commit(ctx, x); err != nil {
			if ctx.Err() == nil {
				r.log.Error("store", "error", err, "hint", "a write in doubt is kept and tried again")
			}
			return false
		}
		r.mu.Lock()
		r.doubts = r.doubts[1:]
		r.mu.Unlock()
	}
}
