package sender

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cmstap/internal/setting"
)

// Breaker says when a webhook that keeps failing is left alone.
type Breaker struct {
	// Failures is how many calls in a row must fail for that; 0: it never is.
	Failures int `yaml:"failures"`
	// Wait is how long it is left alone, before one call tries it again.
	Wait setting.Duration `yaml:"wait"`
}

// UnmarshalText reads the word off.
func (b *Breaker) UnmarshalText(text []byte) error {
	if string(text) != "off" {
		return fmt.Errorf("want off, or { failures: 10, wait: 1m }, not %q", text)
	}
	*b = Breaker{}
	return nil
}

func (b Breaker) validate(check setting.Check) {
	if b == (Breaker{}) {
		return
	}
	if b.Failures < 1 || b.Failures > 10_000 {
		check.Add("failures", "must be from 1 to 10000; breaker: off is for none")
	}
	if b.Wait.Std() < time.Second || b.Wait.Std() > 24*time.Hour {
		check.Add("wait", "must be from 1s to 1d")
	}
}

// The states of a breaker.
const (
	closed   = "closed"    // calls are made
	opened   = "open"      // none is
	halfOpen = "half_open" // one is, to try
)

// breaker is one in use. Its gate's lock guards it.
type breaker struct {
	Breaker
	log      *slog.Logger
	state    string
	failures int       // in a row
	until    time.Time // open
	probing  bool      // half-open: the one call is made
}

// look returns how many of n calls may start now, and if none, when to ask again.
func (b *breaker) look(now time.Time, n int) (allowed int, until time.Time) {
	if b.state == opened && !now.Before(b.until) {
		b.state, b.probing = halfOpen, false
		b.log.Info("breaker", "state", b.state)
	}
	switch {
	case b.state == opened:
		return 0, b.until
	case b.state == halfOpen && b.probing:
		return 0, now.Add(time.Hour) // its end wakes
	case b.state == halfOpen:
		return 1, now
	}
	return n, now
}

// start begins a call that look allowed; a probe decides how it goes on.
func (b *breaker) start() (probe bool) {
	b.probing = b.state == halfOpen
	return b.probing
}

// end takes in how a call ended. Of calls that began before it opened it learns
// nothing.
func (b *breaker) end(now time.Time, probe, troubled bool) {
	switch {
	case b.Failures == 0 || b.state != closed && !probe:
	case !troubled:
		b.failures = 0
		if probe {
			b.state = closed
			b.log.Info("breaker", "state", b.state)
		}
	default:
		if b.failures++; probe || b.failures >= b.Failures {
			b.state, b.until = opened, now.Add(b.Wait.Std())
			b.log.Warn("breaker", "state", b.state, "failures", b.failures, "until", b.until.UTC().Format(time.RFC3339),
				"hint", "the webhook does not work: it is left alone, which costs no attempt, and then tried with one call (webhooks[].breaker)")
		}
	}
}

// abandon forgets a probe that was cut off.
func (b *breaker) abandon(probe bool) {
	if probe {
		b.probing = false
	}
}

// troubled tells whether an answer says that the webhook as a whole does not
// work, and not that it dislikes one event.
func (a answer) troubled() bool {
	return a.failure != "" || a.attempt.Status >= 500 ||
		a.attempt.Status == http.StatusTooManyRequests || a.attempt.Status == http.StatusUnauthorized
}
