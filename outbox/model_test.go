package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cmstap/event"

	gocmp "github.com/google/go-cmp/cmp"
)

// keeper is what a store must do; a second one can be held to the same model.
type keeper interface {
	Begin(ctx context.Context, intent *event.Intent) error
	Commit(ctx context.Context, intentID string, captured []event.Captured, learned []event.Link, job *event.Intent) error
	Drop(ctx context.Context, intentID string) error
	Orphans() []event.Intent
	Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error)
	Settle(ctx context.Context, d event.Delivery, s event.Settlement) error
	Release(d event.Delivery)
	Event(id string) (e *event.Event, found bool, err error)
	Close() error
}

func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s := newStore(t, testConfig(t), modelHooks...)
		m := newModel(t, seed, s.clock, func() keeper { s.open(); return s.Outbox })
		m.keeper = s.Outbox
		for range 1000 {
			m.step()
		}
		m.drain()
		if tags := s.tags(); tags["o"]+tags["h"]+tags["t"]+tags["u"]+tags["s"]+tags["f"] != 0 {
			t.Errorf("seed %d leaks: %v", seed, tags)
		}
	}
}

var modelHooks = []string{"a", "b", "c"}

// model says what a store must answer.
type model struct {
	t      *testing.T
	random *rand.Rand
	clock  *clock
	open   func() keeper
	keeper keeper

	intents map[string]bool
	events  map[string]event.Event
	waiting map[string][]*waiter // by webhook, in commit order
	held    []event.Delivery
	seq     uint64
	count   int
}

// waiter is a waiting delivery.
type waiter struct {
	id, key  string
	seq      uint64
	attempts int
	due      time.Time
	held     bool
}

func newModel(t *testing.T, seed uint64, c *clock, open func() keeper) *model {
	return &model{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), clock: c, open: open,
		intents: map[string]bool{}, events: map[string]event.Event{}, waiting: map[string][]*waiter{},
	}
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) step() {
	m.clock.advance(time.Duration(m.random.IntN(2000)) * time.Microsecond)
	switch n := m.random.IntN(1000); {
	case n < 150:
		m.begin()
	case n < 350:
		m.commit()
	case n < 400:
		m.drop()
	case n < 650:
		m.next(modelHooks[m.random.IntN(3)], 1+m.random.IntN(4))
	case n < 990:
		m.settle()
	default:
		m.reopen()
	}
}

func (m *model) begin() {
	m.count++
	id := fmt.Sprintf("%06d", m.count)
	m.must(m.keeper.Begin(m.t.Context(), &event.Intent{ID: id}))
	m.intents[id] = true
}

// anIntent returns an open one, or one that never was.
func (m *model) anIntent() string {
	ids := slices.Sorted(maps.Keys(m.intents))
	if len(ids) == 0 {
		return "none"
	}
	return ids[m.random.IntN(len(ids))]
}

func (m *model) drop() {
	id := m.anIntent()
	m.must(m.keeper.Drop(m.t.Context(), id))
	delete(m.intents, id)
}

func (m *model) commit() {
	intent := m.anIntent()
	var captured []event.Captured
	for range m.random.IntN(4) {
		m.count++
		n := m.count
		if m.random.IntN(5) == 0 {
			n = m.random.IntN(n + 1) // perhaps one that is stored already
		}
		size := 1 + m.random.IntN(100)
		if m.random.IntN(20) == 0 {
			size = 200_000 + m.random.IntN(400_000)
		}
		c := event.Captured{Event: change(fmt.Sprint("e", n%5), n, random(uint64(n), size))}
		for _, hook := range modelHooks {
			if m.random.IntN(2) == 0 {
				c.Want = append(c.Want, event.Want{Webhook: hook, Undecided: fmt.Sprint(n)})
			}
		}
		captured = append(captured, c)
	}
	m.must(m.keeper.Commit(m.t.Context(), intent, captured, nil, nil))
	delete(m.intents, intent)
	for _, c := range captured {
		m.committed(c)
	}
}

func (m *model) committed(c event.Captured) {
	if _, known := m.events[c.Event.ID]; known {
		return
	}
	m.seq++
	c.Event.Seq = m.seq
	m.events[c.Event.ID] = c.Event
	for _, want := range c.Want {
		m.waiting[want.Webhook] = append(m.waiting[want.Webhook], &waiter{
			id: c.Event.ID, key: c.Event.Key(), seq: m.seq, due: m.clock.now().Truncate(time.Millisecond),
		})
	}
}

// due returns what Next may hand out: of each entity the first, if it is due.
// Those of which no attempt was made come first.
func (m *model) due(hook string) (due []*waiter, fresh int) {
	seen := map[string]bool{}
	for _, w := range m.waiting[hook] {
		if !seen[w.key] && !w.held && !w.due.After(m.clock.now()) {
			due = append(due, w)
			if w.attempts == 0 {
				fresh++
			}
		}
		seen[w.key] = true
	}
	slices.SortStableFunc(due, func(a, b *waiter) int {
		return cmp.Or(cmp.Compare(min(a.attempts, 1), min(b.attempts, 1)), a.due.Compare(b.due))
	})
	return due, fresh
}

