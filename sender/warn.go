package sender

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/sender/shape"
)

// Bounds of what is doubtful.
const (
	longTimeout   = time.Minute // a receiver should answer first and work afterwards
	shortSchedule = time.Minute // less than a restart of the receiver may take
	quickWait     = time.Second
	manyQuick     = 3
	goodKey       = 24 // bytes; by Standard Webhooks
)

// Warn reports what is allowed, but loses deliveries or hurts the receiver.
func (e *Endpoint) Warn(check setting.Check) {
	if e.Timeout.Std() > longTimeout {
		check.Warn("timeout", "a receiver that hangs holds each call for %v; have it answer first and work afterwards, and give 1m or less", e.Timeout)
	}
	if key, _ := shape.Key(e.Signing.Secret.Reveal()); e.Signing.Scheme == shape.Standard && len(key) > 0 && len(key) < goodKey {
		check.Warn("signing.secret", "the key has %d bytes, and Standard Webhooks asks for %d at least; make one with: echo whsec_$(openssl rand -base64 %d)", len(key), goodKey, goodKey)
	}
	e.Retry.warn(check.In("retry"))
}

func (r *Retry) warn(check setting.Check) {
	if len(r.Delays) == 0 {
		check.Warn("delays", "a call is made once: what fails is lost; leave retry out for %v", presets[standard])
		return
	}
	quick := 0
	for _, delay := range r.Delays {
		if delay.Std() < quickWait {
			quick++
		}
	}
	if total := r.total(); total < shortSchedule {
		check.Warn("delays", "the last attempt comes %v after the first: a receiver that is away for a minute loses events; end with longer waits, for example 1m, 10m, 1h",
			setting.Duration(total))
	} else if quick >= manyQuick {
		check.Warn("delays", "%d waits are under 1s: they load a receiver that is in trouble already; let the waits grow", quick)
	}
	final := r.final()
	switch {
	case len(final) == 0:
	case slices.Equal(r.On, presets[r.preset].On): // as it is named in the file
		check.Warn("", "%s does not name %s, as the vendor's own webhooks do not: such a failure ends the delivery at once; leave retry out for %v",
			r.preset, strings.Join(final, ", "), presets[standard])
	default:
		check.Warn("on", "does not name %s: such a failure ends the delivery at once; add it, or leave on out", strings.Join(final, ", "))
	}
}

// total is the time from the first attempt to the last, without its spread.
func (r *Retry) total() time.Duration {
	var total time.Duration
	for _, delay := range r.Delays {
		total += delay.Std()
	}
	return total
}

// final lists the failures that a retry mostly mends, and that are not retried.
func (r *Retry) final() []string {
	var names []string
	for _, mended := range []struct {
		name string
		answer
	}{
		{"timeout", answer{failure: "timeout"}},
		{"connection", answer{failure: "connection"}},
		{"429", answer{attempt: event.Attempt{Status: http.StatusTooManyRequests}}},
		{"5xx", answer{attempt: event.Attempt{Status: http.StatusServiceUnavailable}}},
	} {
		if !r.covers(mended.answer) {
			names = append(names, mended.name)
		}
	}
	return names
}

// String is the schedule in short: 8 attempts over 1d3h35m5s.
func (r Retry) String() string {
	if len(r.Delays) == 0 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts over %v", len(r.Delays)+1, setting.Duration(r.total()))
}
