package main

import (
	"context"
	"time"
)

// How often what waits is said, and how long it must have waited for that: what is
// on its way is no backlog.
const (
	sayEvery = time.Minute
	tooLong  = 30 * time.Second
)

// sayBacklogs says once a minute of each webhook what waits for it, until ctx ends.
func (a *app) sayBacklogs(ctx context.Context) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.sayBacklog(time.Now())
		}
	}
}

// sayBacklog writes a line for each webhook with a backlog at the time now.
func (a *app) sayBacklog(now time.Time) {
	backlogs, err := a.outbox.Backlogs()
	if err != nil {
		return // the store says it
	}
	breakers := a.sender.Breakers()
	for _, b := range backlogs {
		age := now.Sub(b.Oldest)
		if b.Waiting == 0 || b.Parked || age < tooLong {
			continue // what is parked was said when it came to that
		}
		a.log.Warn("backlog", "webhook", b.Webhook, "waiting", b.Waiting, "oldest", age.Round(time.Second), "dead", b.Dead, "breaker", breakers[b.Webhook])
	}
}
