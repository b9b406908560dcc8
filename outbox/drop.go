package outbox

import (
	"context"

	"github.com/dgraph-io/badger/v4"
)

// DropWaiting deletes the deliveries that wait for a webhook, and says how many
// there were. Their events stay for their retention.
func (o *Outbox) DropWaiting(ctx context.Context, webhook string) (dropped int, err error) {
	if err := o.opened(); err != nil {
		return 0, err
	}
	q := o.hooks()[webhook]
	if q == nil {
		return 0, errUnknown(webhook)
	}
	for {
		var keys [][]byte
		err := o.view(func(txn *badger.Txn) error {
			keysFrom(txn, orderPrefix(q.id), orderPrefix(q.id), func(item *badger.Item) bool {
				keys = append(keys, item.KeyCopy(nil))
				return len(keys) < 100
			})
			return nil
		})
		if err != nil || len(keys) == 0 {
			return dropped, err
		}
		if err := o.submit(ctx, func(b *batch) { b.dropAll(q, keys) }); err != nil {
			return dropped, err
		}
		dropped += len(keys)
	}
}

func (b *batch) dropAll(q *queue, keys [][]byte) {
	for _, key := range keys {
		_, entity, seq := parseOrder(key)
		b.remove(q, claim{seq: seq, entity: entity})
	}
}
