package sender

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cmstap/event"
)

// answer is how a call ended, as judge needs it.
type answer struct {
	attempt    event.Attempt
	failure    string        // timeout, connection, refused or unfillable, if there was no status
	retryAfter time.Duration // 0 if the receiver did not ask for a wait
}

// longestWait caps what a receiver can ask for with Retry-After.
const longestWait = 24 * time.Hour

// refused is the failure of a call whose address is not to be called.
const refused = "refused"

// maxRefused bounds the attempts at such an address. A name may lead elsewhere
// in a few minutes; after days the config would still have to be changed.
const maxRefused = 3

// judge says what an attempt means for its delivery. It is pure: the attempt
// has just ended, and chance (0 to 1) spreads the waits by 20 % either way.
func (r *Retry) judge(a answer, chance float64) event.Settlement {
	s := event.Settlement{Attempt: a.attempt}
	switch {
	case a.attempt.Status >= 200 && a.attempt.Status < 300:
		s.Result = event.Delivered
	case a.gone():
		s.Result = event.Retry // at the next start: a mistake loses nothing
	case a.failure == unfillable:
		s.Result, s.Reason = event.GiveUp, "the templates can not be filled in, and another attempt would not change that: "+a.attempt.Error
	case !r.covers(a):
		s.Result, s.Reason = event.GiveUp, "this failure is not retried (webhooks[].retry.on)"
	case a.failure == refused && a.attempt.Number >= maxRefused:
		s.Result, s.Reason = event.GiveUp, "the address is refused (egress)"
	case a.attempt.Number > len(r.Delays):
		s.Result, s.Reason = event.GiveUp, "the last attempt failed (webhooks[].retry)"
	default:
		s.Result = event.Retry
		wait := time.Duration(float64(r.Delays[a.attempt.Number-1]) * (0.8 + 0.4*chance))
		s.Wait = max(wait, a.retryAfter)
	}
	return s
}

// gone tells whether the receiver said that it is there no more.
func (a answer) gone() bool { return a.attempt.Status == http.StatusGone }

// pauses tells whether the receiver asked to be left alone for a while, and not
// only with this delivery.
func (a answer) pauses() bool {
	return a.retryAfter > 0 && (a.attempt.Status == http.StatusTooManyRequests || a.attempt.Status == http.StatusServiceUnavailable)
}

func (r *Retry) covers(a answer) bool {
	if a.failure == refused {
		return slices.Contains(r.On, "connection")
	}
	if a.failure != "" {
		return slices.Contains(r.On, a.failure)
	}
	class := a.attempt.Status / 100
	if class < 3 || class > 5 {
		class = 5 // 101, 999: answers that no receiver should give
	}
	return slices.Contains(r.On, strconv.Itoa(a.attempt.Status)) || slices.Contains(r.On, strconv.Itoa(class)+"xx")
}

// retryAfter reads a Retry-After field, seconds or a date (RFC 9110 section
// 10.2.3); 0 if there is none that can be read, longestWait at most. A date goes
// by the receiver's own clock, if it tells that.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if told, err := http.ParseTime(header.Get("Date")); err == nil {
		now = told
	}
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(longestWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), longestWait)
	}
	return 0
}
