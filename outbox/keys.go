package outbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// The layout: a tag byte, then big-endian numbers and strings.
//
//	m name                            meta: format; seq; commits; webhook/NAME -> number; order/NAME -> none;
//	                                  parked/NAME, paused/NAME -> time8
//	                                  paced/NAME -> time8, and how far away that was: milliseconds8
//	i intent                          event.Intent
//	e seq8                            eventRecord: the event without its payload
//	x eventID32                       seq8: where the event of that id is
//	p eventID32 n4                    piece n of the compressed payload
//	o webhook4 entity8 seq8           deliveryState: a waiting delivery
//	h webhook4 entity8                count4 of the o keys of that pair, never 0; count4 of those that go behind the others
//	t webhook4 due8 seq8              entity8: the delivery of each pair whose turn it is, by due time, that no attempt was made of
//	r webhook4 due8 seq8              the same of those that are tried again
//	a webhook4 time8 seq8 number4     attemptRecord
//	c seq8 webhook4 time8 number4     wireRecord: the call of that attempt
//	z webhook4 time8 seq8             deadRecord: a delivery that was given up
//	u name                            the ids of events whose pieces are under way: swept if the commit never came
//	s intent n4                       part n of a commit that is too large for one transaction
//	f intent                          count4: the parts of that commit are complete; place them
//	v entity key                      state: the version of the entity's last event
//	l space and alias                 event.Link: what an alias leads to
//
// Times are milliseconds since 1970, UTC. entity8 are the first bytes of the
// SHA-256 of an event's key; a collision only makes two entities wait for each
// other.
const (
	tagMeta    = 'm'
	tagIntent  = 'i'
	tagEvent   = 'e'
	tagID      = 'x'
	tagPiece   = 'p'
	tagOrder   = 'o'
	tagCount   = 'h'
	tagDue     = 't'
	tagRetry   = 'r'
	tagAttempt = 'a'
	tagWire    = 'c'
	tagDead    = 'z'
	tagUpload  = 'u'
	tagPart    = 's'
	tagFinish  = 'f'
	tagState   = 'v'
	tagLink    = 'l'
)

var be = binary.BigEndian

func metaKey(name string) []byte        { return append([]byte{tagMeta}, name...) }
func pausedKey(name string) []byte      { return metaKey("paused/" + name) }
func pacedKey(name string) []byte       { return metaKey("paced/" + name) }
func intentKey(id string) []byte        { return append([]byte{tagIntent}, id...) }
func eventKey(seq uint64) []byte        { return be.AppendUint64([]byte{tagEvent}, seq) }
func uploadKey(name string) []byte      { return append([]byte{tagUpload}, name...) }
func finishKey(intent string) []byte    { return append([]byte{tagFinish}, intent...) }
func orderPrefix(webhook uint32) []byte { return be.AppendUint32([]byte{tagOrder}, webhook) }

func stateKey(entity string) []byte { return append([]byte{tagState}, entity...) }

func linkKey(p event.Place) []byte { return append([]byte{tagLink}, event.KeysOf(p)...) }

func partKey(intent string, n int) []byte {
	return be.AppendUint32(append([]byte{tagPart}, intent...), uint32(n))
}

func idKey(id string) []byte { return append([]byte{tagID}, rawID(id)...) }

func piecePrefix(id string) []byte { return append([]byte{tagPiece}, rawID(id)...) }

func pieceKey(id string, n int) []byte { return be.AppendUint32(piecePrefix(id), uint32(n)) }

// rawID is an event id as 32 bytes; an id of another form is hashed to that.
func rawID(id string) []byte {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != sha256.Size {
		sum := sha256.Sum256([]byte(id))
		return sum[:]
	}
	return raw
}

// entityHash is the short form of an event's key.
func entityHash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return be.Uint64(sum[:8])
}

func orderKey(webhook uint32, entity, seq uint64) []byte {
	return be.AppendUint64(be.AppendUint64(orderPrefix(webhook), entity), seq)
}

func countKey(webhook uint32, entity uint64) []byte {
	return be.AppendUint64(be.AppendUint32([]byte{tagCount}, webhook), entity)
}

