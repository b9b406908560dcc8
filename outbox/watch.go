package outbox

import (
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// watchers are told of what is stored. Whoever does not read in time misses some.
type watchers struct {
	mu   sync.Mutex
	told uint64 // the number of the last event that was stored
	all  map[*watcher]bool
}

// watcher is one reader.
type watcher struct {
	query  event.Query
	news   chan event.News
	missed int
}

// Bounds of what a reader has not read yet, and of what it gets of the time that
// it was away, each of events and calls.
const (
	maxUnread  = 256
	maxEarlier = 500
)

// How much older a call may be than when it was told: as long as a webhook may
// take, and the disk.
const (
	longestCall = 10 * time.Minute
	settled     = time.Minute
)

func (w *watchers) begin(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = seq
}

// stored tells of an event.
func (w *watchers) stored(o *Outbox, e *eventRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = e.Seq
	if len(w.all) == 0 {
		return
	}
	r := o.recorded(e)
	w.tell(event.News{Event: &r}, o.now(), func(q event.Query) bool { return selectsNews(e, &r, q) })
}

// called tells of a call.
func (w *watchers) called(o *Outbox, key []byte, r attemptRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 {
		return
	}
	call := callOf(o.nameOf(be.Uint32(key[1:])), key, r)
	w.tell(event.News{Call: &call}, o.now(), func(q event.Query) bool {
		return (q.Webhook == "" || q.Webhook == call.Webhook) && matches(&call, q)
	})
}

func selectsNews(e *eventRecord, r *event.Recorded, q event.Query) bool {
	return q.Result == "" && q.Status == "" && (q.Webhook == "" || slices.Contains(r.Webhooks, q.Webhook)) && selects(e, q)
}

// tell never waits. The caller holds the lock.
func (w *watchers) tell(news event.News, now time.Time, selected func(event.Query) bool) {
	news.ID = newsID(w.told, now)
	for one := range w.all {
		if !selected(one.query) {
			continue
		}
		news.Missed = one.missed
		select {
		case one.news <- news:
			one.missed = 0
		default:
			one.missed++
		}
	}
}

// newsID says how far a reader is: the last event, and the time.
func newsID(seq uint64, now time.Time) string { return fmt.Sprintf("%d-%d", seq, now.UnixMilli()) }

// Tail follows what a query selects. After is the id of news that the reader had
// last, or empty. It gets what happened meanwhile, as far as that is stored and not
// too much; a call may be among it that it had.
func (o *Outbox) Tail(query event.Query, after string) (event.Tail, error) {
	var since uint64
	var ms int64
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d-%d", &since, &ms); err != nil {
			return event.Tail{}, event.Refuse(event.Invalid, "Last-Event-ID is not one of a tail")
		}
	}
	one := &watcher{query: query, news: make(chan event.News, maxUnread)}
	w := &o.watchers
	w.mu.Lock()
	if w.all == nil {
		w.all = map[*watcher]bool{}
	}
	w.all[one] = true
	told := w.told
	w.mu.Unlock()
	tail := event.Tail{News: one.news, Stop: func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, one)
	}}
	if after == "" {
		return tail, nil
	}
	var err error
	if tail.Earlier, err = o.earlier(query, since, told, millis(ms)); err != nil {
		tail.Stop()
		return event.Tail{}, err
	}
	if n := len(tail.Earlier); n > 0 { // before that, a reader begins anew where it was
		tail.Earlier[n-1].ID = newsID(told, o.now())
	}
	return tail, nil
}

// earlier reads the events after one up to another, and the calls that ended after
// a time, by time.
func (o *Outbox) earlier(query event.Query, after, last uint64, since time.Time) (list []event.News, err error) {
	missed, more := 0, 0
	err = o.view(func(txn *badger.Txn) error {
		keysFrom(txn, []byte{tagEvent}, eventKey(after+1), func(item *badger.Item) bool {
			if be.Uint64(item.Key()[1:]) > last {
				return false
			}
			var stored eventRecord
			if err = item.Value(func(text []byte) error { return ignoreDamaged(decode(text, &stored)) }); err != nil {
				return false
			}
			full := len(list) >= maxEarlier
			if full {
				more++
			}
			if r := o.recorded(&stored); !selectsNews(&stored, &r, query) {
				return more < mostRead
			} else if full {
				missed++
			} else {
				list = append(list, event.News{Event: &r})
			}
			return more < mostRead
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	query.Since, query.Limit = since.Add(-longestCall-settled), maxEarlier
	page, err := o.Calls(query)
	for i := range page.Items {
		if call := &page.Items[i]; !ended(call).Before(since.Add(-settled)) {
			list = append(list, event.News{Call: call})
		}
	}
	if page.Cursor != "" && len(page.Items) >= maxEarlier {
		missed++ // at least
	}
	slices.SortStableFunc(list, func(a, b event.News) int { return timeOf(a).Compare(timeOf(b)) })
	if len(list) > 0 {
		list[0].Missed = missed
	}
	return list, err
}

func timeOf(n event.News) time.Time {
	if n.Event != nil {
		return n.Event.Time
	}
	return ended(n.Call)
}

func ended(c *event.Call) time.Time {
	return c.Time.Add(time.Duration(c.Duration * float64(time.Millisecond)))
}

// callOf is a call from its record.
func callOf(webhook string, key []byte, r attemptRecord) event.Call {
	return event.Call{
		ID: hex.EncodeToString(key[1:]), Webhook: webhook, Event: r.Event, Topic: r.Topic, Entity: r.Entity, Environment: r.Environment,
		Attempt: r.Number, Time: r.Time, Duration: float64(r.Duration.Microseconds()) / 1000, Status: r.Status, Error: r.Error, Result: r.Result,
	}
}
