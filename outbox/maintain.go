package outbox

import (
	"context"
	"errors"
	"iter"
	"math"
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
			if err := o.Maintain(o.now()); err != nil && !errors.Is(err, ErrNoSpace) { // the guard has said that
				o.log.Error("store", "error", err, "hint", "retention goes on in a minute")
			}
		}
	}
}

// Maintain deletes events, attempts and dead letters that are past their
// retention at the time now, and then what it takes to keep to max_size.
// Events that a webhook still waits for stay, but for max_size.
func (o *Outbox) Maintain(now time.Time) error {
	for more := true; more; {
		stale := collector{enough: math.MaxInt64}
		if err := o.view(func(txn *badger.Txn) error { return o.stale(txn, now, &stale) }); err != nil {
			return err
		}
		if err := o.deleteStale(&stale); err != nil {
			return err
		}
		more = stale.full()
	}
	if err := o.expire(now); err != nil {
		return err
	}
	return o.shrink()
}

// deleteStale deletes what was collected, in steps that leave room for commits in
// between. The keys of one event go together, or stay if somebody had it sent again
// meanwhile.
func (o *Outbox) deleteStale(c *collector) error {
	for some := range c.steps() {
		err := o.submit(context.Background(), func(b *batch) {
			b.set(metaKey("seq"), be.AppendUint64(nil, o.seq)) // numbers are never given twice
			for _, one := range some {
				b.deleteRemains(one)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteRemains deletes what is stale of an event, unless a delivery of it waits by
// now. What a later event says of the entity stays.
func (b *batch) deleteRemains(r *remains) {
	if r.whole {
		var stored eventRecord
		if text, found := b.get(eventKey(r.seq)); found && decode(text, &stored) == nil {
			waits, err := isWaiting(b.txn, &stored)
			if b.fail(err); waits || err != nil {
				return
			}
		}
	}
	b.uncountDead(r.keys)
	b.forget(b.outlived(r.keys, r.seq))
	b.deleteAll(r.calls)
}

// maxStale bounds what is deleted in one go, and so the memory that takes.
const maxStale = 100_000

// deletedAtOnce is how many keys a write deletes, about: one event may have more.
const deletedAtOnce = 500

// collector gathers keys to delete until it has enough bytes or is full.
type collector struct {
	by     map[uint64]*remains
	order  []*remains
	keys   int
	bytes  int64
	enough int64
}

// remains are the keys to delete of one event.
type remains struct {
	seq   uint64
	whole bool     // the event itself is among them
	keys  [][]byte // all but these:
	calls [][]byte // a and c keys, as many as there were attempts
}

// of returns what is collected of an event.
func (c *collector) of(seq uint64) *remains {
	one := c.by[seq]
	if one == nil {
		if c.by == nil {
			c.by = map[uint64]*remains{}
		}
		one = &remains{seq: seq}
		c.by[seq], c.order = one, append(c.order, one)
	}
	return one
}

func (c *collector) addKey(seq uint64, key []byte) {
	one := c.of(seq)
	one.keys = append(one.keys, key)
	c.keys++
}

func (c *collector) add(seq uint64, item *badger.Item) {
	c.addKey(seq, item.KeyCopy(nil))
	c.bytes += item.EstimatedSize()
}

func (c *collector) addCall(seq uint64, item *badger.Item) {
	one := c.of(seq)
	one.calls = append(one.calls, item.KeyCopy(nil))
	c.keys++
	c.bytes += item.EstimatedSize()
}

func (c *collector) full() bool { return c.keys >= maxStale || c.bytes >= c.enough }

// steps yields what was collected, as much at a time as a write is to delete. Of an
// event with more calls than a transaction holds, those go first.
func (c *collector) steps() iter.Seq[[]*remains] {
	return func(yield func([]*remains) bool) {
		var some []*remains
		n := 0
		for _, one := range c.order {
			for ; len(one.calls) > maxKeys; one.calls = one.calls[maxKeys:] {
				if !yield([]*remains{{seq: one.seq, whole: one.whole, calls: one.calls[:maxKeys]}}) {
					return
				}
			}
			some, n = append(some, one), n+len(one.keys)+len(one.calls)
			if n >= deletedAtOnce {
				if !yield(some) {
					return
				}
				some, n = nil, 0
			}
		}
		if len(some) > 0 {
			yield(some)
		}
	}
}

// stale collects what is past its retention.
func (o *Outbox) stale(txn *badger.Txn, now time.Time, c *collector) error {
	delivered := now.Add(-o.config.Retention.Delivered.Std())
	dead := c.deadLetters(txn, now.Add(-o.config.Retention.Failed.Std()))
	o.attempts(txn, c, delivered, dead)
	return c.events(txn, delivered, dead)
}

// deadLetters collects dead letters from before the time, and returns how many
// others need which event.
func (c *collector) deadLetters(txn *badger.Txn, before time.Time) map[uint64]int {
	dead := map[uint64]int{}
	keysFrom(txn, []byte{tagDead}, []byte{tagDead}, func(item *badger.Item) bool {
		if at, seq := parseTimed(item.Key()); at.Before(before) && !c.full() {
			c.add(seq, item)
		} else {
			dead[seq]++
		}
		return true
	})
	return dead
}

// attempts collects attempts from before the time that no dead letter needs.
func (o *Outbox) attempts(txn *badger.Txn, c *collector, before time.Time, dead map[uint64]int) {
	for _, q := range o.hooks() {
		keysFrom(txn, attemptPrefix(q.id), attemptPrefix(q.id), func(item *badger.Item) bool {
			at, seq := parseTimed(item.Key())
			if !at.Before(before) || c.full() {
				return false
			}
			if dead[seq] == 0 {
				c.addAttempt(txn, seq, item)
			}
			return true
		})
	}
}

// addAttempt collects an attempt and its call.
func (c *collector) addAttempt(txn *badger.Txn, seq uint64, item *badger.Item) {
	if wire, err := txn.Get(wireKey(item.Key())); err == nil {
		c.addCall(seq, wire)
	}
	c.addCall(seq, item)
}

// events collects events from before the time that nobody needs.
func (c *collector) events(txn *badger.Txn, before time.Time, dead map[uint64]int) error {
	return eachEvent(txn, func(item *badger.Item, stored *eventRecord) (more bool, err error) {
		if c.full() || !stored.Time.Before(before) {
			return false, nil // in commit order: the rest is younger, but for stragglers
		}
		if dead[stored.Seq] > 0 {
			return true, nil
		}
		waits, err := isWaiting(txn, stored)
		if err == nil && !waits {
			c.addEvent(txn, item, stored)
		}
		return true, err
	})
}

// addEvent collects an event, and its entity's state if it made that.
func (c *collector) addEvent(txn *badger.Txn, item *badger.Item, stored *eventRecord) {
	seq := stored.Seq
	c.of(seq).whole = true
	if stored.Pieces > 0 {
		keysFrom(txn, piecePrefix(stored.ID), piecePrefix(stored.ID), func(item *badger.Item) bool {
			c.add(seq, item)
			return true
		})
	}
	c.addState(txn, stored)
	c.addKey(seq, idKey(stored.ID))
	c.add(seq, item)
}

// eachEvent calls each for the events in commit order until it says no.
func eachEvent(txn *badger.Txn, each func(*badger.Item, *eventRecord) (more bool, err error)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{tagEvent}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		var stored eventRecord
		err := it.Item().Value(func(text []byte) error { return decode(text, &stored) })
		if errors.Is(err, errDamaged) {
			continue // nobody knows what it is, and the others are to be seen
		}
		if err != nil {
			return err
		}
		if more, err := each(it.Item(), &stored); err != nil || !more {
			return err
		}
	}
	return nil
}

func isWaiting(txn *badger.Txn, stored *eventRecord) (bool, error) {
	return othersWait(txn, stored, 0) // no webhook has that number
}

// othersWait tells whether a webhook other than that one waits for an event.
func othersWait(txn *badger.Txn, stored *eventRecord, than uint32) (bool, error) {
	for _, webhook := range stored.Webhooks {
		if webhook == than {
			continue
		}
		if _, found, err := get(txn, orderKey(webhook, stored.Hash, stored.Seq)); err != nil || found {
			return found, err
		}
	}
	return false, nil
}
