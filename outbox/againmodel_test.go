package outbox

import (
	"fmt"
	"testing"
	"time"

	"cmstap/event"

	"pgregory.net/rapid"
)

// TestAgainNeverHangs: whatever is committed, failed, sent again, paused and
// reopened, one delivery of an entity goes at a time, everything that was sent
// again arrives, and nothing is left over.
func TestAgainNeverHangs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		config := testConfig(t)
		order := rapid.SampledFrom([]string{"entity", "none", "batch"}).Draw(r, "order")
		config.Queues = map[string]Queue{"a": {Order: order}}
		if order == "batch" {
			config.Queues["a"] = Queue{Batch: &Batch{MaxEvents: 3, By: "webhook"}}
		}
		s := newStore(t, config, "a")
		defer func() { _ = s.Close() }()
		m := &againModel{T: r, store: s, order: order, due: map[string]bool{}}
		actions := map[string]func(*rapid.T){
			"commit": m.commit, "settle": m.settle, "resend": m.resend, "resend failed": m.resendFailed, "replay": m.replay, "wait": m.wait,
			"reopen": m.reopen, "": m.check,
		}
		r.Repeat(actions)
		m.drain()
	})
}

type againModel struct {
	*rapid.T
	*store
	order string
	n     int
	ids   []string
	held  []event.Delivery
	due   map[string]bool // ids that must arrive still
}

func (m *againModel) commit(r *rapid.T) {
	e := change(rapid.SampledFrom([]string{"x", "y"}).Draw(r, "entity"), m.n, "{}")
	m.n++
	m.ids = append(m.ids, e.ID)
	m.due[e.ID] = true
	m.store.commit(fmt.Sprint(m.n), e)
}

// settle claims what is due, and ends some of what is claimed.
func (m *againModel) settle(r *rapid.T) {
	m.held = append(m.held, m.next("a", 3)...)
	entities := map[string]bool{}
	for _, d := range m.held {
		if id := d.Event.Entity.ID; m.order == "entity" && entities[id] {
			r.Fatalf("two deliveries of %s at a time", id)
		}
		entities[d.Event.Entity.ID] = true
	}
	for len(m.held) > 0 && (m.order == "batch" || rapid.Bool().Draw(r, "one more")) {
		result := event.Result(rapid.IntRange(0, 2).Draw(r, "result"))
		if result != event.Retry {
			delete(m.due, m.held[0].Event.ID)
		}
		m.store.settle(m.held[0], result, m.clock.now().Add(time.Minute))
		m.held = m.held[1:]
	}
}

func (m *againModel) resend(r *rapid.T) {
	if len(m.ids) == 0 {
		return
	}
	id := rapid.SampledFrom(m.ids).Draw(r, "id")
	if m.Resend(m.t.Context(), id, "a") == nil {
		m.due[id] = true
	}
}

func (m *againModel) resendFailed(r *rapid.T) {
	before := m.Outbox.hooks["a"].dead.Load()
	tally, err := m.ResendFailed(m.t.Context(), event.Query{}, rapid.IntRange(1, 3).Draw(r, "rate"), func(event.Tally) {})
	if err != nil || int64(tally.Deliveries) != before || m.Outbox.hooks["a"].dead.Load() != 0 {
		r.Fatalf("%d were dead: %+v %v", before, tally, err)
	}
}

func (m *againModel) replay(r *rapid.T) {
	replay, err := m.Redeliver(rapid.IntRange(1, 3).Draw(r, "rate"))
	m.must(err)
	m.must(m.Walk(m.t.Context(), event.Query{}, func(events []event.Event) error {
		var captured []event.Captured
		for _, e := range events {
			captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "a"}}})
			m.due[e.ID] = true
		}
		_, _, err := replay.Add(m.t.Context(), captured)
		return err
	}))
}

func (m *againModel) wait(r *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 90).Draw(r, "seconds")) * time.Second)
}

func (m *againModel) reopen(r *rapid.T) {
	if rapid.IntRange(0, 3).Draw(r, "seldom") > 0 { // it takes long
		return
	}
	m.held = nil
	m.store.reopen()
}

// check compares what is counted with what is stored.
func (m *againModel) check(r *rapid.T) {
	tags := m.tags()
	if q := m.Outbox.hooks["a"]; int(q.waiting.Load()) != tags["o"] || int(q.dead.Load()) != tags["z"] {
		r.Fatalf("%d wait and %d are dead of %v", q.waiting.Load(), q.dead.Load(), tags)
	}
}

// drain delivers all that is left; failed deliveries went for good.
func (m *againModel) drain() {
	for _, d := range m.held {
		m.Release(d)
	}
	for idle := 0; idle < 10; {
		due := m.next("a", 10)
		if idle++; len(due) > 0 {
			idle = 0
		}
		for _, d := range due {
			delete(m.due, d.Event.ID)
			m.store.settle(d, event.Delivered, time.Time{})
		}
		m.clock.advance(time.Hour)
	}
	tags := m.tags()
	if len(m.due) > 0 || tags["o"]+tags["h"]+tags["t"] > 0 {
		m.Fatalf("%d did not arrive; %v is left", len(m.due), tags)
	}
}
