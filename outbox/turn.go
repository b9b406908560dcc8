package outbox

import "github.com/dgraph-io/badger/v4"

// next decides whose turn it is among the waiting deliveries of an entity: the first
// in commit order that follows from a write. If there is none, it is the first that
// is made once more.
func (b *batch) next(q *queue, entity uint64) (next pending, found bool) {
	n, behind := b.counts(q, entity)
	mixed := behind > 0 && behind < n
	prefix := orderKey(q.id, entity, 0)[:13]
	keysFrom(b.txn, prefix, prefix, func(item *badger.Item) bool {
		p := pending{claim: claim{entity: entity}}
		_, _, p.seq = parseOrder(item.Key())
		if err := item.Value(func(text []byte) error { return decode(text, &p.state) }); err != nil {
			p.state = deliveryState{} // damaged: it is given up when its turn comes
		}
		p.lane, p.due = p.state.lane(), millis(p.state.Due)
		if !found || !p.state.behind() {
			next, found = p, true
		}
		return mixed && p.state.behind()
	})
	return next, found
}

// promote gives the turn of an entity, which nobody has, to the next delivery.
func (b *batch) promote(q *queue, entity uint64) {
	if next, found := b.next(q, entity); found {
		b.ready(q, entity, next.seq, next.state)
	}
}

// overtakes takes the turn of an entity, of which only what is made once more waits,
// for a delivery that goes before that. What is handed out keeps its turn; so does
// what had it then and was given back.
func (b *batch) overtakes(q *queue, entity, seq uint64, state deliveryState) bool {
	next, found := b.next(q, entity)
	if !found || !next.state.behind() || state.behind() && next.seq < seq {
		return false
	}
	if _, turn := b.get(next.key(q)); !turn || !b.take(q, next.claim) {
		return false
	}
	b.delete(next.key(q))
	return true
}
