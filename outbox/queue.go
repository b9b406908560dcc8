package outbox

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// queue is the window of memory over one webhook's waiting deliveries; the
// deliveries themselves are on disk.
type queue struct {
	name string
	id   uint32
	wake chan struct{} // holds a token when something became due earlier

	mu      sync.Mutex
	claimed map[uint64]bool // seqs that are handed out
	from    []byte          // no t key lies before this one
}

func newQueue(name string, id uint32) *queue {
	return &queue{name: name, id: id, wake: make(chan struct{}, 1), claimed: map[uint64]bool{}, from: duePrefix(id)}
}

// added notes a new t key.
func (q *queue) added(key []byte) {
	q.mu.Lock()
	if bytes.Compare(key, q.from) < 0 {
		q.from = key
	}
	q.mu.Unlock()
	q.notify()
}

func (q *queue) release(seq uint64) {
	q.mu.Lock()
	delete(q.claimed, seq)
	q.mu.Unlock()
	q.notify()
}

func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// enqueue adds a delivery. The first of its webhook and entity gets a t key;
// the others wait behind it.
func (b *batch) enqueue(q *queue, entity, seq uint64, state deliveryState) {
	b.set(orderKey(q.id, entity, seq), encode(state))
	if b.addCount(q.id, entity, 1) == 1 {
		b.ready(q, entity, seq, state)
	}
}

func (b *batch) ready(q *queue, entity, seq uint64, state deliveryState) {
	key := dueKey(q.id, time.UnixMilli(state.Due), seq)
	b.set(key, be.AppendUint64(nil, entity))
	b.after = append(b.after, func() { q.added(key) })
}

// addCount changes the number of waiting deliveries of a webhook and entity
// and returns it.
func (b *batch) addCount(webhook uint32, entity uint64, change int) int {
	key := countKey(webhook, entity)
	n := change
	if value, found := b.get(key); found {
		n += int(be.Uint32(value))
	}
	if n <= 0 {
		b.delete(key)
		return 0
	}
	b.set(key, be.AppendUint32(nil, uint32(n)))
	return n
}

// claim is a t key that is due.
type claim struct {
	seq    uint64
	entity uint64
}

// Next returns up to limit deliveries of a webhook that are due, and waits for
// the first. They belong to the caller until Settle or Release. The error is
// ctx's, or says why the store can not be read.
func (o *Outbox) Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error) {
	q := o.hooks[webhook]
	if q == nil {
		return nil, fmt.Errorf("the outbox knows no webhook %s", webhook)
	}
	for {
		claims, wait, err := o.claim(q, limit)
		if err != nil {
			return nil, err
		}
		deliveries, err := o.loadClaims(q, claims)
		if err != nil || len(deliveries) > 0 {
			return deliveries, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-q.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// claim takes what is due, and says how long to wait if nothing is.
func (o *Outbox) claim(q *queue, limit int) (claims []claim, wait time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := o.now()
	wait = time.Hour
	first := true
	err = o.db.View(func(txn *badger.Txn) error {
		keysFrom(txn, duePrefix(q.id), q.from, func(item *badger.Item) bool {
			key := item.Key()
			if first {
				q.from, first = item.KeyCopy(nil), false
			}
			due, seq := parseDue(key)
			if due.After(now) {
				wait = min(wait, due.Sub(now))
				return false
			}
			if !q.claimed[seq] {
				value, valueErr := item.ValueCopy(nil)
				if valueErr != nil {
					err = valueErr
					return false
				}
				q.claimed[seq] = true
				claims = append(claims, claim{seq: seq, entity: be.Uint64(value)})
			}
			return len(claims) < limit
		})
		return err
	})
	return claims, wait, err
}

// loadClaims reads the deliveries that were claimed. One whose event is gone is
// taken out of the queue.
func (o *Outbox) loadClaims(q *queue, claims []claim) ([]event.Delivery, error) {
	var deliveries []event.Delivery
	err := o.db.View(func(txn *badger.Txn) error {
		for _, c := range claims {
			d, found, err := loadDelivery(txn, q, c)
			if err != nil {
				return err
			}
			if found {
				deliveries = append(deliveries, d)
			} else {
				o.log.Error("store", "error", "a delivery without its event is dropped", "webhook", q.name, "seq", c.seq)
			}
		}
		return nil
	})
	if err != nil {
		for _, c := range claims {
			q.release(c.seq)
		}
		return nil, err
	}
	return deliveries, nil
}

func loadDelivery(txn *badger.Txn, q *queue, c claim) (d event.Delivery, found bool, err error) {
	var state deliveryState
	found, err = getRecord(txn, orderKey(q.id, c.entity, c.seq), &state)
	if err != nil || !found {
		return d, false, err
	}
	stored, found, err := loadEvent(txn, c.seq)
	if err != nil || !found {
		return d, false, err
	}
	return event.Delivery{
		Want:     event.Want{Webhook: q.name, Undecided: state.Undecided},
		Event:    &stored.Event,
		Attempts: state.Attempts,
		Due:      time.UnixMilli(state.Due).UTC(),
	}, true, nil
}

// loadEvent reads an event and its payload.
func loadEvent(txn *badger.Txn, seq uint64) (stored *eventRecord, found bool, err error) {
	stored = &eventRecord{}
	found, err = getRecord(txn, eventKey(seq), stored)
	if err != nil || !found || stored.Pieces == 0 {
		return stored, found, err
	}
	var packed []byte
	for n := range stored.Pieces {
		piece, found, err := get(txn, pieceKey(stored.ID, n))
		if err != nil || !found {
			return nil, false, err
		}
		packed = append(packed, piece...)
	}
	stored.Payload, err = s2.Decode(nil, packed)
	if err != nil {
		return nil, false, fmt.Errorf("the payload of event %s: %w", stored.ID, err)
	}
	return stored, true, nil
}

func getRecord(txn *badger.Txn, key []byte, into any) (found bool, err error) {
	value, found, err := get(txn, key)
	if err != nil || !found {
		return false, err
	}
	return true, decode(value, into)
}

// Event returns a stored event with its payload; found is false if there is
// none of that id.
func (o *Outbox) Event(id string) (e *event.Event, found bool, err error) {
	err = o.db.View(func(txn *badger.Txn) error {
		seq, ok, err := get(txn, idKey(id))
		if err != nil || !ok {
			return err
		}
		var stored *eventRecord
		stored, found, err = loadEvent(txn, be.Uint64(seq))
		if found {
			e = &stored.Event
		}
		return err
	})
	return e, found, err
}
