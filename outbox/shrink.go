package outbox

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// always is later than anything stored.
var always = time.UnixMilli(math.MaxInt64)

// shrink keeps to max_size: delivered history goes first, oldest first, then
// dead letters, then the oldest waiting deliveries of the webhook with the
// largest backlog die. Those are dead letters when it runs again, a minute
// later, and so give their room back if it is still needed.
func (o *Outbox) shrink() error {
	excess, err := o.excess()
	if excess <= 0 || err != nil {
		return err
	}
	history := collector{enough: excess}
	var victims []victim
	var q *queue
	err = o.view(func(txn *badger.Txn) error {
		dead := history.deadLetters(txn, time.Time{})
		if err := history.events(txn, always, dead); err != nil {
			return err
		}
		o.attempts(txn, &history, always, dead)
		if err := history.oldestDead(txn, dead); err != nil || history.full() {
			return err
		}
		if q = o.largest(txn); q != nil {
			victims, err = q.oldest(txn, excess-history.bytes)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := o.deleteStale(&history); err != nil || len(victims) == 0 {
		return err
	}
	o.log.Error("full", "webhook", q.name, "deliveries", len(victims),
		"hint", "the outbox is larger than outbox.max_size: the oldest deliveries of this webhook are given up")
	_, err = o.buryAll(q, victims, "outbox full", func(*batch) bool { return true })
	return err
}

// excess returns by how many bytes the store is too large. The tables on disk
// also hold what is deleted but not yet compacted away, so what lives is added
// up, when they are too large. To have some peace, a tenth more is freed. The
// memory tables, 24 MiB at most, are not counted.
func (o *Outbox) excess() (excess int64, err error) {
	limit := int64(o.config.MaxSize)
	err = o.view(func(txn *badger.Txn) error {
		var disk, live int64
		for _, table := range o.db.Tables() {
			disk += int64(table.OnDiskSize)
		}
		if disk <= limit {
			return nil
		}
		keysFrom(txn, nil, nil, func(item *badger.Item) bool { live += item.EstimatedSize(); return true })
		excess = live - limit/10*9
		return nil
	})
	return excess, err
}

// oldestDead collects the oldest dead letters and, with the last one that
// needs it, their event.
func (c *collector) oldestDead(txn *badger.Txn, dead map[uint64]int) error {
	var keys [][]byte
	keysFrom(txn, []byte{tagDead}, []byte{tagDead}, func(item *badger.Item) bool {
		keys = append(keys, item.KeyCopy(nil))
		return true
	})
	slices.SortFunc(keys, func(a, b []byte) int { return slices.Compare(a[5:], b[5:]) })
	for _, key := range keys {
		if c.full() {
			return nil
		}
		_, seq := parseTimed(key)
		c.addKey(seq, key)
		if dead[seq]--; dead[seq] > 0 {
			continue
		}
		if err := c.eventOf(txn, seq); err != nil {
			return err
		}
	}
	return nil
}

// eventOf collects the event of that seq, unless a webhook waits for it.
func (c *collector) eventOf(txn *badger.Txn, seq uint64) error {
	var stored eventRecord
	found, err := getRecord(txn, eventKey(seq), &stored)
	if err != nil || !found {
		return err
	}
	waits, err := isWaiting(txn, &stored)
	if err != nil || waits {
		return err
	}
	item, err := txn.Get(eventKey(seq))
	if err == nil {
		c.addEvent(txn, item, &stored)
	}
	return err
}

// largest returns the webhook with the most waiting deliveries, nil if nothing
// waits.
func (o *Outbox) largest(txn *badger.Txn) (largest *queue) {
	most := 0
	for _, q := range o.hooks() {
		if waiting := count(txn, orderPrefix(q.id)); waiting > most {
			largest, most = q, waiting
		}
	}
	return largest
}

// victim is a waiting delivery that is given up to make room.
type victim struct {
	claim
	event string
	bytes int64 // of its event
}

// victims are deliveries whose events take so many bytes.
type victims struct {
	list  []victim
	bytes int64
}

func (v *victims) add(one victim) { v.list, v.bytes = append(v.list, one), v.bytes+one.bytes }

func (v *victims) enough(bytes int64) bool { return v.bytes >= bytes || len(v.list) >= maxStale }

// oldest returns the oldest waiting deliveries of a webhook whose events take
// so many bytes, at most maxStale. What is being delivered is spared. To give up
// a delivery frees nothing while another webhook waits for the same event, so
// those go only if the others are not enough: then it is the other webhook's
// turn when shrink runs again.
func (q *queue) oldest(txn *badger.Txn, enough int64) ([]victim, error) {
	var freeing, shared victims
	err := eachEvent(txn, func(item *badger.Item, stored *eventRecord) (more bool, err error) {
		v, found, err := q.victim(txn, stored)
		if err != nil || !found {
			return err == nil, err
		}
		others, err := othersWait(txn, stored, q.id)
		group := &freeing
		if others {
			group = &shared
		}
		if !group.enough(enough) {
			c := collector{enough: math.MaxInt64}
			c.addEvent(txn, item, stored)
			v.bytes = c.bytes
			group.add(v)
		}
		return !freeing.enough(enough), err
	})
	for i := 0; i < len(shared.list) && !freeing.enough(enough); i++ {
		freeing.add(shared.list[i])
	}
	return freeing.list, err
}

// victim returns the delivery of an event that waits for a call.
func (q *queue) victim(txn *badger.Txn, stored *eventRecord) (v victim, found bool, err error) {
	if !slices.Contains(stored.Webhooks, q.id) || q.isClaimed(stored.Seq) {
		return v, false, nil
	}
	var state deliveryState
	found, err = getRecord(txn, orderKey(q.id, stored.Hash, stored.Seq), &state)
	due := time.UnixMilli(state.Due).UTC()
	return victim{claim{state.lane(), stored.Seq, stored.Hash, due}, stored.ID, 0}, found, err
}

func (q *queue) isClaimed(seq uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, claimed := q.claimed[seq]
	return claimed
}

// buriedAtOnce bounds a write: each dead letter may hold an answer of 4 KiB, which
// takes six times that as JSON.
const buriedAtOnce = 20

// buryAll makes deliveries dead letters, some at a time, to leave room for
// commits in between. Before each time may is asked whether to go on.
func (o *Outbox) buryAll(q *queue, victims []victim, reason string, may func(*batch) bool) (buried int, err error) {
	for some := range slices.Chunk(victims, buriedAtOnce) {
		n := 0
		err := o.submit(context.Background(), func(b *batch) {
			n = 0
			if !may(b) {
				return
			}
			for _, v := range some {
				if !b.take(q, v.claim) {
					continue // it was handed out meanwhile
				}
				b.bury(q, v.claim, deadRecord{Event: v.event, Reason: reason})
				n++
			}
		})
		if err != nil {
			return buried, err
		}
		buried += n
	}
	return buried, nil
}
