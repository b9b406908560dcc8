package outbox

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// mostRead is how many records one page of a query reads. So no filter costs more
// the more there is; the cursor says where to go on.
const mostRead = 5000

// Calls returns the attempts that a query selects, the newest first. Calls that
// come meanwhile do not move the cursor. event.ErrCursor says that no page had it.
func (o *Outbox) Calls(query event.Query) (event.Page[event.Call], error) {
	page := event.Page[event.Call]{Items: []event.Call{}}
	from, err := parseCursor(query.Cursor, len(position{}))
	if err != nil {
		return page, err
	}
	err = o.view(func(txn *badger.Txn) error {
		m := o.merge(txn, query, from)
		defer m.close()
		for read := 0; ; read++ {
			call, at, more, err := m.next(query.Since)
			if err != nil || !more {
				page.Cursor = ""
				return err
			}
			if matches(&call, query) {
				page.Items = append(page.Items, call)
			}
			page.Cursor = hex.EncodeToString(at[:])
			if len(page.Items) >= query.Limit || read+1 >= o.mostRead {
				return nil
			}
		}
	})
	return page, err
}

// position is where a call is in the log of all webhooks: time8 webhook4 seq8
// number4.
type position [24]byte

func positionOf(attempt []byte) (p position) {
	copy(p[:], attempt[5:13])
	copy(p[8:], attempt[1:5])
	copy(p[12:], attempt[13:25])
	return p
}

// lastBefore is where a reverse search for a webhook's calls before a position
// begins. Seqs and numbers begin with 1, so nothing has the last key itself but
// a call at that very position.
func (p position) lastBefore(webhook uint32) []byte {
	key := append(attemptPrefix(webhook), p[:8]...)
	switch own := be.Uint32(p[8:]); {
	case webhook < own:
		return append(key, bytes.Repeat([]byte{0xff}, 12)...)
	case webhook == own:
		return append(key, p[12:]...)
	}
	return append(key, make([]byte, 12)...)
}

// parseCursor returns nil for no cursor.
func parseCursor(text string, size int) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != size {
		return nil, event.ErrCursor
	}
	return raw, nil
}

// merged are the logs of webhooks, read as one from the newest call back.
type merged struct {
	txn   *badger.Txn
	logs  []*callLog // those that have more, the one with the newest call first
	hooks map[uint32]string
}

// callLog is the log of one webhook, and where its next call is.
type callLog struct {
	*badger.Iterator
	at position
}

// merge begins before the cursor and before the query's time.
func (o *Outbox) merge(txn *badger.Txn, query event.Query, cursor []byte) *merged {
	var from position
	for i := range from {
		from[i] = 0xff
	}
	if !query.Until.IsZero() {
		from = position{}
		be.PutUint64(from[:], milli(query.Until.Add(time.Millisecond-1))) // what began in that millisecond may be before it
	}
	if cursor != nil && bytes.Compare(cursor, from[:]) < 0 {
		copy(from[:], cursor)
	}
	m := &merged{txn: txn, hooks: map[uint32]string{}}
	for name, q := range o.hooks() {
		if query.Webhook != "" && query.Webhook != name {
			continue
		}
		m.hooks[q.id] = name
		log := &callLog{Iterator: txn.NewIterator(badger.IteratorOptions{Prefix: attemptPrefix(q.id), Reverse: true})}
		start := from.lastBefore(q.id)
		log.Seek(start)
		if log.Valid() && bytes.Equal(log.Item().Key(), start) {
			log.Next()
		}
		m.add(log)
	}
	return m
}

// add puts a log where its next call belongs; one that has none is closed.
func (m *merged) add(log *callLog) {
	if !log.Valid() {
		log.Close()
		return
	}
	log.at = positionOf(log.Item().Key())
	i, _ := slices.BinarySearchFunc(m.logs, log, func(a, b *callLog) int { return bytes.Compare(b.at[:], a.at[:]) })
	m.logs = slices.Insert(m.logs, i, log)
}

func (m *merged) close() {
	for _, log := range m.logs {
		log.Close()
	}
}

// next returns the newest call that was not returned yet, unless it is older than
// since.
func (m *merged) next(since time.Time) (call event.Call, at position, more bool, err error) {
	if len(m.logs) == 0 || be.Uint64(m.logs[0].at[:]) < milli(since) {
		return call, at, false, nil
	}
	newest := m.logs[0]
	at = newest.at
	key := newest.Item().KeyCopy(nil)
	err = newest.Item().Value(func(text []byte) error {
		call, err = readCall(m.txn, m.hooks[be.Uint32(key[1:])], key, text)
		return err
	})
	m.logs = m.logs[1:]
	newest.Next()
	m.add(newest)
	return call, at, true, err
}

// readCall reads a call from its record. What records of older versions lack is
// the event's.
func readCall(txn *badger.Txn, webhook string, key, text []byte) (event.Call, error) {
	var r attemptRecord
	if decode(text, &r) != nil {
		r.Error = "the record of this call is damaged"
		r.Time, _ = parseTimed(key)
		r.Number = int(be.Uint32(key[21:]))
	}
	if r.Topic == "" {
		_, seq := parseTimed(key)
		var stored eventRecord
		if found, err := getRecord(txn, eventKey(seq), &stored); err != nil && !errors.Is(err, errDamaged) {
			return event.Call{}, err
		} else if found && err == nil {
			r.Topic, r.Entity, r.Environment = stored.Topic(), stored.Entity.ID, stored.Environment
		}
	}
	return callOf(webhook, key, r), nil
}

// matches tells whether a query selects a call. The webhook was looked at before.
func matches(c *event.Call, q event.Query) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(q.Topic, c.Topic) && is(q.Entity, c.Entity) && is(q.Environment, c.Environment) && is(q.Result, c.Result) && q.HasStatus(c.Status) &&
		within(c.Time, q) && hasText(q.Text, c.Topic, c.Entity, c.Event, c.Error)
}

func within(at time.Time, q event.Query) bool {
	return !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until))
}

func hasText(text string, places ...string) bool {
	text = strings.ToLower(text)
	for _, place := range places {
		if strings.Contains(strings.ToLower(place), text) {
			return true
		}
	}
	return false
}

// Call returns one call, with what went over the wire; found is false if there is
// none of that id.
func (o *Outbox) Call(id string) (call event.Call, found bool, err error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(position{}) {
		return call, false, nil
	}
	key := append([]byte{tagAttempt}, raw...)
	err = o.view(func(txn *badger.Txn) error {
		text, there, err := get(txn, key)
		if err != nil || !there {
			return err
		}
		call, err = readCall(txn, o.nameOf(be.Uint32(raw)), key, text)
		if err != nil {
			return err
		}
		found = true
		call.Wire, err = readWire(txn, wireKey(key))
		return err
	})
	return call, found, err
}

// readWire returns nil if the call was not kept, or is damaged.
func readWire(txn *badger.Txn, key []byte) (*event.Wire, error) {
	var r wireRecord
	_, err := getRecord(txn, key, &r)
	if err == nil && r.Of != 0 {
		first := append(wirePrefix(r.Of), key[9:21]...)
		r = wireRecord{}
		_, err = getRecord(txn, append(first, key[21:]...), &r)
	}
	if errors.Is(err, errDamaged) {
		return nil, nil
	}
	return r.Wire, err
}

func (o *Outbox) nameOf(webhook uint32) string {
	for name, q := range o.hooks() {
		if q.id == webhook {
			return name
		}
	}
	return ""
}
