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
	wakes  [3]chan struct{} // of the loops of Run, by kind

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
	host   string
	poll   string // where the result of a job is; else ""
	bytes  int    // of its answers
	since  time.Time
	turn   chan struct{} // holds one while the item is handled

	// Of who has the turn.
	x       *event.Exchange
	asked   int
	refused bool // the last answer was that it was not done
	settled bool

	// Under the resolver's mutex.
	inDoubt bool        // to be asked about
	forget  *time.Timer // the credentials; nil if there are none
	failed  bool        // it could not be stored
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
	firstPoll      = time.Second // of a job
	longestPoll    = 30 * time.Second
)

// New returns a resolver; Run it.
func New(config Config, tap Tap, log *slog.Logger) *Resolver {
	r := &Resolver{config: config, tap: tap, log: log, backoff: firstBackoff}
	for i := range r.wakes {
		r.wakes[i] = make(chan struct{}, 1)
	}
	return r
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
	it := &item{x: x, host: x.Intent.Host, entity: x.Intent.Entity, since: now, due: now, turn: make(chan struct{}, 1)}
	if x.Intent.Job != nil {
		it.poll = x.Intent.Job.Poll
	}
	ask := x.Outcome == event.Unknown && !x.Intent.Unrecorded && r.tap.Askable(x)
	r.mu.Lock()
	defer r.mu.Unlock()
	if (x.Outcome == event.NotSent || x.Intent.Unrecorded) && len(r.waiting) >= maxWaiting {
		return // its intent is hardly stored; if it is, the next start resolves it
	}
	r.hold(it, x)
	r.waiting = append(r.waiting, it)
	if ask && (it.poll != "" || r.doubts < maxDoubts) {
		it.inDoubt = true
		it.due, _ = r.nextTime(it)
		if it.poll == "" {
			r.doubts++
		}
	}
	if len(x.Credentials) > 0 {
		known := time.Duration(0) // for how long
		if !x.Time.IsZero() {
			known = now.Sub(x.Time)
		}
		it.forget = time.AfterFunc(credentialsFor-known, it.forgetCredentials)
	}
	r.wakeUp()
}

// hold counts what an item keeps of answers, and drops them if that is too much.
// The caller holds the resolver's mutex.
func (r *Resolver) hold(it *item, x *event.Exchange) {
	if r.held-it.bytes+bytesOf(x) > maxHeld {
		x.Answer, x.Read = event.Copy{Err: "the outbox was stalled for too long to keep the answer"}, nil
	}
	r.held += bytesOf(x) - it.bytes
	it.bytes = bytesOf(x)
}

func (r *Resolver) hasRoom(it *item, x *event.Exchange) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held-it.bytes+bytesOf(x) <= maxHeld
}

// bytesOf is what an exchange keeps of answers.
func bytesOf(x *event.Exchange) int {
	n := len(x.Answer.Bytes)
	for _, read := range x.Read {
		n += len(read.Bytes)
	}
	return n
}

// wakeUp has the loops look again for what is due.
func (r *Resolver) wakeUp() {
	for _, wake := range r.wakes {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (it *item) forgetCredentials() {
	it.turn <- struct{}{}
	it.x.Credentials = nil
	<-it.turn
}

// Before is called before another write to an entity is forwarded: now the
// entity can still tell that an earlier one was done. It asks with the
// credentials of the new one, and gives up when ctx ends. That an earlier one
// was not done is not believed here: the CMS may be at work on it still.
func (r *Resolver) Before(ctx context.Context, entity string, with event.Credentials) {
	r.mu.Lock()
	var doubts []*item
	if r.doubts > 0 && entity != "" {
		for _, it := range r.waiting {
			if it.inDoubt && it.poll == "" && it.entity == entity {
				doubts = append(doubts, it)
			}
		}
	}
	r.mu.Unlock()
	for _, it := range doubts {
		r.handle(ctx, it, func() bool { return r.wasDone(ctx, it, with) })
	}
}

// Told is called when somebody else was told a result: result says what it means
// for the jobs that wait for it.
func (r *Resolver) Told(ctx context.Context, host, poll string, result func(*event.Exchange) (event.Verdict, *event.Exchange)) {
	r.mu.Lock()
	var jobs []*item
	for _, it := range r.waiting {
		if it.inDoubt && it.poll == poll && it.host == host {
			jobs = append(jobs, it)
		}
	}
	r.mu.Unlock()
	for _, it := range jobs {
		r.handle(ctx, it, func() bool { return r.ended(it, result) })
	}
}

// ended tells whether a job has a result.
func (r *Resolver) ended(it *item, result func(*event.Exchange) (event.Verdict, *event.Exchange)) bool {
	verdict, x := result(it.x)
	if verdict == event.Doubt {
		return false
	}
	if verdict == event.Rejected {
		x.Outcome = event.Refused
	}
	r.decide(it, x)
	return true
}

// kind is what is to be done about an item; each has a loop of its own, so that
// a CMS that hangs keeps nothing else waiting.
type kind int

const (
	settles kind = iota // it is decided, and to be stored
	doubts
	jobs
)

// kind is what is to be done. The caller holds the resolver's mutex.
func (it *item) kind() kind {
	switch {
	case !it.inDoubt:
		return settles
	case it.poll == "":
		return doubts
	default:
		return jobs
	}
}

// Run settles what is added until ctx ends.
func (r *Resolver) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for i, wake := range r.wakes {
		loops.Go(func() { r.loop(ctx, wake, kind(i)) })
	}
	loops.Wait()
}

func (r *Resolver) loop(ctx context.Context, wake <-chan struct{}, of kind) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		r.round(ctx, of)
		if next, some := r.nextDue(of); some {
			timer.Reset(time.Until(next))
		}
	}
}

