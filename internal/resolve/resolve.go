// Package resolve settles what a write left open: how it ended could not be
// stored in time, or nobody knows how it ended. Then the CMS is asked, by
// reading the entity; if it can not tell either, the event goes out
// unconfirmed.
package resolve

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Config is the part recovery of the config file.
type Config struct {
	// Token reads entities when the credentials of who wrote are not known any
	// more: after a restart.
	Token setting.Secret `yaml:"token"`
	// AskAfter is when the CMS is asked about a write in doubt, counted from
	// the doubt on. After the last time the event goes out unconfirmed.
	AskAfter []setting.Duration `yaml:"ask_after"`
}

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config {
	return Config{AskAfter: []setting.Duration{
		setting.Duration(10 * time.Second), setting.Duration(time.Minute), setting.Duration(5 * time.Minute),
	}}
}

// Validate reports what is wrong with the settings.
func (c Config) Validate(check setting.Check) {
	if len(c.AskAfter) == 0 || len(c.AskAfter) > 10 {
		check.Add("ask_after", "want one to ten time spans, for example [10s, 1m, 5m]")
	}
	for i := range c.AskAfter {
		if i > 0 && c.AskAfter[i] <= c.AskAfter[i-1] {
			check.Add(fmt.Sprintf("ask_after[%d]", i), "must be longer than the one before it")
		}
	}
}

// Tap is what the resolver needs of the path of a write.
type Tap interface {
	// Settle stores how a write ended. It may be repeated.
	Settle(ctx context.Context, x *event.Exchange) error
	// Askable tells whether there is a way to ask about a write.
	Askable(x *event.Exchange) bool
	// Ask asks the CMS what became of a write. If it was done, the exchange to
	// settle is returned too.
	Ask(ctx context.Context, x *event.Exchange, with event.Credentials) (event.Verdict, *event.Exchange)
}

// Resolver keeps what is open until it is settled.
type Resolver struct {
	config Config
	tap    Tap
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	waiting []*item
	doubts  int
	held    int // bytes of their answers
	backoff time.Duration
	said    bool // that there is a trouble
}

// item is a write that is open.
type item struct {
	entity string
	bytes  int // of its answer
	since  time.Time
	turn   chan struct{} // holds one while the item is handled

	// Of who has the turn.
	x       *event.Exchange
	asked   int
	settled bool

	// Under the resolver's mutex.
	inDoubt bool // to be asked about
	failed  bool // it could not be stored
	due     time.Time
}

// Bounds of what is kept in memory, at work and on the CMS.
const (
	maxWaiting     = 20_000
	maxHeld        = 64 << 20
	maxDoubts      = 1000 // what comes on top is not asked about
	maxAsking      = 4
	credentialsFor = 10 * time.Minute
	firstBackoff   = 100 * time.Millisecond
	longestBackoff = 10 * time.Second
)

// New returns a resolver; Run it.
func New(config Config, tap Tap, log *slog.Logger) *Resolver {
	return &Resolver{config: config, tap: tap, log: log, wake: make(chan struct{}, 1), backoff: firstBackoff}
}

// AddOrphans adds the writes that an earlier process left open.
func (r *Resolver) AddOrphans(intents []event.Intent, now time.Time) {
	for i := range intents {
		r.Add(&event.Exchange{Intent: &intents[i], Outcome: event.Unknown, Time: now})
	}
}

