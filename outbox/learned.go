package outbox

import (
	"context"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// state is what is kept of an entity's last event.
type state struct {
	Version int64  `json:"v"`
	Seq     uint64 `json:"seq"`
}

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
	news, err := o.prepare(ctx, learned)
	if err != nil || len(news) == 0 {
		return err
	}
	return o.submit(ctx, func(b *batch) { b.learn(news) })
}

// prepare returns the news among what was learned, and drops the states that
// are stored under those aliases: they were another environment's.
func (o *Outbox) prepare(ctx context.Context, learned []event.Link) ([]event.Link, error) {
	news := o.Links().News(learned)
	for _, link := range news {
		if err := o.forget(ctx, stateKey(event.KeysOf(link.Place()))); err != nil {
			return nil, err
		}
	}
	return news, nil
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
			b.deleteAll(some)
		})
		if err != nil || len(some) < 1000 {
			return err
		}
	}
}

func (b *batch) learn(news []event.Link) {
	for _, link := range news {
		b.set(linkKey(link.Place()), encode(link))
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

// Seen returns the version that the last event of an entity had; 0 if there is
// none, or it had none. The committer reads it: Badger keeps all others waiting
// while a commit hangs.
func (o *Outbox) Seen(ctx context.Context, entityKey string) (version int64, err error) {
	var found int64
	if err := o.submit(ctx, func(b *batch) { found = b.stateOf(entityKey).Version }); err != nil {
		return 0, err
	}
	return found, nil
}

// stateOf returns what is kept of an entity; nothing if that is damaged.
func (b *batch) stateOf(entityKey string) (last state) {
	if text, found := b.get(stateKey(entityKey)); !found || decode(text, &last) != nil {
		return state{}
	}
	return last
}

// remember keeps an event's version as its entity's, and tells whether a newer
// one was known. What is unconfirmed changes nothing.
func (b *batch) remember(e *event.Event, seq uint64) (late bool) {
	key, last := stateKey(e.Key()), b.stateOf(e.Key())
	late = e.Entity.Version > 0 && e.Entity.Version < last.Version
	switch {
	case !e.Confirmed || late:
	case e.Gone:
		if last.Seq > 0 {
			b.delete(key)
		}
	case e.Entity.Version > 0:
		b.set(key, encode(state{e.Entity.Version, seq}))
	}
	return late
}

// addState collects the state that goes with an event.
func (c *collector) addState(txn *badger.Txn, e *eventRecord) {
	var last state
	key := stateKey(e.Key())
	if found, err := getRecord(txn, key, &last); err == nil && found && last.Seq == e.Seq {
		c.keys = append(c.keys, key)
	}
}
