package outbox

import (
	"context"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// state is what is kept of an entity's last event.
type state struct {
	event.Last
	Seq uint64 `json:"seq"`
}

// maxStateKey bounds the keys of states; of an entity with a longer one no
// state is kept. Badger's keys have 65,000 bytes.
const maxStateKey = 4 << 10

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
			b.deleteAll(some)
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

// Last returns what is known of an entity's last event. The committer reads it:
// Badger keeps all others waiting while a commit hangs.
func (o *Outbox) Last(ctx context.Context, entityKey string) (event.Last, error) {
	var found event.Last
	if err := o.submit(ctx, func(b *batch) { found = b.stateOf(entityKey).Last }); err != nil {
		return event.Last{}, err
	}
	return found, nil
}

// stateOf returns what is kept of an entity; nothing if that is damaged.
func (b *batch) stateOf(entityKey string) (last state) {
	if len(entityKey) > maxStateKey {
		return state{}
	}
	if text, found := b.get(stateKey(entityKey)); !found || decode(text, &last) != nil {
		return state{}
	}
	return last
}

// remember keeps an event's version as its entity's, and tells whether a newer
// one was known. What is unconfirmed changes nothing. A first version after
// later ones is late, or another entity of that id: nothing is known then.
func (b *batch) remember(e *event.Event, seq uint64) (late bool) {
	key, last := stateKey(e.Key()), b.stateOf(e.Key())
	version := e.Entity.Version
	late = version > 0 && version < last.Version
	switch {
	case !e.Confirmed || len(e.Key()) > maxStateKey:
	case e.Gone, late && version == 1:
		if last.Seq > 0 {
			b.delete(key)
		}
	case version > 0:
		if version != last.Version {
			last.Count++
		}
		b.set(key, encode(state{event.Last{Version: max(version, last.Version), Count: last.Count}, seq}))
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
