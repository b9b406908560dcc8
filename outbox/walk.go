package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// Bounds of what Walk hands over at a time: events, bytes of their payloads, and
// records that are read for that.
const (
	maxStep      = 100
	maxStepBytes = 4 << 20
	maxStepReads = 2000
)

// Walk hands over the stored events that a query selects, in commit order and some
// at a time, up to the last one that is stored now. They are whole, with what their
// entities were before, as far as that is kept. It ends with ctx, or with the error
// of each.
func (o *Outbox) Walk(ctx context.Context, query event.Query, each func([]event.Event) error) error {
	var next, last uint64
	err := o.view(func(txn *badger.Txn) error {
		last = lastSeq(txn)
		next = firstSince(txn, last, query.Since)
		return nil
	})
	for err == nil && next <= last {
		if err = ctx.Err(); err != nil {
			return err
		}
		var step []event.Event
		err = o.view(func(txn *badger.Txn) (err error) {
			step, next, err = walkStep(txn, query, next, last)
			return err
		})
		if err == nil {
			err = each(step)
		}
	}
	return err
}

// walkStep reads the next events, and says where to go on.
func walkStep(txn *badger.Txn, query event.Query, from, last uint64) (step []event.Event, next uint64, err error) {
	next = last + 1
	reads, bytes := 0, 0
	keysFrom(txn, []byte{tagEvent}, eventKey(from), func(item *badger.Item) bool {
		seq := be.Uint64(item.Key()[1:])
		if seq > last {
			return false
		}
		if reads++; reads > maxStepReads || len(step) >= maxStep || bytes > maxStepBytes {
			next = seq
			return false
		}
		var stored eventRecord
		if err = item.Value(func(text []byte) error { return ignoreDamaged(decode(text, &stored)) }); err != nil || !selects(&stored, query) {
			return err == nil
		}
		var whole *eventRecord
		if whole, err = wholeEvent(txn, seq); err == nil && whole != nil {
			step = append(step, whole.Event)
			bytes += len(whole.Payload) + len(whole.Before)
		}
		return err == nil
	})
	return step, next, err
}

// firstSince is the number of an event from which on all of a time are to be found.
// Events are in commit order, which is that of time but for stragglers.
func firstSince(txn *badger.Txn, last uint64, since time.Time) uint64 {
	if since.IsZero() {
		return 0
	}
	low, high := uint64(0), last+1
	for low < high { // the first that is not before the time
		mid := low + (high-low)/2
		var found eventRecord
		keysFrom(txn, []byte{tagEvent}, eventKey(mid), func(item *badger.Item) bool {
			return item.Value(func(text []byte) error { return decode(text, &found) }) != nil // a damaged one tells nothing
		})
		if found.Time.IsZero() || !found.Time.Before(since.Add(-straggle)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// wholeEvent reads an event with its payload, and what was before; nil if it is gone
// or damaged.
func wholeEvent(txn *badger.Txn, seq uint64) (*eventRecord, error) {
	stored, found, err := loadEvent(txn, seq)
	if err != nil || !found {
		return nil, ignoreDamaged(err)
	}
	e := &stored.Event
	e.Before, err = before(txn, e)
	e.BeforeUnseen = unseenBefore(e, e.Before != nil)
	return stored, err
}

// unseenBefore says why it is not known what an event's entity was.
func unseenBefore(e *event.Event, known bool) string {
	switch {
	case known:
		return ""
	case e.BeforeEvent != "":
		return "the event that showed what it was is past its retention"
	}
	return cmp.Or(e.BeforeUnseen, "the state before is not known")
}

// before is what an event's entity was, null if it was not there, and nil if that
// is not known.
func before(txn *badger.Txn, e *event.Event) (json.RawMessage, error) {
	switch e.BeforeEvent {
	case "":
		return nil, nil
	case event.NoEvent:
		return json.RawMessage("null"), nil
	}
	seq, found, err := get(txn, idKey(e.BeforeEvent))
	if err != nil || !found {
		return nil, err
	}
	shown, found, err := loadEvent(txn, be.Uint64(seq))
	if err != nil || !found {
		return nil, ignoreDamaged(err)
	}
	return shown.Payload, nil
}

// Whole returns an event as Walk does; found is false if there is none of that id.
func (o *Outbox) Whole(id string) (e event.Event, found bool, err error) {
	err = o.view(func(txn *badger.Txn) error {
		seq, there, err := get(txn, idKey(id))
		if err != nil || !there {
			return err
		}
		stored, err := wholeEvent(txn, be.Uint64(seq))
		if stored != nil {
			e, found = stored.Event, true
		}
		return err
	})
	return e, found, err
}

// Redelivery puts events through to webhooks once more.
type Redelivery struct {
	o    *Outbox
	rate int

	// Once it has begun, these are the committer's own.
	dead map[deadID][]byte // keys of dead letters
	read time.Time         // what died before is in dead
}

type deadID struct {
	webhook uint32
	seq     uint64
}

// Redeliver begins to put events through to webhooks once more, rate of them a
// second for each. Dead letters of what is made due go away; those that there are
// take 100 bytes of memory each.
func (o *Outbox) Redeliver(rate int) (*Redelivery, error) {
	r := &Redelivery{o: o, rate: rate, dead: map[deadID][]byte{}, read: o.now().Add(-settled)}
	err := o.view(func(txn *badger.Txn) error {
		r.readDead(txn, []byte{tagDead}, []byte{tagDead})
		return nil
	})
	return r, err
}

func (r *Redelivery) readDead(txn *badger.Txn, prefix, start []byte) {
	keysFrom(txn, prefix, start, func(item *badger.Item) bool {
		_, seq := parseTimed(item.Key())
		r.dead[deadID{be.Uint32(item.Key()[1:]), seq}] = item.KeyCopy(nil)
		return true
	})
}

// catchUp reads the dead letters that came since.
func (r *Redelivery) catchUp(b *batch) {
	for _, q := range b.o.hooks() {
		start := deadKey(q.id, r.read, 0)
		r.readDead(b.txn, start[:5], start)
	}
	r.read = b.now
}

// Add makes the deliveries of stored events due, in the order given, and returns
// how many, and how many waited already and were left as they are. After an error
// it is not to be called again.
func (r *Redelivery) Add(ctx context.Context, captured []event.Captured) (made, waiting int, err error) {
	var list []again
	for _, c := range captured {
		for _, want := range c.Want {
			q, err := r.o.givenQueue(want.Webhook)
			if err != nil {
				return 0, 0, err
			}
			list = append(list, again{q: q, seq: c.Event.Seq, undecided: want.Undecided})
		}
	}
	for some := range slices.Chunk(list, againAtOnce) {
		var m, w int
		err := r.o.submit(ctx, func(b *batch) {
			r.catchUp(b)
			for i := range some {
				some[i].dead = r.dead[deadID{some[i].q.id, some[i].seq}]
			}
			m, w = b.redeliver(some, event.Replay, r.rate)
		})
		if err != nil {
			return made, waiting, err
		}
		made, waiting = made+m, waiting+w
	}
	return made, waiting, nil
}

// ignoreDamaged is nil for a record that can not be read, which is as if it were
// not there.
func ignoreDamaged(err error) error {
	if errors.Is(err, errDamaged) {
		return nil
	}
	return err
}
