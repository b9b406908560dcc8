package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// queue is the window of memory over one webhook's waiting deliveries; the
// deliveries themselves are on disk.
type queue struct {
	Queue
	name   string
	id     uint32
	parked atomic.Int64 // since when the config does not have it, if anything waits: milliseconds, or 0
	newest int64        // when what came last was due; the committer's own
	given  atomic.Bool  // the config has it
	paced  time.Time    // the next redelivery goes then at the earliest; the committer's own

	waiting atomic.Int64 // deliveries
	dead    atomic.Int64 // dead letters

	mu      sync.Mutex
	claimed map[uint64]claim // what is handed out, by seq
	from    map[byte][]byte  // no key of a lane lies before this one
	paused  bool             // nothing is handed out
	odd     bool             // whose turn it is if an odd number is handed out
	wake    chan struct{}    // closed when something may have become due
}

// claim is a t or r key whose delivery is handed out.
type claim struct {
	lane   byte
	seq    uint64
	entity uint64
	due    time.Time
}

func newQueue(name string, id uint32) *queue {
	return &queue{name: name, id: id, wake: make(chan struct{}), claimed: map[uint64]claim{},
		from: map[byte][]byte{tagDue: duePrefix(tagDue, id), tagRetry: duePrefix(tagRetry, id)}}
}

// added notes a new t or r key.
func (q *queue) added(key []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if lane := key[0]; bytes.Compare(key, q.from[lane]) < 0 {
		q.from[lane] = key
	}
	q.notify()
}

// held returns the claim of a delivery, if the caller still has it.
func (q *queue) held(d event.Delivery) (c claim, held bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, held = q.claimed[d.Event.Seq]
	return c, held && c.due.Equal(d.Due)
}

// release gives up a claim, unless that is another one by now.
func (q *queue) release(c claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claimed[c.seq] == c {
		delete(q.claimed, c.seq)
		q.notify()
	}
}

// notify wakes everyone who waits in Next. The caller holds the lock.
func (q *queue) notify() {
	close(q.wake)
	q.wake = make(chan struct{})
}

func (b *batch) ready(q *queue, entity, seq uint64, state deliveryState) {
	key := dueKey(state.lane(), q.id, time.UnixMilli(state.Due), seq)
	b.set(key, be.AppendUint64(nil, entity))
	b.after = append(b.after, func() { q.added(key) })
}

// boundWaits makes nothing wait longer than it was told to: the clock may have
// been set back while nobody ran.
func (o *Outbox) boundWaits() error {
	for _, q := range o.hooks() {
		if err := o.hastenLate(q); err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) hastenLate(q *queue) error {
	var late []claim
	err := o.db.View(func(txn *badger.Txn) error {
		first, err := q.late(txn, tagDue, o.now())
		again, more := q.late(txn, tagRetry, o.now())
		late = slices.Concat(first, again)
		return errors.Join(err, more)
	})
	for err == nil && len(late) > 0 {
		b := o.newBatch()
		for ; len(late) > 0 && !b.full(); late = late[1:] {
			b.hasten(q, late[0])
		}
		err = o.finish(b)
	}
	return err
}

// late finds the keys of a lane that are further away than their delivery was to wait.
func (q *queue) late(txn *badger.Txn, lane byte, now time.Time) (late []claim, err error) {
	keysFrom(txn, duePrefix(lane, q.id), dueKey(lane, q.id, now, 0), func(item *badger.Item) bool {
		c := claim{lane: lane}
		c.due, c.seq = parseTimed(item.Key())
		var state deliveryState
		err = item.Value(func(entity []byte) error { c.entity = be.Uint64(entity); return nil })
		if err == nil {
			_, err = getRecord(txn, orderKey(q.id, c.entity, c.seq), &state)
		}
		if errors.Is(err, errDamaged) {
			err, state.Wait = nil, 0 // it is due at once, and given up
		}
		if c.due.Sub(now) > time.Duration(state.Wait)*time.Millisecond {
			late = append(late, c)
		}
		return err == nil
	})
	return late, err
}

// hasten makes a delivery due when its wait, begun now, is over.
func (b *batch) hasten(q *queue, c claim) {
	var state deliveryState
	text, found := b.get(orderKey(q.id, c.entity, c.seq))
	readable := found && decode(text, &state) == nil
	b.delete(c.key(q))
	state.Due = b.now.UnixMilli() + state.Wait
	if readable {
		b.set(orderKey(q.id, c.entity, c.seq), encode(state))
	}
	b.ready(q, c.entity, c.seq, state)
}

// Next returns up to limit deliveries of a webhook that are due, and waits for
// the first. Of a webhook with a batch it returns the next bundle, however large
// that is, and no other until all of it was settled or released. They belong to
// the caller until Settle or Release. The error is ctx's, or says why the store
// can not be read.
func (o *Outbox) Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error) {
	select {
	case <-o.ready:
	case <-o.stop:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	q := o.hooks()[webhook]
	if q == nil {
		return nil, errUnknown(webhook)
	}
	for ctx.Err() == nil {
		h, err := o.handOut(q, limit)
		if err == nil && len(h.damaged) > 0 {
			err = o.buryDamaged(ctx, q, h.damaged)
		}
		if err != nil {
			h.giveBack(q)
			return nil, err
		}
		if len(h.deliveries) > 0 {
			return h.deliveries, nil
		}
		timer := time.NewTimer(h.wait)
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-timer.C:
		case <-o.stop:
			err = errClosed
		}
		timer.Stop()
		if err != nil {
			return nil, err
		}
	}
	return nil, ctx.Err()
}

