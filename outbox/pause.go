package outbox

import (
	"context"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
)

// Pause hands out no more deliveries of a webhook, until Resume, over restarts
// too. What is handed out already goes on. The error may be an event.Refusal.
func (o *Outbox) Pause(ctx context.Context, webhook string) error {
	q, err := o.givenQueue(webhook)
	if err != nil {
		return err
	}
	return o.submit(ctx, func(b *batch) {
		if _, paused := b.get(pausedKey(webhook)); paused {
			return
		}
		b.set(pausedKey(webhook), be.AppendUint64(nil, milli(b.now)))
		b.after = append(b.after, func() { q.pause(true); o.sayPaused(q, b.now) })
	})
}

// Resume ends a pause. A webhook that is not paused stays as it is.
func (o *Outbox) Resume(ctx context.Context, webhook string) error {
	q, err := o.givenQueue(webhook)
	if err != nil {
		return err
	}
	return o.submit(ctx, func(b *batch) {
		if _, paused := b.get(pausedKey(webhook)); !paused {
			return
		}
		b.delete(pausedKey(webhook))
		b.after = append(b.after, func() {
			q.pause(false)
			o.log.Warn("resumed", "webhook", webhook, "waiting", q.waiting.Load())
		})
	})
}

// givenQueue is the queue of a webhook that the config has.
func (o *Outbox) givenQueue(webhook string) (*queue, error) {
	if err := o.opened(); err != nil {
		return nil, err
	}
	if q := o.hooks()[webhook]; q != nil && q.given.Load() {
		return q, nil
	}
	return nil, event.Refuse(event.NotFound, "the config that runs has no webhook %q", webhook)
}

func (q *queue) pause(paused bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = paused
	q.notify()
}

func (q *queue) isPaused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.paused
}

func (o *Outbox) sayPaused(q *queue, since time.Time) {
	o.log.Warn("paused", "webhook", q.name, "by", "operator", "since", since.Format(time.RFC3339), "waiting", q.waiting.Load(),
		"hint", "nothing is sent to it, and nothing is lost, until it is resumed: cmstap resume")
}

// loadPauses reads which webhooks are paused, and until when redeliveries are
// spread.
func (o *Outbox) loadPauses() error {
	return o.db.View(func(txn *badger.Txn) error {
		for name, q := range o.hooks() {
			since, paused, err := get(txn, pausedKey(name))
			if err != nil {
				return err
			}
			if q.paused = paused; paused && q.given.Load() {
				o.sayPaused(q, parseTime(since))
			}
			paced, found, err := get(txn, pacedKey(name))
			if err != nil {
				return err
			}
			if found {
				q.paced = parsePaced(paced, o.now())
			}
		}
		return nil
	})
}

// parsePaced reads until when redeliveries are spread: that is no further away than
// it was when it was stored, for the clock may have been set back.
func parsePaced(text []byte, now time.Time) time.Time {
	if len(text) != 16 {
		return time.Time{} // older versions did not store how far it was
	}
	at, away := parseTime(text[:8]), time.Duration(be.Uint64(text[8:]))*time.Millisecond
	if latest := now.Add(away); at.After(latest) {
		return latest
	}
	return at
}

// parseTime reads a time8; what is none is the zero time.
func parseTime(text []byte) time.Time {
	if len(text) != 8 {
		return time.Time{}
	}
	return millis(int64(be.Uint64(text)))
}
