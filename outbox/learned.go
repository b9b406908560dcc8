package outbox

import (
	"context"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// Links returns what is known of aliases.
func (o *Outbox) Links() event.Links { return *o.links.Load() }

// loadLinks reads the links; what was learned wins over what is configured.
func (o *Outbox) loadLinks(txn *badger.Txn) error {
	var learned []event.Link
	err := scan(txn, []byte{tagLink}, func(_, value []byte) error {
		var link event.Link
		err := decode(value, &link)
		learned = append(learned, link)
		return err
	})
	links := o.config.Links.With(learned)
	o.links.Store(&links)
	return err
}

// Learn stores what an answer told about aliases, if that is news.
func (o *Outbox) Learn(ctx context.Context, learned []event.Link) error {
	if err := o.forgetOld(ctx, learned); err != nil || len(o.Links().News(learned)) == 0 {
		return err
	}
	return o.submit(ctx, func(b *batch) { b.learn(learned) })
}

// forgetOld drops the states that are stored under aliases which lead elsewhere
// now: they were another environment's.
func (o *Outbox) forgetOld(ctx context.Context, learned []event.Link) error {
	for _, link := range o.Links().News(learned) {
		if err := o.forget(ctx, stateKey(event.KeysOf(link.Place()))); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the states whose keys have the prefix, some at a time.
func (o *Outbox) forget(ctx context.Context, prefix []byte) error {
	for {
		var some [][]byte
		err := o.submit(ctx, func(b *batch) {
			some = nil
			keysFrom(b.txn, prefix, prefix, func(item *badger.Item) bool {
				some = append(some, item.KeyCopy(nil))
				return len(some) < 1000
			})
			b.forget(some)
		})
		if err != nil || len(some) < 1000 {
			return err
		}
	}
}

// learn stores what says something else than what is known, and is not older.
func (b *batch) learn(learned []event.Link) {
	var news []event.Link
	for _, link := range b.o.Links().News(learned) {
		var known event.Link
		if text, found := b.get(linkKey(link.Place())); found && decode(text, &known) == nil && known.Time.After(link.Time) {
			continue
		}
		b.set(linkKey(link.Place()), encode(link))
		news = append(news, link)
	}
	if len(news) > 0 {
		b.after = append(b.after, func() {
			links := b.o.Links().With(news)
			b.o.links.Store(&links)
			for _, link := range news {
				b.o.log.Info("alias", "space", link.Space, "alias", link.Alias, "target", link.Target)
			}
		})
	}
}
