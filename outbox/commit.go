package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// record is an event on its way into the store, its payload in pieces.
type record struct {
	Event  event.Event  `json:"event"`
	Want   []event.Want `json:"want"`
	Pieces int          `json:"pieces"`
	Hash   uint64       `json:"hash"` // of the entity

	pieces [][]byte // nil once they are stored
	bytes  int      // what it takes beside the pieces, about
}

// eventRecord is an event as it is stored.
type eventRecord struct {
	event.Event
	Pieces int `json:"pieces"`
	// Hash is the entity's, kept because JSON changes text that is not UTF-8.
	Hash uint64 `json:"hash"`
	// Webhooks are the numbers of the webhooks that wanted it.
	Webhooks []uint32 `json:"webhooks,omitempty"`
}

// deliveryState is what the store knows of a waiting delivery.
type deliveryState struct {
	Attempts int   `json:"n,omitempty"`
	Due      int64 `json:"due"` // milliseconds since 1970, UTC
	// Wait is how long that was away when it was set, in milliseconds.
	Wait      int64  `json:"wait,omitempty"`
	Undecided string `json:"undecided,omitempty"`
	// Last is the attempt that failed last.
	Last event.Attempt `json:"last,omitzero"`
	// Redelivery says why it is made again, and Since when that was due first: as Due.
	// One that waited when it was asked for has no Since.
	Redelivery event.Redelivery `json:"re,omitempty"`
	Since      int64            `json:"since,omitempty"`
	// Kept says that it had not ended when it was sent again: it keeps its place.
	Kept bool `json:"kept,omitempty"`
}

// behind tells whether the delivery goes after all others of its entity: it is made
// once more, and its place among the writes is gone.
func (s deliveryState) behind() bool { return s.Redelivery != "" && !s.Kept }

// lane is the tag of the delivery's key while it has the turn of its entity.
func (s deliveryState) lane() byte {
	if s.Attempts > 0 {
		return tagRetry
	}
	return tagDue
}

const (
	pieceSize  = 256 << 10
	keysOfHead = 2   // e and x
	keysOfWant = 3   // o, h and t or r
	wantBytes  = 250 // what they take, about
)

