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
//     attempts that begin anew. It goes behind what waits of its entity, and what
//     comes later does not wait for its time.
//   - Bodies of requests, credentials and query strings never get here.
package outbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Config is the part outbox of the config file.
type Config struct {
	// Path is the folder; it is made if it is not there.
	Path string `yaml:"path"`
	// Sync is whether a write waits for the disk. Without it a kill -9 loses
	// nothing, but a power cut may.
	Sync bool `yaml:"sync"`
	// MaxOpen bounds the open intents. Beyond it no write can be recorded.
	MaxOpen   int          `yaml:"max_open"`
	Retention Retention    `yaml:"retention"`
	MaxSize   setting.Size `yaml:"max_size"`
	// MaxPayload is the largest payload that is kept whole.
	MaxPayload setting.Size `yaml:"max_payload"`
	// MinFree is the free space below which nothing new is begun; see guard.
	MinFree setting.Size `yaml:"min_free"`
	// Links are the aliases that the config tells of.
	Links event.Links `yaml:"-"`
	// Queues are the settings of webhooks by name, where they have any.
	Queues map[string]Queue `yaml:"-"`
}

// Retention says how long what is done with is kept.
type Retention struct {
	Delivered setting.Duration `yaml:"delivered"`
	Failed    setting.Duration `yaml:"failed"`
}

const day = 24 * time.Hour

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Path:      "./cmstap-data",
		Sync:      true,
		MaxOpen:   10_000,
		Retention: Retention{Delivered: setting.Duration(7 * day), Failed: setting.Duration(30 * day)},
		MaxSize:   4 << 30, MaxPayload: 4 << 20,
		MinFree: 256 << 20,
	}
}

// Validate reports what is wrong with the settings.
func (c Config) Validate(check setting.Check) {
	if c.Path == "" {
		check.Add("path", "name a folder for the outbox")
	}
	check.File("path", c.Path)
	if c.MaxOpen < 1 {
		check.Add("max_open", "must be at least 1")
	}
	if c.Retention.Delivered.Std() < time.Minute {
		check.Add("retention.delivered", "must be at least 1m")
	}
	if c.Retention.Failed.Std() < time.Minute {
		check.Add("retention.failed", "must be at least 1m")
	}
	if c.MaxSize < 64<<20 {
		check.Add("max_size", "must be at least 64MiB")
	}
	if c.MaxPayload < 64<<10 || c.MaxPayload > 16<<20 {
		check.Add("max_payload", "must be from 64KiB to 16MiB")
	}
	if c.MinFree < 64<<20 {
		check.Add("min_free", "must be at least 64MiB: the store needs room to tidy itself up")
	}
}

// Warn reports a folder that others may read: content that is not published is
// in it.
func (c Config) Warn(check setting.Check) {
	if info, err := os.Stat(c.Path); err == nil && info.IsDir() && info.Mode().Perm()&0o077 != 0 {
		check.Warn("path", "other users of the machine may enter the folder (mode %04o), and it holds content that is not published: chmod 700 %s", info.Mode().Perm(), c.Path)
	}
}

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

	hooks  map[string]*queue // every webhook that has a number, those that the config no longer has too
	closed sync.Once
}

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

func openStore(config Config, guard *guard, log *slog.Logger) (*badger.DB, error) {
	if err := writable(config.Path); err != nil {
		return nil, fmt.Errorf("outbox.path: the folder %s can not be written: %w", config.Path, err)
	}
	if err := removeEmpty(config.Path); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("outbox.path: the folder %s is in use by another process; give each cmstap a folder of its own", config.Path)
	} else if err != nil {
		return nil, fmt.Errorf("outbox.path: %w", err)
	}
	if err := guard.look(); err != nil {
		return nil, err
	}
	if err := guard.ends(); err != nil {
		return nil, err
	}
	db, err := badger.Open(storeOptions(config, log))
	if err != nil {
		return nil, fmt.Errorf("outbox.path: opening %s: %w", config.Path, err)
	}
	return db, nil
}

// removeEmpty removes memory tables without a byte. A kill between the making
// and the sizing of one leaves it behind, and Badger refuses to open a folder
// that has one. It holds the folder's lock, the one that Badger takes next;
// EWOULDBLOCK means that another process has it.
func removeEmpty(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // and with it the lock
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	tables, _ := filepath.Glob(filepath.Join(path, "*.mem"))
	for _, table := range tables {
		if info, err := os.Stat(table); err != nil || info.Size() > 0 {
			continue
		}
		if err := os.Remove(table); err != nil {
			return err
		}
	}
	return nil
}

