package outbox

import (
	"context"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// maintainLoop deletes what is past its retention, a little at a time.
func (o *Outbox) maintainLoop() {
	defer o.done.Done()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-o.stop:
			return
		case <-tick.C:
			if err := o.Maintain(o.now()); err != nil {
				o.log.Error("store", "error", err, "hint", "retention goes on in a minute")
			}
		}
	}
}

// Maintain deletes events, attempts and dead letters that are past their
// retention at the time now. Events that a webhook still waits for stay.
func (o *Outbox) Maintain(now time.Time) error {
	stale, err := o.stale(now)
	if err != nil {
		return err
	}
	const step = 500 // small enough to leave room for commits in between
	for len(stale) > 0 {
		some := stale[:min(step, len(stale))]
		stale = stale[len(some):]
		err := o.submit(context.Background(), func(b *batch) {
			b.set(metaKey("seq"), be.AppendUint64(nil, o.seq)) // numbers are never given twice
			b.deleteAll(some)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxStale bounds what one run deletes, and so its memory.
const maxStale = 100_000

// stale returns the keys that are past their retention, at most maxStale.
func (o *Outbox) stale(now time.Time) (keys [][]byte, err error) {
	failed := now.Add(-o.config.Retention.Failed.Std())
	delivered := now.Add(-o.config.Retention.Delivered.Std())
	err = o.db.View(func(txn *badger.Txn) error {
		dead := map[uint64]bool{} // events that a dead letter needs
		keysFrom(txn, []byte{tagDead}, []byte{tagDead}, func(item *badger.Item) bool {
			key := item.KeyCopy(nil)
			if timeAt(key, 5).Before(failed) {
				keys = append(keys, key)
			} else {
				dead[be.Uint64(key[13:])] = true
			}
			return len(keys) < maxStale
		})
		for _, q := range o.hooks {
			prefix := attemptKey(q.id, time.UnixMilli(0), 0, 0)[:5]
			keysFrom(txn, prefix, prefix, func(item *badger.Item) bool {
				key := item.KeyCopy(nil)
				old := timeAt(key, 5).Before(delivered)
				if old && !dead[be.Uint64(key[13:])] {
					keys = append(keys, key)
				}
				return old && len(keys) < maxStale
			})
		}
		return staleEvents(txn, delivered, dead, &keys)
	})
	return keys, err
}

// staleEvents adds the keys of events from before the time that nobody waits for.
func staleEvents(txn *badger.Txn, before time.Time, dead map[uint64]bool, keys *[][]byte) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{tagEvent}})
	defer it.Close()
	for it.Rewind(); it.Valid() && len(*keys) < maxStale; it.Next() {
		seq := be.Uint64(it.Item().Key()[1:])
		var stored eventRecord
		if err := it.Item().Value(func(text []byte) error { return decode(text, &stored) }); err != nil {
			return err
		}
		if !stored.Time.Before(before) {
			return nil // in commit order: the rest is younger, but for stragglers
		}
		waits, err := isWaiting(txn, &stored, seq)
		if err != nil {
			return err
		}
		if waits || dead[seq] {
			continue
		}
		*keys = append(*keys, eventKey(seq), idKey(stored.ID))
		for n := range stored.Pieces {
			*keys = append(*keys, pieceKey(stored.ID, n))
		}
	}
	return nil
}

func isWaiting(txn *badger.Txn, stored *eventRecord, seq uint64) (bool, error) {
	entity := entityHash(stored.Key())
	for _, webhook := range stored.Webhooks {
		if _, found, err := get(txn, orderKey(webhook, entity, seq)); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// timeAt reads milliseconds from a key.
func timeAt(key []byte, at int) time.Time { return time.UnixMilli(int64(be.Uint64(key[at:]))) }
