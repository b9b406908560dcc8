package outbox

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/klauspost/compress/s2"
)

// Bounds of what is shown of one event: of its payload in bytes, its calls, and
// the dead letters that are looked at to find its own.
const (
	maxShown     = 1 << 20
	maxCalls     = 1000
	maxDeadLooks = 20_000
)

// straggle is how much later than it happened an event may be committed: a query
// looks so far behind the first event that is too old.
const straggle = day

// Events returns the events that a query selects, the newest commit first.
// event.ErrCursor says that no page had the cursor.
func (o *Outbox) Events(query event.Query) (event.Page[event.Recorded], error) {
	page := event.Page[event.Recorded]{Items: []event.Recorded{}}
	start := eventKey(1<<64 - 1)
	cursor, err := parseCursor(query.Cursor, len(start)-1)
	if err != nil {
		return page, err
	}
	if cursor != nil {
		start = eventKey(max(be.Uint64(cursor), 1) - 1)
	}
	err = o.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{tagEvent}, Reverse: true})
		defer it.Close()
		it.Seek(start)
		for read := 0; it.Valid(); it.Next() {
			var stored eventRecord
			if err := it.Item().Value(func(text []byte) error { return decode(text, &stored) }); err != nil && !errors.Is(err, errDamaged) {
				return err
			}
			if !query.Since.IsZero() && !stored.Time.IsZero() && stored.Time.Before(query.Since.Add(-straggle)) {
				break
			}
			if selects(&stored, query) {
				page.Items = append(page.Items, o.recorded(&stored))
			}
			if read++; len(page.Items) >= query.Limit || read >= o.mostRead {
				page.Cursor = hex.EncodeToString(it.Item().Key()[1:])
				return nil
			}
		}
		return nil
	})
	return page, err
}

func selects(e *eventRecord, q event.Query) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return e.ID != "" && is(q.Topic, e.Topic()) && is(q.Entity, e.Entity.ID) && is(q.Environment, e.Environment) &&
		within(e.Time, q) && hasText(q.Text, e.Topic(), e.Entity.ID, e.ID)
}

// recorded is an event without its payload, which would keep that in memory.
func (o *Outbox) recorded(stored *eventRecord) event.Recorded {
	r := event.Recorded{Event: stored.Event, Topic: stored.Topic(), Webhooks: []string{}}
	r.Payload, r.Before = nil, nil
	for _, webhook := range stored.Webhooks {
		r.Webhooks = append(r.Webhooks, o.nameOf(webhook))
	}
	return r
}

// Story returns an event, how far its deliveries are, and its calls; found is
// false if there is none of that id.
func (o *Outbox) Story(id string) (story event.Story, found bool, err error) {
	err = o.view(func(txn *badger.Txn) error {
		value, there, err := get(txn, idKey(id))
		if err != nil || !there {
			return err
		}
		var stored eventRecord
		if found, err = getRecord(txn, eventKey(be.Uint64(value)), &stored); err != nil || !found {
			return err
		}
		story.Recorded = o.recorded(&stored)
		if err := showPayload(txn, &stored, &story); err != nil {
			return err
		}
		if err := showBefore(txn, &story); err != nil {
			return err
		}
		if story.Calls, err = o.callsOf(txn, stored.Seq); err != nil {
			return err
		}
		for i, webhook := range stored.Webhooks {
			p, err := o.progress(txn, webhook, &stored)
			if err != nil {
				return err
			}
			p.Webhook = story.Webhooks[i]
			story.Deliveries = append(story.Deliveries, p)
		}
		return nil
	})
	if story.Deliveries == nil {
		story.Deliveries = []event.Progress{}
	}
	return story, found, err
}

// showPayload reads a payload that is not too large to be shown. A packed one is
// its size, then the text.
func showPayload(txn *badger.Txn, stored *eventRecord, story *event.Story) error {
	if stored.Pieces == 0 {
		return nil
	}
	begin, found, err := get(txn, pieceKey(stored.ID, 0))
	if err != nil || !found {
		return err
	}
	if story.PayloadBytes, err = s2.DecodedLen(begin); err != nil || story.PayloadBytes > maxShown {
		return nil
	}
	full, found, err := loadEvent(txn, stored.Seq)
	if err == nil && found && json.Valid(full.Payload) {
		story.Content = full.Payload
	}
	if errors.Is(err, errDamaged) {
		return nil
	}
	return err
}

