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

	mu      sync.Mutex
	wake    chan struct{} // closed when more may start
	paused  time.Time     // by Retry-After
	breaker breaker
	pace    pace
}

func newGate(e Endpoint, log *slog.Logger) *gate {
	return &gate{log: log, wake: make(chan struct{}), breaker: breaker{Breaker: e.Breaker, log: log, state: closed}, pace: newPace(e.Rate)}
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
	allowed, until = g.free(now, n)
	return allowed, until, g.wake
}

func (g *gate) free(now time.Time, n int) (allowed int, until time.Time) {
	if now.Before(g.paused) {
		return 0, g.paused
	}
	if allowed, until = g.breaker.look(now, n); allowed > 0 {
		return g.pace.look(now, allowed)
	}
	return allowed, until
}

// start begins a call, if it still may. Its end is told with end or abandon.
func (g *gate) start(now time.Time) (allowed, probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if free, _ := g.free(now, 1); free == 0 {
		return false, false
	}
	g.pace.start(now)
	return true, g.breaker.start()
}

// end takes in how a call ended.
func (g *gate) end(now time.Time, probe bool, a answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.pauses() {
		g.pause(now, a)
	}
	g.breaker.end(now, probe, a.troubled())
	g.notify()
}

// abandon takes in that a call was cut off, and says nothing of the webhook.
func (g *gate) abandon(probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breaker.abandon(probe)
	g.notify()
}

// notify wakes the one that waits. The caller holds the lock.
func (g *gate) notify() {
	close(g.wake)
	g.wake = make(chan struct{})
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
