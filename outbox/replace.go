package outbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"cmstap/internal/setting"
)

// Unlike returns the webhooks, sorted, that wait in another way than these settings
// say: how a webhook's deliveries wait changes only at an Open. Until the store is
// open nobody knows, and there are none.
func (o *Outbox) Unlike(queues map[string]Queue) []string {
	if o.opened() != nil {
		return nil
	}
	var names []string
	for name, q := range o.hooks() {
		if given, there := queues[name]; there && len(setting.Changed(q.usual(), given.usual())) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// usual writes out what is left out.
func (q Queue) usual() Queue {
	if q.Order == "entity" {
		q.Order = ""
	}
	if q.Superseded == "deliver" {
		q.Superseded = ""
	}
	return q
}

// Replace makes the webhooks of another config known. What waits for one that is
// not among them is parked; what was parked for one that is, is not any more. None
// may be in Unlike. It waits as long as the disk takes, so that after it one thing or the other is in force.
func (o *Outbox) Replace(queues map[string]Queue) error {
	o.replacing.Lock()
	defer o.replacing.Unlock()
	if err := o.opened(); err != nil {
		return err
	}
	if names := o.Unlike(queues); len(names) > 0 {
		return fmt.Errorf("order, superseded and batch of a webhook change at a restart only: %v", names)
	}
	return o.submit(context.Background(), func(b *batch) {
		hooks := maps.Clone(o.hooks())
		highest := uint32(0)
		for _, q := range hooks {
			highest = max(highest, q.id)
		}
		for _, name := range slices.Sorted(maps.Keys(queues)) {
			if hooks[name] == nil {
				highest++
				hooks[name] = b.addWebhook(name, highest, queues[name])
			}
		}
		for name, q := range hooks {
			_, given := queues[name]
			b.give(q, given)
		}
		b.after = append(b.after, func() { o.webhooks.Store(&hooks) })
	})
}

// addWebhook stores a webhook that had no number, and returns its queue.
func (b *batch) addWebhook(name string, id uint32, settings Queue) *queue {
	q := newQueue(name, id)
	q.Queue = settings
	b.set(metaKey("webhook/"+name), be.AppendUint32(nil, id))
	if q.unordered() {
		b.set(orderOf(name), []byte("none"))
	}
	return q
}

// give notes whether the config has a webhook.
func (b *batch) give(q *queue, given bool) {
	switch {
	case given == q.given.Load():
		return
	case given:
		b.delete(parkedKey(q.name))
		b.after = append(b.after, func() { q.parked.Store(0) })
	case q.waiting.Load() > 0:
		b.set(parkedKey(q.name), be.AppendUint64(nil, milli(b.now)))
		b.after = append(b.after, func() { b.o.parkedSince(q, b.now, int(q.waiting.Load())) })
	}
	b.after = append(b.after, func() { q.given.Store(given) })
}

// parkedSince notes since when the config has not had a webhook, and says it.
func (o *Outbox) parkedSince(q *queue, since time.Time, waiting int) {
	q.parked.Store(since.UnixMilli())
	o.log.Warn("parked", "webhook", q.name, "waiting", waiting, "until", since.Add(parkedFor).Format(time.RFC3339),
		"hint", "the config has no webhook of this name; add it again to deliver them, or delete them: cmstap drop")
}
