package outbox

import (
	"bytes"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// The layout of a queue: under the meta key order/NAME, none or nothing.
func orderOf(name string) []byte { return metaKey("order/" + name) }

// reorder gives the queues the settings of their webhooks, and changes the
// layout of those whose order is another one than before. A webhook that the
// config no longer has keeps its order.
func (o *Outbox) reorder(webhooks []string) error {
	for name, q := range o.hooks() {
		q.Queue = o.config.Queues[name]
		var stored []byte
		err := o.db.View(func(txn *badger.Txn) (err error) {
			stored, _, err = get(txn, orderOf(name))
			return err
		})
		if err != nil {
			return err
		}
		if !slices.Contains(webhooks, name) {
			q.Order = string(stored)
		}
		if q.unordered() == (string(stored) == "none") {
			continue
		}
		if err := o.layOut(q); err != nil {
			return err
		}
	}
	return nil
}

// layOut gives t or r keys to all deliveries of a queue, or only to the one of each
// entity whose turn it is. It may be cut off and repeated.
func (o *Outbox) layOut(q *queue) error {
	var keys [][]byte
	err := o.db.View(func(txn *badger.Txn) error {
		keysFrom(txn, orderPrefix(q.id), orderPrefix(q.id), func(item *badger.Item) bool {
			keys = append(keys, item.KeyCopy(nil))
			return true
		})
		return nil
	})
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		b := o.newBatch()
		for ; len(keys) > 0 && !b.full(); keys = keys[1:] {
			_, entity, seq := parseOrder(keys[0])
			b.layOut(q, entity, seq)
			if last := len(keys) == 1 || !bytes.HasPrefix(keys[1], keys[0][:13]); last && !q.unordered() {
				b.promote(q, entity)
			}
		}
		if err := o.finish(b); err != nil {
			return err
		}
	}
	b := o.newBatch()
	if q.unordered() {
		b.set(orderOf(q.name), []byte("none"))
	} else {
		b.delete(orderOf(q.name))
	}
	return o.finish(b)
}

func (b *batch) layOut(q *queue, entity, seq uint64) {
	var state deliveryState
	if text, found := b.get(orderKey(q.id, entity, seq)); !found || decode(text, &state) != nil {
		state = deliveryState{} // damaged: it is given up when its turn comes
	}
	if q.Batch != nil && state.Attempts > 0 { // it would hold up all that is bundled
		b.delete(dueKey(state.lane(), q.id, millis(state.Due), seq))
		state.Due, state.Wait = b.now.UnixMilli(), 0
		b.set(orderKey(q.id, entity, seq), encode(state))
	}
	if q.unordered() {
		b.ready(q, entity, seq, state)
		return
	}
	b.delete(dueKey(state.lane(), q.id, millis(state.Due), seq))
}
