package outbox

import (
	"cmp"
	"context"
	"slices"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// Resend makes the delivery of an event to a webhook due now, whatever became of
// it; its attempts begin anew, and its dead letter goes away. One that waits keeps
// its place among those of its entity, any other goes behind them. One that waits
// for a bundle goes with that; one whose bundle failed is refused. The error may be
// an event.Refusal.
func (o *Outbox) Resend(ctx context.Context, id, webhook string) error {
	q, err := o.givenQueue(webhook)
	if err != nil {
		return err
	}
	stored, dead, waits, err := o.lookFor(q, id)
	if err != nil {
		return err
	}
	var refusal error
	if err = o.submit(ctx, func(b *batch) { refusal = b.resend(q, stored, dead, waits) }); err != nil {
		return err // the committer may be at it yet
	}
	return refusal
}

// lookFor finds the delivery of an event: its dead letter, if there is one, or
// whether it waits.
func (o *Outbox) lookFor(q *queue, id string) (stored *eventRecord, dead []byte, waits bool, err error) {
	err = o.view(func(txn *badger.Txn) error {
		seq, found, err := get(txn, idKey(id))
		if err == nil && found {
			stored, found, err = loadEvent(txn, be.Uint64(seq))
		}
		switch {
		case err != nil:
			return err
		case !found:
			return event.Refuse(event.NotFound, "there is no event of that id; it may be past its retention (outbox.retention)")
		case !slices.Contains(stored.Webhooks, q.id):
			return event.Refuse(event.NotFound, "the event was not for the webhook %q; a replay asks the config again who wants it", q.name)
		}
		if _, waits, err = get(txn, orderKey(q.id, stored.Hash, stored.Seq)); err != nil || waits {
			return err
		}
		prefix := deadKey(q.id, time.Time{}, 0)[:5]
		keysFrom(txn, prefix, prefix, func(item *badger.Item) bool {
			if _, seq := parseTimed(item.Key()); seq == stored.Seq {
				dead = item.KeyCopy(nil)
			}
			return dead == nil
		})
		return nil
	})
	return stored, dead, waits, err
}

// resend makes a delivery due that was looked for before.
func (b *batch) resend(q *queue, stored *eventRecord, dead []byte, waited bool) error {
	c := claim{seq: stored.Seq, entity: stored.Hash}
	if !b.take(q, c) {
		return event.Refuse(event.Conflict, "a call of it is under way; ask again when that has ended")
	}
	text, waits := b.get(orderKey(q.id, c.entity, c.seq))
	if _, there := b.get(eventKey(c.seq)); !there {
		return event.Refuse(event.NotFound, "the event is past its retention (outbox.retention)")
	}
	state := deliveryState{Due: b.now.UnixMilli(), Redelivery: event.Resend}
	switch {
	case waits:
		return b.hurry(q, c, text, state)
	case waited:
		return event.Refuse(event.Conflict, "its call ended just now; ask again")
	default:
		if dead != nil {
			state.Undecided = b.unbury(q, dead)
		}
		b.enqueue(q, c.entity, c.seq, state)
	}
	return nil
}

// hurry makes a delivery that waits one that is due, at its place. The place in a
// batch is the due time: a delivery that no attempt was made of keeps that.
func (b *batch) hurry(q *queue, c claim, text []byte, state deliveryState) error {
	var old deliveryState
	b.fail(decode(text, &old))
	if q.Batch != nil && old.Attempts > 0 {
		return event.Refuse(event.Conflict, "it waits in a bundle that failed, which is sent again as a whole at %s", millis(old.Due).Format(time.RFC3339))
	}
	if q.Batch != nil {
		state.Due, state.Wait = old.Due, old.Wait
	}
	state.Undecided = old.Undecided
	state.Kept = !old.behind()
	key := dueKey(old.lane(), q.id, millis(old.Due), c.seq)
	_, first := b.get(key)
	b.set(orderKey(q.id, c.entity, c.seq), encode(state))
	if first {
		b.delete(key)
		b.ready(q, c.entity, c.seq, state)
	}
	return nil
}

// unbury deletes a dead letter, if it is there, and returns why its filter could
// not be decided.
func (b *batch) unbury(q *queue, key []byte) (undecided string) {
	text, found := b.get(key)
	if !found {
		return ""
	}
	var dead deadRecord
	_ = decode(text, &dead) // a damaged one goes, too
	b.delete(key)
	b.after = append(b.after, func() { q.dead.Add(-1) })
	return dead.Undecided
}

// again is a delivery that is to be made once more.
type again struct {
	q         *queue
	seq       uint64
	dead      []byte // the key of its dead letter, if it has one
	undecided string
}

// againAtOnce bounds a write: an event may get a new webhook, and is stored anew
// then.
const againAtOnce = 100

// redeliver makes deliveries due, so many a second of each webhook, some in each
// transaction. Report is told after each how many of them were made due, and how
// many waited already.
func (o *Outbox) redeliver(ctx context.Context, list []again, why event.Redelivery, rate int, report func(made, waiting int)) error {
	for some := range slices.Chunk(list, againAtOnce) {
		var made, waiting int
		err := o.submit(ctx, func(b *batch) { made, waiting = b.redeliver(some, why, rate) })
		if err != nil {
			return err
		}
		report(made, waiting)
	}
	return nil
}

func (b *batch) redeliver(list []again, why event.Redelivery, rate int) (made, waiting int) {
	for _, one := range list {
		q := one.q
		var stored eventRecord
		text, found := b.get(eventKey(one.seq))
		if !found || decode(text, &stored) != nil {
			continue // past its retention, or damaged
		}
		if _, waits := b.get(orderKey(q.id, stored.Hash, one.seq)); waits {
			waiting++
			continue
		}
		if one.dead != nil {
			if _, there := b.get(one.dead); !there && why == event.Resend {
				continue // somebody else was first
			}
			one.undecided = cmp.Or(one.undecided, b.unbury(q, one.dead))
		}
		if !slices.Contains(stored.Webhooks, q.id) {
			stored.Webhooks = append(stored.Webhooks, q.id)
			b.set(eventKey(one.seq), encode(stored))
		}
		due := b.slot(q, rate)
		b.enqueue(q, stored.Hash, one.seq, deliveryState{
			Due: due.UnixMilli(), Wait: due.Sub(b.now).Milliseconds(), Undecided: one.undecided, Redelivery: why,
		})
		made++
	}
	for q, at := range b.paced {
		away := max(at.Sub(b.now), 0)
		b.set(pacedKey(q.name), be.AppendUint64(be.AppendUint64(nil, milli(at)), uint64(away.Milliseconds())))
		b.after = append(b.after, func() { q.paced = at })
	}
	return made, waiting
}

// slot is when the next redelivery of a webhook may go. Bundles need none. If nothing
// waits any more, nobody needs the slots that were given.
func (b *batch) slot(q *queue, rate int) time.Time {
	if q.Batch != nil {
		return b.now
	}
	at, begun := b.paced[q]
	if !begun && q.waiting.Load() > 0 {
		at = q.paced
	}
	if at.Before(b.now) {
		at = b.now
	}
	b.paced[q] = at.Add(time.Second / time.Duration(rate))
	return at
}

// CountFailed counts the deliveries that were given up which a query selects, by
// when they were.
func (o *Outbox) CountFailed(ctx context.Context, query event.Query) (event.Tally, error) {
	list, err := o.failed(ctx, query)
	return event.Tally{Events: len(list), Deliveries: len(list), Done: err == nil}, err
}

// ResendFailed makes the same deliveries due, in commit order, rate of them a
// second for each webhook. What was done before an error stays.
func (o *Outbox) ResendFailed(ctx context.Context, query event.Query, rate int, report func(event.Tally)) (event.Tally, error) {
	var tally event.Tally
	list, err := o.failed(ctx, query)
	if err != nil {
		return tally, err
	}
	tally.Events = len(list)
	err = o.redeliver(ctx, list, event.Resend, rate, func(made, waiting int) {
		tally.Deliveries += made
		tally.Waiting += waiting
		report(tally)
	})
	tally.Done = err == nil
	return tally, err
}

// failed finds dead letters in commit order, about 60 bytes of memory for each.
func (o *Outbox) failed(ctx context.Context, query event.Query) (list []again, err error) {
	if query.Webhook != "" {
		if _, err := o.givenQueue(query.Webhook); err != nil {
			return nil, err
		}
	}
	err = o.view(func(txn *badger.Txn) error {
		for name, q := range o.hooks() {
			if !q.given.Load() || query.Webhook != "" && query.Webhook != name {
				continue
			}
			some, err := q.failed(ctx, txn, query)
			if err != nil {
				return err
			}
			list = append(list, some...)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b again) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.q.id, b.q.id)) })
	return list, err
}

