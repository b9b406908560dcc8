package outbox

import (
	"errors"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// parkedFor is how long deliveries wait for a webhook that the config does not
// have.
const parkedFor = 7 * day

func parkedKey(name string) []byte { return metaKey("parked/" + name) }

// park notes since when the config has not had a webhook, and says what waits
// for it.
func (o *Outbox) park(names []string) error {
	return o.db.Update(func(txn *badger.Txn) error {
		for name, q := range o.hooks() {
			var err error
			if slices.Contains(names, name) {
				err = txn.Delete(parkedKey(name))
			} else {
				err = o.parkOne(txn, q)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *Outbox) parkOne(txn *badger.Txn, q *queue) error {
	waiting := count(txn, orderPrefix(q.id))
	if waiting == 0 {
		return nil
	}
	since, found, err := get(txn, parkedKey(q.name))
	if err != nil {
		return err
	}
	if !found {
		since = be.AppendUint64(nil, milli(o.now()))
		if err := txn.Set(parkedKey(q.name), since); err != nil {
			return err
		}
	}
	o.parkedSince(q, millis(int64(be.Uint64(since))), waiting)
	return nil
}

// parkLate notes what comes for a webhook after the config has lost it: a commit may
// still go by the rules of before a reload. An Open parks by itself, at its end.
func (b *batch) parkLate(q *queue) {
	if q.given.Load() || q.parked.Load() != 0 || b.o.opened() != nil {
		return
	}
	b.set(parkedKey(q.name), be.AppendUint64(nil, milli(b.now)))
	b.after = append(b.after, func() {
		if !q.given.Load() && q.parked.Load() == 0 {
			b.o.parkedSince(q, b.now, int(q.waiting.Load()))
		}
	})
}

// isParked tells whether a webhook is parked; one that a reload gives back in the
// same transaction is not any more.
func (b *batch) isParked(q *queue) bool {
	_, parked := b.get(parkedKey(q.name))
	return parked && !q.given.Load()
}

// expire gives up what has waited too long for a webhook that the config does
// not have.
func (o *Outbox) expire(now time.Time) error {
	for _, q := range o.hooks() {
		if since := q.parked.Load(); since == 0 || now.Before(millis(since).Add(parkedFor)) {
			continue
		}
		given, err := o.buryParked(q)
		if given > 0 {
			o.log.Error("expired", "webhook", q.name, "deliveries", given,
				"hint", "the config has not had a webhook of this name for 7 days: its deliveries are given up")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// buryParked makes dead letters of the deliveries of a webhook that nobody calls,
// until a reload gives it back. What is being delivered yet is spared.
func (o *Outbox) buryParked(q *queue) (given int, err error) {
	for start := orderPrefix(q.id); start != nil && err == nil && !q.given.Load(); {
		var some []victim
		if some, start, err = o.parkedVictims(q, start); err != nil {
			return given, err
		}
		var buried int
		buried, err = o.buryAll(q, some, "the config has not had the webhook for 7 days", func(b *batch) bool { return b.isParked(q) })
		given += buried
	}
	return given, err
}

// parkedVictims reads some of what waits for a webhook, and where to go on; nil if
// there is no more.
func (o *Outbox) parkedVictims(q *queue, start []byte) (some []victim, next []byte, err error) {
	err = o.view(func(txn *badger.Txn) (err error) {
		keysFrom(txn, orderPrefix(q.id), start, func(item *badger.Item) bool {
			if len(some) == 100 {
				next = item.KeyCopy(nil)
				return false
			}
			_, entity, seq := parseOrder(item.Key())
			var stored eventRecord
			if _, err = getRecord(txn, eventKey(seq), &stored); errors.Is(err, errDamaged) {
				err = nil // it has no name
			}
			some = append(some, victim{claim: claim{seq: seq, entity: entity}, event: stored.ID})
			return err == nil
		})
		return err
	})
	return some, next, err
}
