package outbox

import (
	"context"

	"cmstap/event"
)

// Begin makes an intent durable and notes in it what is known of the entity's
// last event. After an error, of ctx too, it may be stored all the same: Drop
// it, and begin again with a new id. ErrFull means that too many are open,
// ErrNoSpace that the disk is too full; nothing was stored then.
func (o *Outbox) Begin(ctx context.Context, intent *event.Intent) error {
	if err := o.guard.begins(); err != nil {
		return err // at once, even if the committer is held up
	}
	if o.open.Load() >= int64(o.config.MaxOpen) {
		return ErrFull
	}
	stored := *intent // the committer may come to it after the caller left
	err := o.submit(ctx, func(b *batch) {
		b.fail(o.guard.begins()) // as the disk is now
		k := b.known(stored.Entity, false)
		stored.Last = k.Last
		b.keep(k)
		b.openIntent(&stored)
	})
	if err == nil {
		intent.Last = stored.Last
	}
	return err
}

// Drop removes an intent without an event. When it returns nil that is
// durable: a restart does not find the intent.
func (o *Outbox) Drop(ctx context.Context, intentID string) error {
	return o.submit(ctx, func(b *batch) { b.endIntent(intentID) })
}

// Ended tells whether the end of an intent that was begun is stored: that of a
// commit or drop which nobody waited for is, too, if it will be.
func (o *Outbox) Ended(ctx context.Context, intentID string) (ended bool, err error) {
	err = o.submit(ctx, func(b *batch) {
		_, open := b.get(intentKey(intentID))
		ended = !open
	})
	return ended, err
}

// openIntent stores an intent, once.
func (b *batch) openIntent(intent *event.Intent) {
	if _, found := b.get(intentKey(intent.ID)); !found {
		b.set(intentKey(intent.ID), encode(intent))
		b.after = append(b.after, func() { b.o.open.Add(1) })
	}
}

// endIntent removes an intent, if it is there.
func (b *batch) endIntent(id string) {
	if _, found := b.get(intentKey(id)); found {
		b.delete(intentKey(id))
		b.after = append(b.after, func() { b.o.open.Add(-1) })
	}
}
