// Package outbox keeps what must survive a crash: intents, events, deliveries
// and attempts. It is the only package that knows Badger.
//
// The contract:
//
//   - Begin, Drop, Commit and Settle return nil only after what they wrote was
//     synced to disk (unless sync is off). An error means "not known to be
//     stored": repeat the call, a Begin with a new id.
//   - An intent that Begin stored stays until Commit or Drop removes it. What
//     is left after a crash is returned by Orphans.
//   - Commit stores all events of an exchange, their deliveries and the removal
//     of the intent, or nothing. Committing an event id again changes nothing.
//   - Seq numbers events in commit order; a later commit has a higher number.
//   - A delivery stays until Settle says delivered or given up. A crash repeats
//     deliveries whose attempt was not settled; it never loses one.
//   - Next hands out at most one delivery of a webhook and entity at a time, in
//     commit order; the next one follows when that one is settled for good. A
//     webhook with order none gets all that is due.
//   - Attempts and due times survive a restart exactly. While a process runs they
//     do not depend on the system's clock being set; at an Open nothing is
//     further away than it was told to wait.
//   - One process uses a folder at a time; a second Open fails.
//   - Below min_free Begin returns ErrNoSpace; below half of it everything does,
//     and nothing is written. What was stored before stays. A store that can not
//     be opened for want of space is opened later; see Ready.
//   - After an error of the disk nothing is stored until the next Open: what came
//     after a failed sync could be lost with it. Reads go on.
//   - A webhook that Pause was told of gets nothing until Resume, over restarts
//     too. What is handed out already goes on.
//   - Resend and Redeliver make a delivery due once more under the event's id, with
//     attempts that begin anew. It goes behind all of its entity that follows from
//     writes, also what comes later, until it is handed out; if it fails, it goes
//     behind again. What is made once more of an entity goes in commit order.
//   - Resend of a delivery that waits leaves it at its place. In a batch it keeps its
//     due time, and one whose bundle failed is refused: a bundle is sent again whole.
//   - Bodies of requests, credentials and query strings never get here.
package outbox

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/dgraph-io/badger/v4"
)

// ErrFull says that an intent can not be stored because too many are open.
var ErrFull = errors.New("too many open intents (outbox.max_open)")

// Outbox is a store, open or waiting for space to be opened. Its methods may be called from any goroutine.
type Outbox struct {
	config  Config
	db      *badger.DB // of others than its opener only once ready is closed
	log     *slog.Logger
	now     func() time.Time
	guard   *guard
	ready   chan struct{} // closed once the store is open
	writes  chan *write
	stop    chan struct{} // closed when Close begins
	ended   chan struct{} // closed when the committer has ended
	done    sync.WaitGroup
	reading sync.RWMutex // Badger must not be read while it closes
	orphans []event.Intent
	open    atomic.Int64  // open intents
	large   chan struct{} // held by the one large commit that may run
	links   atomic.Pointer[event.Links]
	states  states
	// watchers are told of what is stored.
	watchers watchers
	// mostRead bounds what a page of a query reads, in records.
	mostRead int

	// The committer's own.
	seq      uint64 // the last one given
	unplaced bool   // a large commit is complete but not placed
	commits  uint64 // transactions ever made
	saved    watermark
	unsaved  bool // the watermark could not be written
	saidLost bool // that transactions are missing

	webhooks  atomic.Pointer[map[string]*queue]
	replacing sync.Mutex // one set of webhooks at a time is made known
	closed    sync.Once
}

// hooks are all webhooks that have a number, by name; those that the config no
// longer has too.
func (o *Outbox) hooks() map[string]*queue { return *o.webhooks.Load() }

// Open opens the store in config.Path and gets it ready for the webhooks
// named. What an interrupted commit left is finished or swept first. Errors
// name the setting to change. On a full disk the store is opened later; see
// Ready.
func Open(config Config, webhooks []string, log *slog.Logger) (*Outbox, error) {
	started := time.Now()
	return openAt(config, webhooks, log, steady(started, func() time.Duration { return time.Since(started) }), FreeSpace)
}

// steady is a clock that is right at the start and then goes by one that nobody
// sets: when the system's clock is set, no delivery comes early or late.
func steady(start time.Time, elapsed func() time.Duration) func() time.Time {
	return func() time.Time { return start.Add(elapsed()) }
}

// openAt is Open with a clock and a reading of the free space.
func openAt(config Config, webhooks []string, log *slog.Logger, now func() time.Time, free func(string) (setting.Size, error)) (*Outbox, error) {
	o := &Outbox{
		config: config, log: log, now: now,
		guard:    &guard{path: config.Path, min: config.MinFree, read: free, log: log},
		ready:    make(chan struct{}),
		writes:   make(chan *write, 1024),
		stop:     make(chan struct{}),
		ended:    make(chan struct{}),
		large:    make(chan struct{}, 1),
		mostRead: mostRead,
	}
	o.links.Store(&config.Links)
	o.webhooks.Store(&map[string]*queue{})
	err := o.tryOpen(webhooks)
	switch {
	case err == nil:
		o.serve()
	case errors.Is(err, ErrNoSpace):
		o.done.Add(1)
		go o.openLater(webhooks, err)
	default:
		return nil, errors.Join(err, o.closeStore())
	}
	return o, nil
}

// Close finishes what is queued, and closes the store. Calls that come later
// return an error.
func (o *Outbox) Close() error {
	var err error
	o.closed.Do(func() {
		close(o.stop)
		o.done.Wait()
		o.reading.Lock()
		defer o.reading.Unlock()
		err = o.closeStore()
	})
	return err
}

// Waiting counts the deliveries that have no result yet, and the writes whose
// outcome is not known. It reads every key of them.
func (o *Outbox) Waiting() (deliveries, writes int, err error) {
	err = o.view(func(txn *badger.Txn) error {
		deliveries, writes = count(txn, []byte{tagOrder}), count(txn, []byte{tagIntent})
		return nil
	})
	return deliveries, writes, err
}

// view reads a snapshot; Close waits for it.
func (o *Outbox) view(read func(*badger.Txn) error) error {
	if err := o.opened(); err != nil {
		return err
	}
	o.reading.RLock()
	defer o.reading.RUnlock()
	if err := o.db.View(read); !errors.Is(err, badger.ErrDBClosed) {
		return err
	}
	return errClosed
}

// Orphans returns the intents that an earlier process left open, oldest first.
// They may be many, so they are handed over once and then forgotten. Call it
// once, when Ready is closed.
func (o *Outbox) Orphans() []event.Intent {
	orphans := o.orphans
	o.orphans = nil
	return orphans
}