// round handles what is due, a few at a time.
func (r *Resolver) round(ctx context.Context, of kind) {
	now := time.Now()
	var due []*item
	r.mu.Lock()
	for _, it := range r.waiting {
		if it.kind() == of && !it.due.After(now) {
			due = append(due, it)
		}
	}
	r.mu.Unlock()
	work := make(chan *item)
	var workers sync.WaitGroup
	for range min(maxAsking, len(due)) {
		workers.Go(func() {
			for it := range work {
				r.handle(ctx, it, func() bool { return r.decided(ctx, it) })
			}
		})
	}
	for _, it := range due {
		work <- it
	}
	close(work)
	workers.Wait()
	if of != settles {
		return
	}
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

func (r *Resolver) nextDue(of kind) (next time.Time, some bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.waiting {
		if it.kind() == of && (!some || it.due.Before(next)) {
			next, some = it.due, true
		}
	}
	return next, some
}

// handle settles an item, if it is in doubt only once that is decided. What can
// not be stored now is due again soon.
func (r *Resolver) handle(ctx context.Context, it *item, decided func() bool) {
	select {
	case it.turn <- struct{}{}:
		defer func() { <-it.turn }()
	case <-ctx.Done():
		return
	}
	if it.settled || ctx.Err() != nil || r.isInDoubt(it) && !decided() {
		return
	}
	if err := r.tap.Settle(ctx, it.x); err != nil {
		r.say(ctx, err)
		r.mu.Lock()
		it.failed, it.due = true, time.Now().Add(r.backoff)
		r.mu.Unlock()
		r.wakeUp()
		return
	}
	it.settled = true
	r.remove(it)
}

func (r *Resolver) isInDoubt(it *item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return it.inDoubt
}

// wasDone asks the CMS with somebody's credentials and tells whether the write
// was done.
func (r *Resolver) wasDone(ctx context.Context, it *item, with event.Credentials) bool {
	verdict, x := r.tap.Ask(ctx, it.x, with)
	if verdict == event.Accepted {
		r.decide(it, x)
	}
	return verdict == event.Accepted
}

// decided asks the CMS when it is time and tells whether the item can be settled
// now. That a write was not done is believed the second time: the CMS may be at
// work on it still.
func (r *Resolver) decided(ctx context.Context, it *item) bool {
	it.asked++
	verdict, x := r.tap.Ask(ctx, it.x, it.x.Credentials)
	next, more := r.nextTime(it)
	switch {
	case ctx.Err() != nil:
		return false
	case verdict == event.Rejected && (it.refused || it.poll != ""):
		x.Outcome = event.Refused
	case more && (verdict != event.Accepted || it.poll != "" && !r.hasRoom(it, x)): // a result is there later, too
		it.refused = verdict == event.Rejected
		r.mu.Lock()
		defer r.mu.Unlock()
		it.due = next
		return false
	}
	r.decide(it, x)
	return true
}

// nextTime is when to ask about an item again; there is no more after the last
// time, or after a job's end.
func (r *Resolver) nextTime(it *item) (at time.Time, more bool) {
	if job := it.x.Intent.Job; job != nil {
		now := time.Now()
		at = now.Add(min(firstPoll<<min(it.asked, 10), longestPoll))
		if at.After(job.Until) {
			at = job.Until
		}
		return at, now.Before(job.Until)
	}
	if it.asked == len(r.config.AskAfter) {
		return time.Time{}, false
	}
	return it.since.Add(r.config.AskAfter[it.asked].Std()), true
}

// decide ends the doubt about an item.
func (r *Resolver) decide(it *item, x *event.Exchange) {
	it.x.Credentials, x.Credentials = nil, nil
	it.x = x
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold(it, x)
	it.inDoubt, it.due = false, time.Now()
	if it.poll == "" {
		r.doubts--
	}
}

func (r *Resolver) remove(it *item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= it.bytes
	if it.forget != nil {
		it.forget.Stop()
	}
	if i := slices.Index(r.waiting, it); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
}