// Commit stores the events of one exchange, the deliveries they are wanted
// for, what was learned of aliases, and the removal of the intent, in whose place
// an open job may come: all or nothing. Events that are stored already are skipped. When Commit returns nil
// everything is durable and senders have been woken. A delivery for a webhook
// that Open was never told of is an error.
func (o *Outbox) Commit(ctx context.Context, intentID string, captured []event.Captured, learned []event.Link, job *event.Intent) (err error) {
	if err := o.knowsAll(captured); err != nil {
		return err
	}
	defer func() {
		if err != nil { // it may be on its way all the same: who asks next has to wait for it
			o.forgetStates(captured)
		}
	}()
	if err := o.forgetOld(ctx, learned); err != nil {
		return err
	}
	end := func(b *batch) {
		b.learn(learned)
		b.endIntent(intentID)
		if job != nil {
			b.openIntent(job)
		}
	}
	records := pack(captured)
	keys, bytes := measure(records)
	if keys <= maxKeys && bytes <= pieceSize {
		return o.place(ctx, end, records, nil)
	}
	select {
	case o.large <- struct{}{}:
		defer func() { <-o.large }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	uploads, err := o.upload(ctx, intentID, records)
	if err != nil {
		return err
	}
	parts := split(records)
	if len(parts) == 1 {
		return o.place(ctx, end, records, uploads)
	}
	return o.commitParts(ctx, intentID, end, parts, uploads)
}

// knowsAll refuses a commit that could never be placed before any of it is
// stored.
func (o *Outbox) knowsAll(captured []event.Captured) error {
	if err := o.opened(); err != nil {
		return err
	}
	for _, c := range captured {
		for _, want := range c.Want {
			if o.hooks()[want.Webhook] == nil {
				return errUnknown(want.Webhook)
			}
		}
	}
	return nil
}

// place makes records visible in one transaction.
func (o *Outbox) place(ctx context.Context, end func(*batch), records []record, uploads [][]byte) error {
	return o.submit(ctx, func(b *batch) {
		b.placeAll(records)
		b.deleteAll(uploads)
		end(b)
	})
}

func pack(captured []event.Captured) []record {
	records := make([]record, len(captured))
	for i, c := range captured {
		r := record{Event: c.Event, Want: c.Want, Hash: entityHash(c.Event.Key())}
		if payload := c.Event.Payload; len(payload) > 0 {
			r.pieces = slices.Collect(slices.Chunk(s2.Encode(nil, payload), pieceSize))
		}
		r.Pieces = len(r.pieces)
		r.bytes = len(encode(r)) + wantBytes*len(r.Want)
		records[i] = r
	}
	return records
}

// measure returns how many keys and bytes a set of records takes, about.
func measure(records []record) (keys, bytes int) {
	for _, r := range records {
		keys += keysOfHead + keysOfWant*len(r.Want) + len(r.pieces)
		bytes += r.bytes
		for _, piece := range r.pieces {
			bytes += len(piece)
		}
	}
	return keys, bytes
}

// piece is a part of a packed payload.
type piece struct {
	event string
	n     int
	data  []byte
}

// upload stores the payloads ahead of the transaction that makes them visible,
// some pieces at a time. Each time a marker names their events, so that pieces
// whose commit never came are swept at the next start. It returns the markers'
// keys.
func (o *Outbox) upload(ctx context.Context, intentID string, records []record) (markers [][]byte, err error) {
	for some := range together(records) {
		marker := uploadKey(fmt.Sprintf("%s/%06d", intentID, len(markers)))
		if err := o.submit(ctx, func(b *batch) { b.upload(marker, some) }); err != nil {
			return nil, err
		}
		markers = append(markers, marker)
	}
	for i := range records {
		records[i].pieces = nil
	}
	return markers, nil
}

// together yields the pieces of records, as many at a time as a write holds.
func together(records []record) iter.Seq[[]piece] {
	return func(yield func([]piece) bool) {
		var some []piece
		bytes := 0
		for _, r := range records {
			for n, data := range r.pieces {
				if len(some) > 0 && (bytes+len(data) > pieceSize || len(some) == 1000) {
					if !yield(some) {
						return
					}
					some, bytes = nil, 0
				}
				some, bytes = append(some, piece{r.Event.ID, n, data}), bytes+len(data)
			}
		}
		if len(some) > 0 {
			yield(some)
		}
	}
}

// upload stores pieces, but for those of events that are visible already.
func (b *batch) upload(marker []byte, some []piece) {
	var ids []string
	for _, p := range some {
		if _, visible := b.get(idKey(p.event)); !visible {
			b.set(pieceKey(p.event, p.n), p.data)
			ids = append(ids, p.event)
		}
	}
	b.set(marker, encode(slices.Compact(ids)))
}

// split cuts records into parts that a transaction holds.
func split(records []record) [][]record {
	var parts [][]record
	for len(records) > 0 {
		n, keys, bytes := 0, 0, 0
		for n < len(records) {
			k, size := measure(records[n : n+1])
			if n > 0 && (keys+k > maxKeys || bytes+size > pieceSize) {
				break
			}
			keys, bytes, n = keys+k, bytes+size, n+1
		}
		parts = append(parts, records[:n])
		records = records[n:]
	}
	return parts
}

// commitParts stores what is too large for one transaction: first the parts,
// then, in one transaction, the word that they are complete and the end of the
// intent. From there on a restart finishes the job.
func (o *Outbox) commitParts(ctx context.Context, intentID string, end func(*batch), parts [][]record, uploads [][]byte) error {
	for n, part := range parts {
		text := encode(part)
		if err := o.submit(ctx, func(b *batch) { b.set(partKey(intentID, n), text) }); err != nil {
			return err
		}
	}
	return o.submit(ctx, func(b *batch) {
		b.set(finishKey(intentID), be.AppendUint32(nil, uint32(len(parts))))
		b.deleteAll(uploads)
		end(b)
		b.after = append(b.after, o.finishOrRetry)
	})
}

// finishOrRetry places complete parts at once, before any later commit. What
// it can not place now is tried again before the next write, or in a second.
func (o *Outbox) finishOrRetry() {
	err := o.finishCommits()
	if err != nil && !o.unplaced {
		o.log.Error("store", "error", fmt.Errorf("placing a large commit: %w", err), "hint", "it is complete on disk; placing it is tried again")
	}
	o.unplaced = err != nil
}

func (o *Outbox) retryUnplaced() {
	if o.unplaced {
		o.finishOrRetry()
	}
}

// finishCommits places the parts of complete commits.
func (o *Outbox) finishCommits() error {
	type finish struct {
		intent string
		parts  int
	}
	var finishes []finish
	err := o.db.View(func(txn *badger.Txn) error {
		return scan(txn, []byte{tagFinish}, func(key, value []byte) error {
			finishes = append(finishes, finish{string(key[1:]), int(be.Uint32(value))})
			return nil
		})
	})
	for _, f := range finishes {
		err = errors.Join(err, o.placeParts(f.intent, f.parts))
	}
	return err
}

func (o *Outbox) placeParts(intentID string, parts int) error {
	for n := range parts {
		b := o.newBatch()
		if text, found := b.get(partKey(intentID, n)); found {
			var records []record
			b.fail(decode(text, &records))
			b.placeAll(records)
			b.delete(partKey(intentID, n))
		}
		if n == parts-1 {
			b.delete(finishKey(intentID))
		}
		if err := o.finish(b); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the pieces and parts of commits that were cut off. It runs
// before anything new is written.
func (o *Outbox) sweep() error {
	var stale [][]byte
	err := o.db.View(func(txn *badger.Txn) error {
		keysFrom(txn, []byte{tagPart}, []byte{tagPart}, func(item *badger.Item) bool {
			stale = append(stale, item.KeyCopy(nil))
			return true
		})
		return scan(txn, []byte{tagUpload}, func(key, value []byte) error {
			stale = append(stale, slices.Clone(key))
			var ids []string
			if err := decode(value, &ids); err != nil {
				return err
			}
			for _, id := range ids {
				if _, found, err := get(txn, idKey(id)); err != nil || found {
					continue
				}
				keysFrom(txn, piecePrefix(id), piecePrefix(id), func(item *badger.Item) bool {
					stale = append(stale, item.KeyCopy(nil))
					return true
				})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return o.deleteKeys(stale)
}

// deleteKeys removes keys in as many transactions as it takes.
func (o *Outbox) deleteKeys(keys [][]byte) error {
	for some := range slices.Chunk(keys, maxKeys) {
		b := o.newBatch()
		b.deleteAll(some)
		if err := o.finish(b); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) deleteAll(keys [][]byte) {
	for _, key := range keys {
		b.delete(key)
	}
}

func (b *batch) placeAll(records []record) {
	for _, r := range records {
		b.place(r)
	}
}

// place makes an event and its deliveries visible, unless it is there already.
func (b *batch) place(r record) {
	if _, found := b.get(idKey(r.Event.ID)); found {
		return
	}
	b.o.seq++
	seq := b.o.seq
	stored := eventRecord{Event: r.Event, Pieces: r.Pieces, Hash: r.Hash}
	stored.Seq = seq
	b.remember(&r, seq)
	for _, want := range r.Want {
		q := b.o.hooks()[want.Webhook]
		if q == nil {
			b.fail(errUnknown(want.Webhook)) // never silence: it would be lost
			return
		}
		if !slices.Contains(stored.Webhooks, q.id) {
			stored.Webhooks = append(stored.Webhooks, q.id)
			b.enqueue(q, r.Hash, seq, deliveryState{Due: b.now.UnixMilli(), Undecided: want.Undecided})
		}
	}
	b.after = append(b.after, func() { b.o.watchers.stored(b.o, &stored) })
	b.set(eventKey(seq), encode(stored))
	b.set(idKey(r.Event.ID), be.AppendUint64(nil, seq))
	for _, want := range r.Want {
		b.supersede(b.o.hooks()[want.Webhook], r.Hash, 0)
	}
	for n, piece := range r.pieces {
		b.set(pieceKey(r.Event.ID, n), piece)
	}
}
