package outbox

import "github.com/dgraph-io/badger/v4"

// enqueue adds a delivery. The one of its webhook and entity whose turn it is has a
// t or r key; the others wait behind it.
func (b *batch) enqueue(q *queue, entity, seq uint64, state deliveryState) {
	if q.Batch != nil { // bundles go by due time, and that is by commits
		state.Due = max(state.Due, q.newest)
		b.after = append(b.after, func() { q.newest = max(q.newest, state.Due) })
	}
	if state.Redelivery != "" {
		state.Since = state.Due
	}
	n, behind := b.counts(q, entity)
	turn := n == 0 || q.unordered() || n == behind && b.overtakes(q, entity, seq, state)
	b.set(orderKey(q.id, entity, seq), encode(state))
	b.addCount(q, entity, state, 1)
	if turn {
		b.ready(q, entity, seq, state)
	}
	b.parkLate(q)
}

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

// counts returns how many deliveries of a webhook and entity wait, and how many of
// them go behind the others.
func (b *batch) counts(q *queue, entity uint64) (n, behind int) {
	value, _ := b.get(countKey(q.id, entity))
	if len(value) >= 4 {
		n = int(be.Uint32(value))
	}
	if len(value) >= 8 { // older versions did not count them
		behind = int(be.Uint32(value[4:]))
	}
	return n, behind
}

// addCount adds to the counts of a delivery's webhook and entity, and returns how
// many wait.
func (b *batch) addCount(q *queue, entity uint64, state deliveryState, change int) int {
	b.after = append(b.after, func() { q.waiting.Add(int64(change)) })
	n, behind := b.counts(q, entity)
	if n += change; n <= 0 {
		b.delete(countKey(q.id, entity))
		return 0
	}
	if state.behind() {
		behind += change
	}
	behind = min(max(behind, 0), n)
	b.set(countKey(q.id, entity), be.AppendUint32(be.AppendUint32(nil, uint32(n)), uint32(behind)))
	return n
}