func errUnknown(webhook string) error {
	return fmt.Errorf("the outbox knows no webhook %s", webhook)
}

// handout is what was claimed. If nothing was, the caller waits for wake, or so
// long.
type handout struct {
	claims     []claim
	deliveries []event.Delivery
	damaged    []claim // can never be read
	wake       <-chan struct{}
	wait       time.Duration
}

func (h *handout) giveBack(q *queue) {
	for _, c := range h.claims {
		q.release(c)
	}
}

// handOut claims what is due, and reads it. It looks at the store once: each look
// waits for the transaction that is being synced. The lock is taken before the
// look, so that what is not claimed any more is not seen in it.
func (o *Outbox) handOut(q *queue, limit int) (h handout, err error) {
	q.mu.Lock()
	unlock := sync.OnceFunc(q.mu.Unlock)
	defer unlock()
	if q.paused {
		return handout{wait: time.Hour, wake: q.wake}, nil
	}
	err = o.view(func(txn *badger.Txn) (err error) {
		if q.Batch != nil {
			h.claims, h.wait, err = q.dueBundle(txn, o.now())
		} else {
			h.claims, h.wait, err = q.due(txn, o.now(), limit)
		}
		if err != nil {
			h.claims = nil
			return err
		}
		for _, c := range h.claims {
			q.claimed[c.seq] = c
		}
		h.wake = q.wake
		unlock()
		return o.loadClaims(txn, q, &h)
	})
	return h, err
}

// key is the key that is claimed.
func (c claim) key(q *queue) []byte { return dueKey(c.lane, q.id, c.due, c.seq) }

// due finds deliveries that are due and not claimed, first attempts before
// others. If there are enough of both, each get half: a storm of retries keeps
// nothing new from leaving, nor the other way round. The caller holds the lock.
func (q *queue) due(txn *badger.Txn, now time.Time, limit int) (claims []claim, wait time.Duration, err error) {
	first, wait, err := q.dueIn(txn, tagDue, now, limit)
	again, other, more := q.dueIn(txn, tagRetry, now, limit)
	half := limit / 2
	if q.odd {
		half = limit - half
	}
	if len(first)+len(again) > limit {
		q.odd = !q.odd
	}
	again = again[:min(len(again), max(half, limit-len(first)))]
	first = first[:min(len(first), limit-len(again))]
	return slices.Concat(first, again), min(wait, other), errors.Join(err, more)
}

// dueIn finds those of a lane.
func (q *queue) dueIn(txn *badger.Txn, lane byte, now time.Time, limit int) (claims []claim, wait time.Duration, err error) {
	wait = time.Hour
	first := true
	keysFrom(txn, duePrefix(lane, q.id), q.from[lane], func(item *badger.Item) bool {
		if first {
			q.from[lane], first = item.KeyCopy(nil), false
		}
		at, seq := parseTimed(item.Key())
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			return false
		}
		if _, taken := q.claimed[seq]; taken {
			return true
		}
		err = item.Value(func(entity []byte) error {
			claims = append(claims, claim{lane: lane, seq: seq, entity: be.Uint64(entity), due: at})
			return nil
		})
		return err == nil && len(claims) < limit
	})
	return claims, wait, err
}

// errDamaged says that a delivery can never be read.
var errDamaged = errors.New("the stored event is damaged")

// loadClaims reads the deliveries that were claimed.
func (o *Outbox) loadClaims(txn *badger.Txn, q *queue, h *handout) error {
	bytes := 0
	for n, c := range h.claims {
		if q.Batch != nil && bytes > maxBundle {
			rest := handout{claims: h.claims[n:]}
			h.claims = h.claims[:n]
			rest.giveBack(q)
			return nil
		}
		d, err := loadDelivery(txn, q, c)
		switch {
		case errors.Is(err, errDamaged):
			o.log.Error("store", "webhook", q.name, "seq", c.seq, "error", err, "hint", "the delivery is given up")
			h.damaged = append(h.damaged, c)
		case err != nil:
			return err
		default:
			h.deliveries = append(h.deliveries, d)
			bytes += len(d.Event.Payload)
		}
	}
	return nil
}

// buryDamaged makes dead letters of what can never be read, so that it does not
// block the others.
func (o *Outbox) buryDamaged(ctx context.Context, q *queue, damaged []claim) error {
	return o.submit(ctx, func(b *batch) {
		for _, c := range damaged {
			b.bury(q, c, deadRecord{Reason: errDamaged.Error()})
		}
	})
}

func loadDelivery(txn *badger.Txn, q *queue, c claim) (d event.Delivery, err error) {
	var state deliveryState
	found, err := getRecord(txn, orderKey(q.id, c.entity, c.seq), &state)
	if err != nil {
		return d, err
	}
	stored, foundEvent, err := loadEvent(txn, c.seq)
	if err != nil {
		return d, err
	}
	if !found || !foundEvent {
		return d, fmt.Errorf("%w: a part is gone", errDamaged)
	}
	return event.Delivery{
		Want:     event.Want{Webhook: q.name, Undecided: state.Undecided},
		Event:    &stored.Event,
		Attempts: state.Attempts,
		Due:      time.UnixMilli(state.Due).UTC(),

		Redelivery: state.Redelivery,
	}, nil
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
		return nil, false, fmt.Errorf("%w: its payload: %w", errDamaged, err)
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