func duePrefix(lane byte, webhook uint32) []byte { return be.AppendUint32([]byte{lane}, webhook) }

// dueKey is a key of a lane: tagDue or tagRetry.
func dueKey(lane byte, webhook uint32, due time.Time, seq uint64) []byte {
	return be.AppendUint64(be.AppendUint64(duePrefix(lane, webhook), milli(due)), seq)
}

// parseOrder reads the webhook, the entity and the seq from an o key.
func parseOrder(key []byte) (webhook uint32, entity, seq uint64) {
	return be.Uint32(key[1:]), be.Uint64(key[5:]), be.Uint64(key[13:])
}

// parseTimed reads the time and the seq from a t, r, a or z key.
func parseTimed(key []byte) (at time.Time, seq uint64) {
	return time.UnixMilli(int64(be.Uint64(key[5:]))).UTC(), be.Uint64(key[13:])
}

func attemptPrefix(webhook uint32) []byte { return be.AppendUint32([]byte{tagAttempt}, webhook) }

func attemptKey(webhook uint32, at time.Time, seq uint64, number int) []byte {
	key := be.AppendUint64(attemptPrefix(webhook), milli(at))
	return be.AppendUint32(be.AppendUint64(key, seq), uint32(number))
}

func wirePrefix(seq uint64) []byte { return be.AppendUint64([]byte{tagWire}, seq) }

// wireKey is the c key that belongs to an a key.
func wireKey(attempt []byte) []byte {
	key := append(wirePrefix(be.Uint64(attempt[13:])), attempt[1:13]...)
	return append(key, attempt[21:25]...)
}

// attemptOf is the a key that belongs to a c key.
func attemptOf(wire []byte) []byte {
	key := append([]byte{tagAttempt}, wire[9:21]...)
	return append(append(key, wire[1:9]...), wire[21:25]...)
}

func deadKey(webhook uint32, at time.Time, seq uint64) []byte {
	return be.AppendUint64(be.AppendUint64(be.AppendUint32([]byte{tagDead}, webhook), milli(at)), seq)
}

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func milli(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("outbox: a record that can not be encoded: " + err.Error())
	}
	return text
}

func decode(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// get copies a value; found is false if the key is not there.
func get(txn *badger.Txn, key []byte) (value []byte, found bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	value, err = item.ValueCopy(nil)
	return value, err == nil, err
}

// scan calls each for every key with the prefix, in order. The slices are
// valid during the call.
func scan(txn *badger.Txn, prefix []byte, each func(key, value []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: true, PrefetchSize: 64})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		err := item.Value(func(value []byte) error { return each(item.Key(), value) })
		if err != nil {
			return err
		}
	}
	return nil
}

// keysFrom calls each for keys with the prefix from start on, in order, until
// it returns false.
func keysFrom(txn *badger.Txn, prefix, start []byte, each func(*badger.Item) bool) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(start); it.Valid() && each(it.Item()); it.Next() {
	}
}

// keysOf calls each for the keys with the prefix from one end until it returns
// false. No key of a prefix goes on with 32 bytes of 0xff.
func keysOf(txn *badger.Txn, prefix []byte, reverse bool, each func(*badger.Item) bool) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: reverse})
	defer it.Close()
	start := slices.Clone(prefix)
	if reverse {
		start = append(start, bytes.Repeat([]byte{0xff}, 32)...)
	}
	for it.Seek(start); it.Valid() && each(it.Item()); it.Next() {
	}
}

func count(txn *badger.Txn, prefix []byte) int {
	n := 0
	keysFrom(txn, prefix, prefix, func(*badger.Item) bool { n++; return true })
	return n
}

// lastSeq is the highest seq ever given, as far as the store shows.
func lastSeq(txn *badger.Txn) uint64 {
	var last uint64
	if value, found, err := get(txn, metaKey("seq")); err == nil && found {
		last = be.Uint64(value)
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{tagEvent}, Reverse: true})
	defer it.Close()
	it.Seek(eventKey(1<<64 - 1))
	if it.Valid() {
		last = max(last, be.Uint64(it.Item().Key()[1:]))
	}
	return last
}
