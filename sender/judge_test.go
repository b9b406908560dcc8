package sender

import (
	"net/http"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestJudge(t *testing.T) {
	t.Parallel()
	retry := presets[standard]
	some := Retry{Delays: []setting.Duration{setting.Duration(time.Minute)}, On: []string{"timeout", "429", "5xx"}}
	check := func(r Retry, a answer, chance float64, result event.Result, wait time.Duration, reason string) {
		t.Helper()
		s := r.judge(a, chance)
		if s.Result != result || s.Reason != reason || s.Attempt != a.attempt {
			t.Errorf("got %+v", s)
		}
		if s.Wait != wait {
			t.Errorf("next after %v, want %v", s.Wait, wait)
		}
	}
	answered := func(status, number int) answer {
		return answer{attempt: event.Attempt{Number: number, Status: status, Time: now}}
	}
	failed := func(failure string, number int) answer {
		return answer{attempt: event.Attempt{Number: number, Error: "x"}, failure: failure}
	}
	asked := func(status int, wait time.Duration) answer {
		a := answered(status, 1)
		a.retryAfter = wait
		return a
	}
	const (
		last   = "the last attempt failed (webhooks[].retry)"
		notOn  = "this failure is not retried (webhooks[].retry.on)"
		first  = 5 * time.Second
		middle = 0.5
	)
	for _, status := range []int{200, 201, 202, 204, 206, 299} {
		check(retry, answered(status, 1), middle, event.Delivered, 0, "")
		check(retry, answered(status, 99), middle, event.Delivered, 0, "")
	}
	for _, status := range []int{101, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 499, 500, 501, 502, 503, 504, 599, 600, 999} {
		check(retry, answered(status, 1), middle, event.Retry, first, "")
		check(retry, answered(status, 8), middle, event.GiveUp, 0, last)
	}
	check(retry, answered(410, 1), middle, event.Retry, 0, "")
	check(retry, answered(410, 8), middle, event.Retry, 0, "")
	check(retry, failed("timeout", 1), middle, event.Retry, first, "")
	check(retry, failed("connection", 1), middle, event.Retry, first, "")
	check(retry, failed("connection", 8), middle, event.GiveUp, 0, last)

	check(retry, answered(500, 2), middle, event.Retry, 5*time.Minute, "")
	check(retry, answered(500, 3), middle, event.Retry, 30*time.Minute, "")
	check(retry, answered(500, 4), middle, event.Retry, 2*time.Hour, "")
	check(retry, answered(500, 5), middle, event.Retry, 5*time.Hour, "")
	check(retry, answered(500, 6), middle, event.Retry, 10*time.Hour, "")
	check(retry, answered(500, 7), middle, event.Retry, 10*time.Hour, "")
	check(retry, answered(500, 1), 0, event.Retry, 4*time.Second, "")
	check(retry, answered(500, 1), 1, event.Retry, 6*time.Second, "")

	check(retry, asked(429, time.Hour), middle, event.Retry, time.Hour, "")
	check(retry, asked(503, time.Second), middle, event.Retry, first, "")
	check(retry, asked(200, time.Hour), middle, event.Delivered, 0, "")

	check(some, answered(429, 1), middle, event.Retry, time.Minute, "")
	check(some, answered(503, 1), middle, event.Retry, time.Minute, "")
	check(some, answered(503, 2), middle, event.GiveUp, 0, last)
	check(some, answered(404, 1), middle, event.GiveUp, 0, notOn)
	check(some, answered(302, 1), middle, event.GiveUp, 0, notOn)
	check(some, failed("timeout", 1), middle, event.Retry, time.Minute, "")
	check(some, failed("connection", 1), middle, event.GiveUp, 0, notOn)
	check(Retry{On: everyFailure}, answered(500, 1), middle, event.GiveUp, 0, last)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	check := func(value string, want time.Duration) {
		t.Helper()
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
	check("", 0)
	check("0", 0)
	check("120", 2*time.Minute)
	check("86400", 24*time.Hour)
	check("86401", 24*time.Hour)
	check("9999999999", 24*time.Hour)
	check("99999999999999999999999999", 24*time.Hour)
	check("-5", 0)
	check("1.5", 0)
	check("soon", 0)
	check("Fri, 02 Jan 2026 03:05:05 GMT", time.Minute)
	check("Fri, 02 Jan 2026 03:04:05 GMT", 0)
	check("Thu, 01 Jan 2026 03:04:05 GMT", 0)
	check("Fri, 02 Jan 2099 03:04:05 GMT", 24*time.Hour)
	check("2026-01-02T03:05:05Z", 0)
	byItsOwn := http.Header{"Retry-After": {"Fri, 02 Jan 2026 03:05:05 GMT"}, "Date": {"Fri, 02 Jan 2026 03:04:05 GMT"}}
	if got := retryAfter(byItsOwn, now.Add(5*time.Hour)); got != time.Minute {
		t.Errorf("by the receiver's own clock: %v", got)
	}
}