// handedOut is what Next must hand out, given how many first attempts it chose
// to: each kind gets half at least, if there is as much of it.
func (m *model) handedOut(hook string, limit int, got []event.Delivery) []*waiter {
	m.t.Helper()
	due, fresh := m.due(hook)
	chosen := 0
	for _, d := range got {
		if d.Attempts == 0 {
			chosen++
		}
	}
	again := min(limit, len(due)) - chosen
	if chosen < min(limit/2, fresh) || chosen > fresh || again < min(limit/2, len(due)-fresh) || again > len(due)-fresh {
		m.t.Fatalf("%s: of %d first attempts and %d others %d and %d were handed out", hook, fresh, len(due)-fresh, chosen, again)
	}
	return append(slices.Clone(due[:chosen]), due[fresh:fresh+again]...)
}

func (m *model) next(hook string, limit int) int {
	m.t.Helper()
	wait := time.Minute
	if due, _ := m.due(hook); len(due) == 0 {
		wait = 2 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), wait)
	defer cancel()
	got, err := m.keeper.Next(ctx, hook, limit)
	want := m.handedOut(hook, limit, got)
	if len(want) == 0 && !errors.Is(err, context.DeadlineExceeded) || len(want) != len(got) {
		m.t.Fatalf("%s: %d deliveries, %v; want %d", hook, len(got), err, len(want))
	}
	for i, w := range want {
		w.held = true
		e := m.events[w.id]
		if string(e.Payload) != string(got[i].Event.Payload) {
			m.t.Fatalf("%s: the payload of %s is not what was committed", hook, w.id)
		}
		e.Payload, got[i].Event.Payload = nil, nil // cmp is slow on them
		expected := event.Delivery{Event: &e, Attempts: w.attempts, Due: w.due, Want: event.Want{Webhook: hook, Undecided: got[i].Undecided}}
		if diff := gocmp.Diff(expected, got[i]); diff != "" {
			m.t.Fatalf("%s: delivery %d: %s", hook, i, diff)
		}
	}
	m.held = append(m.held, got...)
	return len(got)
}

// settle settles or releases a delivery that is handed out.
func (m *model) settle() {
	if len(m.held) == 0 {
		return
	}
	at := m.random.IntN(len(m.held))
	d := m.held[at]
	m.held = slices.Delete(m.held, at, at+1)
	hook := d.Webhook
	i := slices.IndexFunc(m.waiting[hook], func(w *waiter) bool { return w.id == d.Event.ID })
	w := m.waiting[hook][i]
	w.held = false
	s := event.Settlement{Attempt: event.Attempt{Number: d.Attempts + 1, Time: m.clock.now()}}
	switch m.random.IntN(5) {
	case 0:
		m.keeper.Release(d)
		return
	case 1, 2:
		s.Result, s.Wait = event.Retry, time.Duration(m.random.IntN(20_000))*time.Microsecond
		w.attempts, w.due = w.attempts+1, m.clock.now().Add(s.Wait).Truncate(time.Millisecond)
	default:
		s.Result = []event.Result{event.Delivered, event.GiveUp}[m.random.IntN(2)]
		m.waiting[hook] = slices.Delete(m.waiting[hook], i, i+1)
	}
	m.must(m.keeper.Settle(m.t.Context(), d, s))
	if m.random.IntN(4) == 0 { // as if the answer had been lost
		m.must(m.keeper.Settle(m.t.Context(), d, s))
	}
}

func (m *model) reopen() {
	m.t.Helper()
	m.must(m.keeper.Close())
	m.keeper = m.open()
	m.held = nil
	for _, waiting := range m.waiting {
		for _, w := range waiting {
			w.held = false
		}
	}
	orphans := map[string]bool{}
	for _, intent := range m.keeper.Orphans() {
		orphans[intent.ID] = true
	}
	if diff := gocmp.Diff(m.intents, orphans); diff != "" {
		m.t.Fatal(diff)
	}
	for id, want := range m.events {
		got, found, err := m.keeper.Event(id)
		if err != nil || !found || got.Seq != want.Seq || string(got.Payload) != string(want.Payload) {
			m.t.Fatalf("event %d: %v %v", want.Seq, found, err)
		}
		break // one at random: they are many
	}
}

// drain settles until nothing waits.
func (m *model) drain() {
	m.t.Helper()
	for _, hook := range modelHooks {
		for len(m.waiting[hook]) > 0 {
			m.clock.advance(time.Second)
			m.next(hook, 100)
			for len(m.held) > 0 {
				m.settle()
			}
		}
	}
}
