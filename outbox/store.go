package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

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
// storeOptions keep memory small. Tables of all levels have one size, because whoever
// builds one holds it in memory twice: with Badger's doubling from level to level a
// drain of 300,000 deliveries held 303 MB, and 134 MB without.
func storeOptions(config Config, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(config.Path)
	o.TableSizeMultiplier = 1
	return o.
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
	o.webhooks.Store(&map[string]*queue{})
	o.orphans = nil
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
	hooks, prefix := o.hooks(), metaKey("webhook/")
	highest := uint32(0)
	return o.db.Update(func(txn *badger.Txn) error {
		err := scan(txn, prefix, func(key, value []byte) error {
			name, id := string(key[len(prefix):]), be.Uint32(value)
			hooks[name] = newQueue(name, id)
			highest = max(highest, id)
			return nil
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			if q := hooks[name]; q != nil {
				q.given.Store(true)
				continue
			}
			highest++
			hooks[name] = newQueue(name, highest)
			hooks[name].given.Store(true)
			if err := txn.Set(metaKey("webhook/"+name), be.AppendUint32(nil, highest)); err != nil {
				return err
			}
		}
		return nil
	})
}

// storeLog hands Badger's messages to the log; what it calls information is
// for debugging.
type storeLog struct{ log *slog.Logger }

func (l storeLog) Errorf(f string, a ...any)   { l.log.Error("store", "error", fmt.Sprintf(f, a...)) }
func (l storeLog) Warningf(f string, a ...any) { l.log.Debug("store", "warning", fmt.Sprintf(f, a...)) }
func (l storeLog) Infof(f string, a ...any)    { l.log.Debug("store", "info", fmt.Sprintf(f, a...)) }
func (l storeLog) Debugf(string, ...any)       {}