// InUse tells whether another process has the folder's lock.
func InUse(path string) bool {
	folder, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = folder.Close() }() // and with it the lock
	return errors.Is(syscall.Flock(int(folder.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// writable makes the folder if need be and writes and removes a file in it.
func writable(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	probe := filepath.Join(path, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return err
	}
	return os.Remove(probe)
}

// storeOptions are sized for a small sidecar: values stay in the tree, since
// errors of syncing the value log would only be logged; memory tables are
// small, and the caches bounded.
func storeOptions(config Config, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(config.Path).
		WithSyncWrites(config.Sync).WithDetectConflicts(false).
		WithMemTableSize(8 << 20).WithNumMemtables(2).
		WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(6).WithNumCompactors(2).WithNumGoroutines(2).
		WithBaseTableSize(2 << 20).WithBaseLevelSize(8 << 20).
		WithBlockCacheSize(4 << 20).WithIndexCacheSize(8 << 20).
		WithValueThreshold(1 << 20).WithValueLogFileSize(64 << 20).
		WithCompression(options.Snappy).WithMetricsEnabled(false).
		WithLogger(storeLog{log})
}

// format is the number of the layout in keys.go. Format 1 had no r keys, and is
// read as it is.
const format = 2

// load reads what the committer and the queues start from, and finishes
// interrupted commits. It may be repeated.
func (o *Outbox) load(webhooks []string) error {
	o.hooks, o.orphans = map[string]*queue{}, nil
	if err := o.checkFormat(); err != nil {
		return err
	}
	err := o.db.View(func(txn *badger.Txn) error {
		o.seq = lastSeq(txn)
		if err := o.loadLinks(txn); err != nil {
			return err
		}
		return o.loadOrphans(txn)
	})
	if err != nil {
		return err
	}
	if err := o.nameWebhooks(webhooks); err != nil {
		return err
	}
	if err := o.countBacklog(); err != nil {
		return err
	}
	if err := o.checkWatermark(); err != nil {
		return err
	}
	if err := o.finishCommits(); err != nil {
		return err
	}
	if err := o.sweep(); err != nil {
		return err
	}
	if err := o.reorder(webhooks); err != nil {
		return err
	}
	if err := o.loadPauses(); err != nil {
		return err
	}
	o.watchers.begin(o.seq)
	if err := o.boundWaits(); err != nil {
		return err
	}
	return o.park(webhooks)
}

func (o *Outbox) checkFormat() error {
	return o.db.Update(func(txn *badger.Txn) error {
		value, found, err := get(txn, metaKey("format"))
		if err != nil {
			return err
		}
		if !found || binary.BigEndian.Uint32(value) == 1 {
			return txn.Set(metaKey("format"), binary.BigEndian.AppendUint32(nil, format))
		}
		if stored := binary.BigEndian.Uint32(value); stored != format {
			return fmt.Errorf("the store has format %d, this cmstap knows format %d; use the version that wrote it, or another folder", stored, format)
		}
		return nil
	})
}

func (o *Outbox) loadOrphans(txn *badger.Txn) error {
	err := scan(txn, []byte{tagIntent}, func(_, value []byte) error {
		var intent event.Intent
		if err := decode(value, &intent); err != nil {
			return err
		}
		o.orphans = append(o.orphans, intent)
		return nil
	})
	o.open.Store(int64(len(o.orphans)))
	return err
}

// nameWebhooks gives each webhook its number, and its queue to each that has
// one. A webhook that the config no longer has keeps both: what is wanted for
// it is parked.
func (o *Outbox) nameWebhooks(names []string) error {
	prefix := metaKey("webhook/")
	highest := uint32(0)
	return o.db.Update(func(txn *badger.Txn) error {
		err := scan(txn, prefix, func(key, value []byte) error {
			name, id := string(key[len(prefix):]), be.Uint32(value)
			o.hooks[name] = newQueue(name, id)
			highest = max(highest, id)
			return nil
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			if q := o.hooks[name]; q != nil {
				q.given = true
				continue
			}
			highest++
			o.hooks[name] = newQueue(name, highest)
			o.hooks[name].given = true
			if err := txn.Set(metaKey("webhook/"+name), be.AppendUint32(nil, highest)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Begin makes an intent durable and notes in it what is known of the entity's
// last event. After an error, of ctx too, it may be stored all the same: Drop
// it, and begin again with a new id. ErrFull means that too many are open,
// ErrNoSpace that the disk is too full; nothing was stored then.
func (o *Outbox) Begin(ctx context.Context, intent *event.Intent) error {
	if err := o.guard.begins(); err != nil {
		return err // at once, even if the committer is held up
	}
	if o.open.Load() >= int64(o.config.MaxOpen) {
		return ErrFull
	}
	stored := *intent // the committer may come to it after the caller left
	err := o.submit(ctx, func(b *batch) {
		b.fail(o.guard.begins()) // as the disk is now
		k := b.known(stored.Entity, false)
		stored.Last = k.Last
		b.keep(k)
		b.openIntent(&stored)
	})
	if err == nil {
		intent.Last = stored.Last
	}
	return err
}

// Drop removes an intent without an event. When it returns nil that is
// durable: a restart does not find the intent.
func (o *Outbox) Drop(ctx context.Context, intentID string) error {
	return o.submit(ctx, func(b *batch) { b.endIntent(intentID) })
}

// Ended tells whether the end of an intent that was begun is stored: that of a
// commit or drop which nobody waited for is, too, if it will be.
func (o *Outbox) Ended(ctx context.Context, intentID string) (ended bool, err error) {
	err = o.submit(ctx, func(b *batch) {
		_, open := b.get(intentKey(intentID))
		ended = !open
	})
	return ended, err
}

// openIntent stores an intent, once.
func (b *batch) openIntent(intent *event.Intent) {
	if _, found := b.get(intentKey(intent.ID)); !found {
		b.set(intentKey(intent.ID), encode(intent))
		b.after = append(b.after, func() { b.o.open.Add(1) })
	}
}

// endIntent removes an intent, if it is there.
func (b *batch) endIntent(id string) {
	if _, found := b.get(intentKey(id)); found {
		b.delete(intentKey(id))
		b.after = append(b.after, func() { b.o.open.Add(-1) })
	}
}

// storeLog hands Badger's messages to the log; what it calls information is
// for debugging.
type storeLog struct{ log *slog.Logger }

func (l storeLog) Errorf(f string, a ...any)   { l.log.Error("store", "error", fmt.Sprintf(f, a...)) }
func (l storeLog) Warningf(f string, a ...any) { l.log.Debug("store", "warning", fmt.Sprintf(f, a...)) }
func (l storeLog) Infof(f string, a ...any)    { l.log.Debug("store", "info", fmt.Sprintf(f, a...)) }
func (l storeLog) Debugf(string, ...any)       {}