// Add takes over a write that is open.
func (r *Resolver) Add(x *event.Exchange) {
	now := time.Now()
	it := &item{x: x, entity: x.Intent.Entity, since: now, due: now, turn: make(chan struct{}, 1)}
	ask := x.Outcome == event.Unknown && !x.Intent.Unrecorded && r.tap.Askable(x)
	r.mu.Lock()
	defer r.mu.Unlock()
	if (x.Outcome == event.NotSent || x.Intent.Unrecorded) && len(r.waiting) >= maxWaiting {
		return // its intent is hardly stored; if it is, the next start resolves it
	}
	if r.held+len(x.Answer.Bytes) > maxHeld {
		x.Answer = event.Copy{Err: "the outbox was stalled for too long to keep the answer"}
	}
	it.bytes = len(x.Answer.Bytes)
	r.held += it.bytes
	r.waiting = append(r.waiting, it)
	if ask && r.doubts < maxDoubts {
		r.doubts++
		it.inDoubt, it.due = true, now.Add(r.config.AskAfter[0].Std())
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Before is called before another write to an entity is forwarded: now the
// entity can still tell what became of an earlier one. It asks with the
// credentials of the new one, and gives up when ctx ends.
func (r *Resolver) Before(ctx context.Context, entity string, with event.Credentials) {
	r.mu.Lock()
	var doubts []*item
	if r.doubts > 0 && entity != "" {
		for _, it := range r.waiting {
			if it.inDoubt && it.entity == entity {
				doubts = append(doubts, it)
			}
		}
	}
	r.mu.Unlock()
	for _, it := range doubts {
		_ = r.handle(ctx, it, true, with) // what can not be stored now is repeated by Run
	}
}

// Run settles what is added until ctx ends.
func (r *Resolver) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		r.round(ctx)
		if next, some := r.nextDue(); some {
			timer.Reset(time.Until(next))
		}
	}
}

// round handles what is due, a few at a time.
func (r *Resolver) round(ctx context.Context) {
	now := time.Now()
	var due []*item
	r.mu.Lock()
	for _, it := range r.waiting {
		if !it.due.After(now) {
			due = append(due, it)
		}
	}
	r.mu.Unlock()
	work := make(chan *item)
	var workers sync.WaitGroup
	for range min(maxAsking, len(due)) {
		workers.Go(func() {
			for it := range work {
				if err := r.handle(ctx, it, false, nil); err != nil {
					r.say(ctx, err)
				}
			}
		})
	}
	for _, it := range due {
		work <- it
	}
	close(work)
	workers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backoff = min(2*r.backoff, longestBackoff)
	if !slices.ContainsFunc(r.waiting, func(it *item) bool { return it.failed }) {
		r.backoff, r.said = firstBackoff, false
	}
}

// say writes one line about a trouble, until it is over.
func (r *Resolver) say(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.said && ctx.Err() == nil {
		r.said = true
		r.log.Error("store", "error", err, "hint", "how a write ended can not be stored; that is repeated until it works")
	}
}

func (r *Resolver) nextDue() (next time.Time, some bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.waiting {
		if !some || it.due.Before(next) {
			next, some = it.due, true
		}
	}
	return next, some
}

// handle asks about an item if it is in doubt, and settles it unless it still
// is. If another write waits for that, with are its credentials.
func (r *Resolver) handle(ctx context.Context, it *item, waits bool, with event.Credentials) error {
	select {
	case it.turn <- struct{}{}:
		defer func() { <-it.turn }()
	case <-ctx.Done():
		return nil
	}
	if it.settled || ctx.Err() != nil || r.isInDoubt(it) && !r.decided(ctx, it, waits, with) {
		return nil
	}
	if err := r.tap.Settle(ctx, it.x); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		it.failed, it.due = true, time.Now().Add(r.backoff)
		return err
	}
	it.settled = true
	r.remove(it)
	return nil
}

func (r *Resolver) isInDoubt(it *item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return it.inDoubt
}

// decided asks the CMS and tells whether the item can be settled now. That a
// write was not done is believed the second time: the CMS may be at work on it
// still. But a write that waits settles it: what it does comes later.
func (r *Resolver) decided(ctx context.Context, it *item, waits bool, with event.Credentials) bool {
	if !waits {
		it.asked++
		if time.Since(it.since) < credentialsFor {
			with = it.x.Credentials
		}
	}
	verdict, x := r.tap.Ask(ctx, it.x, with)
	last := it.asked == len(r.config.AskAfter)
	switch {
	case verdict == event.Accepted:
		it.x = x
	case verdict == event.Rejected && (waits || last || it.asked > 1):
		it.x.Outcome = event.Refused
	case waits, ctx.Err() != nil:
		return false
	case !last:
		r.mu.Lock()
		defer r.mu.Unlock()
		it.due = it.since.Add(r.config.AskAfter[it.asked].Std())
		return false
	}
	it.x.Credentials = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	it.inDoubt, it.due = false, time.Now()
	r.doubts--
	return true
}

func (r *Resolver) remove(it *item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= it.bytes
	if i := slices.Index(r.waiting, it); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
}
