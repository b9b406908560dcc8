package outbox

import (
	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/dgraph-io/badger/v4"
)

// Queue is the part of a webhook's settings that says how its deliveries wait.
type Queue struct {
	// Order is entity, which is the default: one delivery of an entity at a time,
	// in commit order; or none.
	Order string `yaml:"order"`
	// Superseded is what becomes of a delivery when a newer one waits that makes it
	// needless: deliver, which is the default, or skip.
	Superseded string `yaml:"superseded"`
	// Batch bundles events into one call; nil for a call for each.
	Batch *Batch `yaml:"batch"`
}

// Validate reports what is wrong with the settings.
func (q Queue) Validate(check setting.Check) {
	if q.Order != "" && q.Order != "entity" && q.Order != "none" {
		check.Add("order", "must be entity or none")
	}
	if q.Superseded != "" && q.Superseded != "deliver" && q.Superseded != "skip" {
		check.Add("superseded", "must be deliver or skip")
	}
	if q.Batch != nil {
		q.Batch.validate(check.In("batch"))
	}
}

// unordered tells whether all deliveries have t or r keys, not only the first of
// each entity. The bundles of a batch keep the order by themselves.
func (q *Queue) unordered() bool { return q.Order == "none" || q.Batch != nil }

// Skips tells whether superseded deliveries are dropped.
func (q Queue) Skips() bool { return q.Superseded == "skip" }

// maxCompared bounds how many deliveries of an entity are looked at.
const maxCompared = 100

// pending is a waiting delivery and its event.
type pending struct {
	claim
	state deliveryState
	event *eventRecord
}

// supersede drops the waiting deliveries of an entity that a later one makes
// needless. What is being delivered is spared, but for the one that is being
// settled.
func (b *batch) supersede(q *queue, entity, settled uint64) {
	if !q.Skips() {
		return
	}
	list := b.pendings(q, entity)
	for i, old := range list {
		for _, newer := range list[i+1:] {
			if !supersedes(&newer.event.Event, &old.event.Event) {
				continue
			}
			if !b.full() && (old.seq == settled || b.take(q, old.claim)) {
				b.skip(q, old, newer)
			}
			break
		}
	}
}

// supersedes tells whether who gets the newer event needs not get the old one:
// it shows the same entity, as whole and not in a lower version. Two events of
// one exchange, and what was only accepted, may mean different things.
func supersedes(newer, old *event.Event) bool {
	return newer.Topic() == old.Topic() && newer.Environment == old.Environment && newer.Key() == old.Key() &&
		newer.Entity.Version >= old.Entity.Version && newer.Request.ID != old.Request.ID &&
		newer.Confirmed && !newer.Late && !newer.Accepted && !old.Accepted &&
		(newer.Partial == "" || newer.Partial == old.Partial) &&
		(newer.PayloadError == "" || newer.PayloadError == old.PayloadError)
}

// pendings reads what waits of an entity, in commit order.
func (b *batch) pendings(q *queue, entity uint64) (list []pending) {
	prefix := orderKey(q.id, entity, 0)[:13]
	var seqs []uint64
	keysFrom(b.txn, prefix, prefix, func(item *badger.Item) bool {
		_, _, seq := parseOrder(item.Key())
		seqs = append(seqs, seq)
		return len(seqs) < maxCompared
	})
	if len(seqs) < 2 {
		return nil
	}
	for _, seq := range seqs {
		w := pending{event: &eventRecord{}}
		state, found := b.get(orderKey(q.id, entity, seq))
		head, there := b.get(eventKey(seq))
		if !found || !there || decode(state, &w.state) != nil || decode(head, w.event) != nil {
			continue // damaged: it is given up when its turn comes
		}
		w.claim = claim{lane: w.state.lane(), seq: seq, entity: entity, due: millis(w.state.Due)}
		list = append(list, w)
	}
	return list
}

// take claims a delivery for the committer, until the batch has ended.
func (b *batch) take(q *queue, c claim) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, taken := q.claimed[c.seq]; taken {
		return false
	}
	q.claimed[c.seq] = c
	b.ended = append(b.ended, func() { q.release(c) })
	return true
}

// skip drops a delivery, and says so.
func (b *batch) skip(q *queue, old, newer pending) {
	b.remove(q, old.claim)
	b.after = append(b.after, func() {
		e := old.event
		b.o.log.Info("superseded", "webhook", q.name, "event", e.ID, "topic", e.Topic(), "entity", e.Entity.ID,
			"attempts", old.state.Attempts, "by", newer.event.ID)
	})
}
