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

// buryParked makes dead letters of all deliveries of a webhook that nobody calls.
func (o *Outbox) buryParked(q *queue) (given int, err error) {
	for {
		var some []victim
		err := o.view(func(txn *badger.Txn) (err error) {
			keysFrom(txn, orderPrefix(q.id), orderPrefix(q.id), func(item *badger.Item) bool {
				_, entity, seq := parseOrder(item.Key())
				var stored eventRecord
				if _, err = getRecord(txn, eventKey(seq), &stored); errors.Is(err, errDamaged) {
					err = nil // it has no name
				}
				some = append(some, victim{claim: claim{seq: seq, entity: entity}, event: stored.ID})
				return err == nil && len(some) < 100
			})
			return err
		})
		if err != nil || len(some) == 0 {
			return given, err
		}
		if err := o.buryAll(q, some, "the config has not had the webhook for 7 days"); err != nil {
			return given, err
		}
		given += len(some)
	}
}
