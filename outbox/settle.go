package outbox

import (
	"context"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// attemptRecord is one call of a webhook as it is kept.
type attemptRecord struct {
	event.Attempt
	Event  string `json:"event"`
	Result string `json:"result"`
}

// deadRecord is a delivery that was given up.
type deadRecord struct {
	Event    string `json:"event"`
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
	Status   int    `json:"status,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Settle makes the end of an attempt durable: the delivery is done, due again
// or dead, and the next one of its entity may go. On an error the delivery
// stays with the caller, who calls again.
func (o *Outbox) Settle(ctx context.Context, d event.Delivery, s event.Settlement) error {
	q := o.hooks[d.Webhook]
	return o.submit(ctx, func(b *batch) {
		b.settle(q, d, s)
		b.after = append(b.after, func() { q.release(d.Event.Seq) })
	})
}

// Release gives back a delivery that was not attempted.
func (o *Outbox) Release(d event.Delivery) { o.hooks[d.Webhook].release(d.Event.Seq) }

func (b *batch) settle(q *queue, d event.Delivery, s event.Settlement) {
	entity, seq := entityHash(d.Event.Key()), d.Event.Seq
	if _, found := b.get(orderKey(q.id, entity, seq)); !found {
		return // settled before; the answer to that was lost
	}
	b.delete(dueKey(q.id, d.Due, seq))
	b.set(attemptKey(q.id, s.Attempt.Time, seq, s.Attempt.Number),
		encode(attemptRecord{Attempt: s.Attempt, Event: d.Event.ID, Result: s.Result.String()}))
	switch s.Result {
	case event.Retry:
		state := deliveryState{Attempts: s.Attempt.Number, Due: s.Next.UnixMilli(), Undecided: d.Undecided}
		b.set(orderKey(q.id, entity, seq), encode(state))
		b.ready(q, entity, seq, state)
		return
	case event.GiveUp:
		b.set(deadKey(q.id, b.now, seq), encode(deadRecord{
			Event: d.Event.ID, Attempts: s.Attempt.Number, Reason: s.Reason,
			Status: s.Attempt.Status, Error: s.Attempt.Error,
		}))
	case event.Delivered:
	}
	b.delete(orderKey(q.id, entity, seq))
	if b.addCount(q.id, entity, -1) > 0 {
		b.promote(q, entity, seq)
	}
}

// promote gives the delivery behind seq its turn.
func (b *batch) promote(q *queue, entity, seq uint64) {
	prefix := orderKey(q.id, entity, 0)[:13]
	var next []byte
	keysFrom(b.txn, prefix, orderKey(q.id, entity, seq+1), func(item *badger.Item) bool {
		next = item.KeyCopy(nil)
		return false
	})
	if next == nil {
		return
	}
	var state deliveryState
	text, _ := b.get(next)
	b.fail(decode(text, &state))
	b.ready(q, entity, be.Uint64(next[13:]), state)
}
