package outbox

import (
	"context"
	"time"

	"cmstap/event"
)

// attemptRecord is one attempt as it is kept, without the answer: what a query
// selects by. Topic is empty in records of older versions, which have neither
// Entity nor Environment.
type attemptRecord struct {
	event.Attempt
	Event       string `json:"event"`
	Result      string `json:"result"`
	Topic       string `json:"topic,omitempty"`
	Entity      string `json:"entity,omitempty"`
	Environment string `json:"environment,omitempty"`
}

// wireRecord is the call of an attempt, in a record of its own so that queries
// need not read it. Deliveries of one bundle had one call: all but the first only
// say whose record has it.
type wireRecord struct {
	*event.Wire
	Of uint64 `json:"of,omitempty"` // the seq of the bundle's first
}

// deadRecord is a delivery that was given up.
type deadRecord struct {
	Event  string        `json:"event"`
	Reason string        `json:"reason"`
	Last   event.Attempt `json:"last,omitzero"` // with its answer; none if no attempt was made
	// Undecided is why the filter could not be decided.
	Undecided string `json:"undecided,omitempty"`
}

// Settle makes the end of an attempt durable: the delivery is done, due again
// or dead, and the next one of its entity may go. On an error the delivery
// stays with the caller, who calls again. Settling what was settled before, or
// is not the caller's any more, changes nothing.
func (o *Outbox) Settle(ctx context.Context, d event.Delivery, s event.Settlement) error {
	return o.SettleAll(ctx, []event.Delivery{d}, s)
}

// SettleAll is Settle for deliveries of one webhook that were attempted together,
// at least one: they have the same end, in one transaction.
func (o *Outbox) SettleAll(ctx context.Context, deliveries []event.Delivery, s event.Settlement) error {
	if err := o.opened(); err != nil {
		return err
	}
	q := o.hooks()[deliveries[0].Webhook]
	if q == nil {
		return errUnknown(deliveries[0].Webhook)
	}
	var claims []claim
	var held []event.Delivery
	for _, d := range deliveries {
		if c, ours := q.held(d); ours {
			claims, held = append(claims, c), append(held, d)
		}
	}
	if len(held) == 0 {
		return nil
	}
	return o.submit(ctx, func(b *batch) {
		s := s
		for i, c := range claims {
			b.settle(q, c, held[i], s, claims[0].seq)
			s.Attempt.Answer = "" // the first has it: that of 500 would not fit
			b.after = append(b.after, func() { q.release(c) })
		}
	})
}

// Release gives back a delivery that was not attempted.
func (o *Outbox) Release(d event.Delivery) {
	if q := o.hooks()[d.Webhook]; q != nil {
		if c, held := q.held(d); held {
			q.release(c)
		}
	}
}

// settle stores the end of an attempt; first is the seq of the first delivery of
// its bundle.
func (b *batch) settle(q *queue, c claim, d event.Delivery, s event.Settlement, first uint64) {
	var state deliveryState
	if text, found := b.get(orderKey(q.id, c.entity, c.seq)); found {
		b.fail(decode(text, &state))
	} else {
		return // it was settled, and the answer to that was lost
	}
	if state.Attempts != d.Attempts {
		return // so was this attempt
	}
	b.delete(c.key(q))
	b.logCall(attemptKey(q.id, s.Attempt.Time, c.seq, s.Attempt.Number), d.Event, s, first)
	switch s.Result {
	case event.Retry:
		state.Attempts, state.Wait = s.Attempt.Number, (s.Wait + time.Millisecond - 1).Milliseconds()
		state.Due, state.Last = b.now.Add(s.Wait).UnixMilli(), s.Attempt
		b.set(orderKey(q.id, c.entity, c.seq), encode(state))
		if state.behind() && !q.unordered() { // what came meanwhile does not wait for it
			b.promote(q, c.entity)
		} else {
			b.ready(q, c.entity, c.seq, state)
		}
		b.supersede(q, c.entity, c.seq)
		return
	case event.GiveUp:
		b.setDead(q, c.seq, deadRecord{Event: d.Event.ID, Reason: s.Reason, Last: s.Attempt, Undecided: state.Undecided})
	case event.Delivered:
	}
	b.end(q, c, state, true)
}

// logCall keeps what happened to a call.
func (b *batch) logCall(key []byte, e *event.Event, s event.Settlement, first uint64) {
	record := attemptRecord{
		Attempt: s.Attempt, Event: e.ID, Result: s.Result.String(),
		Topic: e.Topic(), Entity: e.Entity.ID, Environment: e.Environment,
	}
	record.Answer = ""
	b.set(key, encode(record))
	wire := wireRecord{Wire: s.Attempt.Wire}
	if _, seq := parseTimed(key); seq != first {
		wire = wireRecord{Of: first}
	}
	b.set(wireKey(key), encode(wire))
	b.after = append(b.after, func() { b.o.watchers.called(b.o, key, record) })
}

func (b *batch) setDead(q *queue, seq uint64, dead deadRecord) {
	b.set(deadKey(q.id, b.now, seq), encode(dead))
	b.after = append(b.after, func() { q.dead.Add(1) })
}

// bury makes a waiting delivery a dead letter without an attempt.
func (b *batch) bury(q *queue, c claim, dead deadRecord) {
	if state, found := b.remove(q, c); found {
		dead.Last, dead.Undecided = state.Last, state.Undecided
		b.setDead(q, c.seq, dead)
	}
	b.after = append(b.after, func() { q.release(c) })
}

// remove deletes a delivery, if it is there, and its t or r key. It may be due at
// another time by now than when it was claimed.
func (b *batch) remove(q *queue, c claim) (state deliveryState, found bool) {
	text, found := b.get(orderKey(q.id, c.entity, c.seq))
	if found && decode(text, &state) == nil {
		c.due = millis(state.Due)
	}
	first := false
	for _, c.lane = range []byte{tagDue, tagRetry} {
		if _, there := b.get(c.key(q)); there {
			b.delete(c.key(q))
			first = true
		}
	}
	if found {
		b.end(q, c, state, first)
	}
	return state, found
}

// end removes a delivery. If it had the turn of its entity, another one gets it.
func (b *batch) end(q *queue, c claim, state deliveryState, turn bool) {
	b.delete(orderKey(q.id, c.entity, c.seq))
	if b.addCount(q, c.entity, state, -1) > 0 && turn && !q.unordered() {
		b.promote(q, c.entity)
	}
}
