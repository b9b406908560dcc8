package sender

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// gate says when calls of a webhook may start. What it holds back stays in the
// store, and costs no attempt. It is kept in memory: a restart begins anew.
type gate struct {
	log *slog.Logger

	mu     sync.Mutex
	wake   chan struct{} // closed when more may start
	paused time.Time     // by Retry-After
}

func newGate(_ Endpoint, log *slog.Logger) *gate {
	return &gate{log: log, wake: make(chan struct{})}
}

// wait returns how many of n calls may start, and waits for the first; 0 means
// that ctx ended.
func (g *gate) wait(ctx context.Context, n int) int {
	for {
		allowed, until, wake := g.look(time.Now(), n)
		if allowed > 0 || ctx.Err() != nil {
			return allowed
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look returns how many of n calls may start now. If none may, it is to be
// asked again at a time, or when it wakes.
func (g *gate) look(now time.Time, n int) (allowed int, until time.Time, wake <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.paused) {
		return 0, g.paused, g.wake
	}
	return n, now, g.wake
}

// start begins a call, if it still may.
func (g *gate) start(now time.Time) (allowed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !now.Before(g.paused)
}

// end takes in how a call ended.
func (g *gate) end(now time.Time, a answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.pauses() {
		g.pause(now, a)
	}
}

// pause holds everything back for as long as the receiver asked for.
func (g *gate) pause(now time.Time, a answer) {
	until := now.Add(a.retryAfter)
	if !now.Before(g.paused) { // it is said once, not for each call that was under way
		g.log.Warn("paused", "status", a.attempt.Status, "until", until.UTC().Format(time.RFC3339),
			"hint", "the receiver asked for it with Retry-After; what waits costs no attempt")
	}
	if until.After(g.paused) {
		g.paused = until
	}
}