func (q *queue) failed(ctx context.Context, txn *badger.Txn, query event.Query) (list []again, err error) {
	prefix := deadKey(q.id, time.Time{}, 0)[:5]
	keysFrom(txn, prefix, deadKey(q.id, query.Since, 0), func(item *badger.Item) bool {
		at, seq := parseTimed(item.Key())
		if !query.Until.IsZero() && !at.Before(query.Until) {
			return false
		}
		if err = ctx.Err(); err != nil {
			return false
		}
		var selected bool
		if selected, err = selectsDead(txn, item, seq, query); err == nil && selected && !at.Before(query.Since) {
			list = append(list, again{q: q, seq: seq, dead: item.KeyCopy(nil)})
		}
		return err == nil
	})
	return list, err
}

// selectsDead tells whether a query selects a dead letter by what its event says.
func selectsDead(txn *badger.Txn, item *badger.Item, seq uint64, query event.Query) (bool, error) {
	query.Since, query.Until = time.Time{}, time.Time{}
	var stored eventRecord
	found, err := getRecord(txn, eventKey(seq), &stored)
	if err != nil || !found {
		return false, ignoreDamaged(err)
	}
	if selects(&stored, query) {
		return true, nil
	}
	if query.Text == "" {
		return false, nil
	}
	var dead deadRecord
	if err := item.Value(func(text []byte) error { return decode(text, &dead) }); err != nil || !hasText(query.Text, dead.Reason, dead.Last.Error) {
		return false, ignoreDamaged(err)
	}
	query.Text = ""
	return selects(&stored, query), nil
}
