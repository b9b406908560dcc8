package outbox

import (
	"cmp"
	"slices"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// countBacklog reads how much waits and is dead; from then on that is counted in
// memory.
func (o *Outbox) countBacklog() error {
	byID := map[uint32]*queue{}
	for _, q := range o.hooks() {
		byID[q.id] = q
	}
	return o.db.View(func(txn *badger.Txn) error {
		keysFrom(txn, []byte{tagDead}, []byte{tagDead}, func(item *badger.Item) bool {
			if q := byID[be.Uint32(item.Key()[1:])]; q != nil {
				q.dead.Add(1)
			}
			return true
		})
		return scan(txn, []byte{tagCount}, func(key, value []byte) error {
			if q := byID[be.Uint32(key[1:])]; q != nil {
				q.waiting.Add(int64(be.Uint32(value)))
			}
			return nil
		})
	})
}

// uncountDead notes the dead letters among keys that the batch is about to delete,
// those that are still there.
func (b *batch) uncountDead(keys [][]byte) {
	for _, key := range keys {
		if key[0] != tagDead {
			continue
		}
		if _, there := b.get(key); !there {
			continue // sent again meanwhile
		}
		for _, q := range b.o.hooks() {
			if q.id == be.Uint32(key[1:]) {
				b.after = append(b.after, func() { q.dead.Add(-1) })
			}
		}
	}
}

// Backlogs says of each webhook what waits for it and what was given up, by name.
// Webhooks that the config no longer has are among them while there is any.
func (o *Outbox) Backlogs() (list []event.Backlog, err error) {
	err = o.view(func(txn *badger.Txn) error {
		for name, q := range o.hooks() {
			one := event.Backlog{Webhook: name, Waiting: int(q.waiting.Load()), Dead: int(q.dead.Load()), Parked: !q.given.Load(), Paused: q.isPaused()}
			if one.Parked && one.Waiting == 0 && one.Dead == 0 {
				continue
			}
			var err error
			if one.Oldest, err = q.oldestWaiting(txn, o.now()); err != nil {
				return err
			}
			if one.Parked {
				list = append(list, one)
				continue
			}
			keysOf(txn, duePrefix(tagRetry, q.id), false, func(item *badger.Item) bool {
				one.NextRetry, _ = parseTimed(item.Key())
				return false
			})
			list = append(list, one)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b event.Backlog) int { return cmp.Compare(a.Webhook, b.Webhook) })
	return list, err
}

// mostLooked is how many deliveries that are tried again are looked at from
// either end of their keys to find the oldest: one that was tried often waits
// long, and is at the far end.
const mostLooked = 10_000

// oldestWaiting is since when that waits which has waited longest; zero if nothing
// does. Each entity's first delivery is its oldest, and those of first attempts are
// in commit order.
func (q *queue) oldestWaiting(txn *badger.Txn, now time.Time) (oldest time.Time, err error) {
	if q.waiting.Load() == 0 {
		return oldest, nil
	}
	var firsts []claim
	look := func(lane byte, reverse bool, most int) {
		n := 0
		keysOf(txn, duePrefix(lane, q.id), reverse, func(item *badger.Item) bool {
			c := claim{lane: lane}
			c.due, c.seq = parseTimed(item.Key())
			firsts = append(firsts, c)
			n++
			return n < most
		})
	}
	look(tagDue, false, 1)
	look(tagRetry, false, mostLooked)
	look(tagRetry, true, mostLooked)
	slices.SortFunc(firsts, func(a, b claim) int { return cmp.Compare(a.seq, b.seq) })
	for _, c := range firsts {
		since, again, err := q.waitingSince(txn, c)
		if err != nil {
			return oldest, err
		}
		if since.IsZero() || again && since.After(now) {
			continue // nobody knows, or a replay that has not come to it
		}
		if oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
		if !again {
			break // what was committed later came later
		}
	}
	return oldest, nil
}

// waitingSince is when the event of a t or r key happened, and if it is sent again,
// when that was due; zero if nobody knows.
func (q *queue) waitingSince(txn *badger.Txn, c claim) (since time.Time, again bool, err error) {
	entity, found, err := get(txn, c.key(q))
	if err != nil || !found {
		return since, false, err
	}
	var state deliveryState
	found, err = getRecord(txn, orderKey(q.id, be.Uint64(entity), c.seq), &state)
	if err != nil || !found {
		return since, false, ignoreDamaged(err)
	}
	switch {
	case state.Since != 0:
		return millis(state.Since), true, nil
	case state.Redelivery != "": // when its wait began
		return millis(state.Due - state.Wait), true, nil
	}
	var stored eventRecord
	_, err = getRecord(txn, eventKey(c.seq), &stored)
	return stored.Time, false, ignoreDamaged(err)
}

// Open is how many writes have no known outcome yet.
func (o *Outbox) Open() int { return int(o.open.Load()) }

// Bytes is the size of the store's tables on disk; 0 while it is not open. What
// was written last is in memory and in its log yet, 24 MiB at most.
func (o *Outbox) Bytes() (bytes int64) {
	_ = o.view(func(*badger.Txn) error {
		for _, table := range o.db.Tables() {
			bytes += int64(table.OnDiskSize)
		}
		return nil
	})
	return bytes
}
