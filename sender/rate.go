package sender

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"cmstap/internal/setting"
)

// Rate is how many calls may start within a span of time; none for any number.
type Rate struct {
	Calls int
	Per   time.Duration
}

// Bounds of a rate; a start takes 24 bytes of memory.
const (
	maxCalls = 10_000
	maxPer   = 24 * time.Hour
)

// UnmarshalText reads 5/s or 10/1m.
func (r *Rate) UnmarshalText(text []byte) error {
	calls, per, _ := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(calls)
	if len(per) == 1 { // a unit alone
		per = "1" + per
	}
	var span setting.Duration
	if err != nil || span.UnmarshalText([]byte(per)) != nil || n < 1 || n > maxCalls || span.Std() < time.Millisecond || span.Std() > maxPer {
		return fmt.Errorf("want calls and a span of time such as 5/s or 10/1m, at most %d and 1d, not %q", maxCalls, text)
	}
	*r = Rate{n, span.Std()}
	return nil
}

// String returns 10/1m0s, or nothing for no bound.
func (r Rate) String() string {
	if r.Calls == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%v", r.Calls, r.Per)
}

// pace keeps to a rate, in any span of that length. Its gate's lock guards it.
type pace struct {
	per    time.Duration
	starts []time.Time // the last ones, in a ring
	oldest int
}

func newPace(r Rate) pace { return pace{per: r.Per, starts: make([]time.Time, r.Calls)} }

// look returns how many of n calls may start now, and if none, when one may.
func (p *pace) look(now time.Time, n int) (allowed int, until time.Time) {
	if len(p.starts) == 0 {
		return n, now
	}
	for allowed < min(n, len(p.starts)) && !now.Before(p.free(allowed)) {
		allowed++
	}
	return allowed, p.free(0)
}

// free is when the nth call from now on may start.
func (p *pace) free(n int) time.Time {
	return p.starts[(p.oldest+n)%len(p.starts)].Add(p.per)
}

func (p *pace) start(now time.Time) {
	if len(p.starts) > 0 {
		p.starts[p.oldest] = now
		p.oldest = (p.oldest + 1) % len(p.starts)
	}
}
