package outbox

import (
	"container/list"
	"context"
	"slices"
	"sync"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// state is what is kept of an entity.
type state struct {
	event.Last
	ContentType string `json:"type,omitempty"`
	Gone        bool   `json:"gone,omitempty"`
	// Shown is the id of the event whose payload is what the entity is now; "" if
	// that is not known.
	Shown string `json:"shown,omitempty"`
}

// maxStateKey bounds the keys of states; of an entity with a longer one no
// state is kept. Badger's keys have 65,000 bytes.
const maxStateKey = 4 << 10

// Bounds of what is read of states for one exchange, and of what is kept in
// memory.
const (
	maxRecall = 32 << 20
	maxStates = 8 << 20
)

// Last returns what is known of an entity's last event. The committer reads it:
// Badger keeps all others waiting while a commit hangs.
func (o *Outbox) Last(ctx context.Context, entityKey string) (event.Last, error) {
	var found event.Last
	if err := o.submit(ctx, func(b *batch) { found = b.stateOf(entityKey).Last }); err != nil {
		return event.Last{}, err
	}
	return found, nil
}

// Recall returns the states of entities by their keys, those that there are; with
// their payloads if content is set, 32 MiB in all. What was used last is in
// memory; for the rest it waits for the disk.
func (o *Outbox) Recall(ctx context.Context, keys []string, content bool) (map[string]event.State, error) {
	found := make(map[string]event.State, len(keys))
	var missing []string
	bytes := 0
	add := func(key string, k known) {
		if k.state == (state{}) {
			return
		}
		one := event.State{Last: k.Last, ContentType: k.ContentType, Gone: k.Gone, Shown: k.Shown}
		if size, err := s2.DecodedLen(k.payload); content && err == nil && k.Shown != "" && bytes+size <= maxRecall {
			bytes += size
			one.Payload, _ = s2.Decode(nil, k.payload)
		}
		found[key] = one
	}
	for _, key := range keys {
		if k, there := o.states.get(key); there && (k.read || !content || k.Shown == "") {
			add(key, k)
		} else {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	var read []known
	err := o.submit(ctx, func(b *batch) {
		read = b.knownAll(missing, content)
		for _, k := range read {
			b.keep(k)
		}
	})
	if err != nil {
		return nil, err
	}
	for i, key := range missing {
		add(key, read[i])
	}
	return found, nil
}

// stateOf returns what is kept of an entity; nothing if that is damaged.
func (b *batch) stateOf(entityKey string) (last state) {
	if entityKey == "" || len(entityKey) > maxStateKey {
		return state{}
	}
	if text, found := b.get(stateKey(entityKey)); !found || decode(text, &last) != nil {
		return state{}
	}
	return last
}

// known reads a state, with its payload if content is set.
func (b *batch) known(entityKey string, content bool) known {
	k := known{key: entityKey, state: b.stateOf(entityKey), read: content}
	if k.Shown == "" {
		return k
	}
	var found bool
	if content {
		k.payload, found = b.get(pieceKey(k.Shown, 0))
	} else {
		_, found = b.get(idKey(k.Shown))
	}
	if !found { // its event is past its retention
		k.Shown, k.Known = "", k.Gone
	}
	return k
}

// knownAll reads states, and payloads until those have maxRecall bytes.
func (b *batch) knownAll(keys []string, content bool) []known {
	found, bytes := make([]known, len(keys)), 0
	for i, key := range keys {
		found[i] = b.known(key, content && bytes < maxRecall)
		bytes += len(found[i].payload)
	}
	return found
}

// keep has a state in memory once the batch is stored.
func (b *batch) keep(k known) {
	if k.key == "" || len(k.key) > maxStateKey {
		return
	}
	b.after = append(b.after, func() { b.o.states.put(k) })
}

// remember keeps what an event says of its entity. What is only accepted or late
// says nothing; what is unconfirmed, that nobody knows what the entity is now.
func (b *batch) remember(r *record, seq uint64) {
	e, key := &r.Event, r.Event.Key()
	if e.Accepted || e.Late || e.Entity.ID == "" || len(key) > maxStateKey {
		return
	}
	k := known{key: key, state: b.stateOf(key)}
	if !e.Confirmed {
		if k.Known && (e.Gone || e.Shows != event.ShowsSame) {
			k.Seq, k.Shown, k.Gone, k.Known = seq, "", false, false
			b.set(stateKey(key), encode(k.state))
			b.keep(k)
		}
		return
	}
	k.Seq = seq
	if e.Entity.ContentType != "" {
		k.ContentType = e.Entity.ContentType
	}
	if version := e.Entity.Version; version > 0 && version != k.Version {
		k.Version, k.Count = version, k.Count+1
	}
	if k.Gone = e.Gone; e.Gone {
		k.Version, k.Count, k.Shown = 0, 0, ""
	}
	switch {
	case e.Gone, e.Shows == event.ShowsNothing:
		k.Shown = ""
	case e.Shows == event.ShowsAll && r.Pieces == 1:
		k.Shown = e.ID
		if len(r.pieces) == 1 {
			k.payload, k.read = r.pieces[0], true
		}
	case e.Shows == event.ShowsAll:
		k.Shown = "" // too large
	}
	k.Known = k.Gone || k.Shown != ""
	b.set(stateKey(key), encode(k.state))
	b.keep(k)
}

// outlived drops from keys those of states that a later event made than seq.
func (b *batch) outlived(keys [][]byte, seq uint64) [][]byte {
	return slices.DeleteFunc(slices.Clone(keys), func(key []byte) bool {
		return key[0] == tagState && b.stateOf(string(key[1:])).Seq > seq
	})
}

// forget deletes keys, among which may be those of states.
func (b *batch) forget(keys [][]byte) {
	b.deleteAll(keys)
	b.after = append(b.after, func() { b.o.states.forget(keys) })
}

// forgetStates drops the states of events from memory.
func (o *Outbox) forgetStates(captured []event.Captured) {
	keys := make([][]byte, len(captured))
	for i := range captured {
		keys[i] = stateKey(captured[i].Event.Key())
	}
	o.states.forget(keys)
}

// addState collects the state that goes with an event.
func (c *collector) addState(txn *badger.Txn, e *eventRecord) {
	var last state
	key := stateKey(e.Key())
	if found, err := getRecord(txn, key, &last); err == nil && found && last.Seq == e.Seq {
		c.addKey(e.Seq, key)
	}
}

// states are those that were used last, so that hardly anybody waits for the disk
// to read one. They are as they are on disk: only the committer puts them.
type states struct {
	mu    sync.Mutex
	bytes int
	order list.List // of known, the last used first
	by    map[string]*list.Element
}

// known is a state as it is on disk.
type known struct {
	key string
	state
	payload []byte // packed
	read    bool   // the payload was read, if there is one
}

func (k *known) bytes() int { return len(k.key) + len(k.payload) + 500 }

func (s *states) get(key string) (known, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	element, there := s.by[key]
	if !there {
		return known{}, false
	}
	s.order.MoveToFront(element)
	return element.Value.(known), true
}

func (s *states) put(k known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]*list.Element{}
	}
	if element, there := s.by[k.key]; there {
		if old := element.Value.(known); old.read && !k.read && old.Shown == k.Shown {
			k.payload, k.read = old.payload, true
		}
		s.remove(k.key)
	}
	s.by[k.key] = s.order.PushFront(k)
	for s.bytes += k.bytes(); s.bytes > maxStates; {
		s.remove(s.order.Back().Value.(known).key)
	}
}

// forget drops the states of keys in the store.
func (s *states) forget(keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if key[0] == tagState {
			s.remove(string(key[1:]))
		}
	}
}

func (s *states) remove(key string) {
	if element, there := s.by[key]; there {
		k := s.order.Remove(element).(known)
		s.bytes -= k.bytes()
		delete(s.by, key)
	}
}