// showBefore reads what the entity was, if that is not too large to be shown.
func showBefore(txn *badger.Txn, story *event.Story) error {
	e := &story.Event
	if e.BeforeEvent != "" && e.BeforeEvent != event.NoEvent {
		begin, _, err := get(txn, pieceKey(e.BeforeEvent, 0))
		if size, large := s2.DecodedLen(begin); err != nil || large == nil && size > maxShown {
			e.BeforeUnseen = "it is too large to be shown"
			return err
		}
	}
	text, err := before(txn, e)
	if json.Valid(text) {
		story.Before = text
	}
	e.BeforeUnseen = unseenBefore(e, story.Before != nil)
	return err
}

// callsOf reads the calls of an event, in the order of time; of more than maxCalls,
// those of the first webhooks.
func (o *Outbox) callsOf(txn *badger.Txn, seq uint64) (calls []event.Call, err error) {
	calls = []event.Call{}
	keysFrom(txn, wirePrefix(seq), wirePrefix(seq), func(item *badger.Item) bool {
		var call event.Call
		var found bool
		if call, found, err = o.callOfWire(txn, item.Key()); found {
			calls = append(calls, call)
		}
		return err == nil && len(calls) < maxCalls
	})
	slices.SortStableFunc(calls, func(a, b event.Call) int { return a.Time.Compare(b.Time) })
	return calls, err
}

// lastCall reads the last call of an event to a webhook.
func (o *Outbox) lastCall(txn *badger.Txn, seq uint64, webhook uint32) (call event.Call, found bool, err error) {
	keysOf(txn, be.AppendUint32(wirePrefix(seq), webhook), true, func(item *badger.Item) bool {
		call, found, err = o.callOfWire(txn, item.Key())
		return err == nil && !found
	})
	return call, found, err
}

// callOfWire reads the call of a c key.
func (o *Outbox) callOfWire(txn *badger.Txn, wire []byte) (call event.Call, found bool, err error) {
	key := attemptOf(wire)
	text, found, err := get(txn, key)
	if err != nil || !found {
		return call, false, err
	}
	call, err = readCall(txn, o.nameOf(be.Uint32(key[1:])), key, text)
	return call, err == nil, err
}

// progress says how far a delivery is, from what waits, from its last call, and from
// the dead letters.
func (o *Outbox) progress(txn *badger.Txn, webhook uint32, stored *eventRecord) (p event.Progress, err error) {
	var state deliveryState
	found, err := getRecord(txn, orderKey(webhook, stored.Hash, stored.Seq), &state)
	switch {
	case err != nil && !errors.Is(err, errDamaged):
		return p, err
	case found && state.Attempts > 0:
		return event.Progress{State: "retrying", Attempts: state.Attempts, Next: millis(state.Due), Undecided: state.Undecided}, nil
	case found:
		return event.Progress{State: "waiting", Next: millis(state.Due), Undecided: state.Undecided}, nil
	}
	last, called, err := o.lastCall(txn, stored.Seq, webhook)
	if err != nil {
		return p, err
	}
	p = event.Progress{State: "gone"}
	if called {
		p.Attempts = last.Attempt
		switch last.Result {
		case event.Delivered.String():
			p.State = last.Result
			return p, nil
		case event.GiveUp.String():
			p.State = last.Result // and its dead letter says why
		}
	}
	dead, found, err := findDead(txn, webhook, stored)
	if found {
		p.State, p.Reason = event.GiveUp.String(), dead.Reason
		p.Attempts = max(p.Attempts, dead.Last.Number)
	}
	return p, err
}

// findDead looks for the dead letter of an event, which is younger than that.
func findDead(txn *badger.Txn, webhook uint32, stored *eventRecord) (dead deadRecord, found bool, err error) {
	n := 0
	since := stored.Time.Add(-time.Second)
	prefix := deadKey(webhook, since, 0)[:5]
	keysFrom(txn, prefix, deadKey(webhook, since, 0), func(item *badger.Item) bool {
		if _, seq := parseTimed(item.Key()); seq == stored.Seq {
			found = true
			err = item.Value(func(text []byte) error { return decode(text, &dead) })
		}
		n++
		return !found && n < maxDeadLooks
	})
	return dead, found, err
}
