package outbox

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// keeper is what a store must do, and medium what it leaves behind: another store
// that implements both can be held to the same model.
type keeper interface {
	Begin(ctx context.Context, intent *event.Intent) error
	Commit(ctx context.Context, intentID string, captured []event.Captured, learned []event.Link, job *event.Intent) error
	Drop(ctx context.Context, intentID string) error
	Orphans() []event.Intent
	Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error)
	Settle(ctx context.Context, d event.Delivery, s event.Settlement) error
	Release(d event.Delivery)
	DropWaiting(ctx context.Context, webhook string) (dropped int, err error)
	Waiting() (deliveries, writes int, err error)
	// Replace goes on with other webhooks; one that the store knows has the settings
	// that it had.
	Replace(queues map[string]Queue) error
	Close() error
}

type medium interface {
	// open opens the store for the webhooks that have these settings.
	open(queues map[string]Queue) (keeper, error)
	// crash makes the next open find what a kill would leave now.
	crash()
	now() time.Time
	advance(time.Duration)
	// left says what is stored beside events and their history.
	left() string
}

func TestModel(t *testing.T) {
	t.Parallel()
	checkModel(t, func() medium { return &badgerDisk{t: t, config: testConfig(t), clock: &clock{}} })
}

// setRapid makes a run of the tests short; flags of the command line win.
func setRapid() {
	for name, value := range map[string]string{"rapid.checks": "40", "rapid.steps": "60", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// badgerDisk is the folder of an Outbox.
type badgerDisk struct {
	*clock
	t      *testing.T
	config Config
	last   *Outbox
	old    []string // folders that are given up
}

func (b *badgerDisk) open(queues map[string]Queue) (keeper, error) {
	b.config.Queues = queues
	for _, folder := range b.old { // what used them is closed now
		_ = os.RemoveAll(folder)
	}
	o, err := openUnlocked(func() (*Outbox, error) {
		return openAt(b.config, slices.Collect(maps.Keys(queues)), (&testlog.Log{}).Logger(), b.now, FreeSpace)
	})
	if err != nil {
		return nil, err
	}
	b.last = o
	return o, nil
}

func (b *badgerDisk) crash() {
	b.old = append(b.old, b.config.Path)
	b.config.Path = copyFolder(b.t, b.config.Path)
}

func (b *badgerDisk) left() string {
	tags := (&store{Outbox: b.last, t: b.t}).tags()
	for _, history := range []string{"e", "x", "p", "v", "a", "c", "z"} {
		delete(tags, history)
	}
	delete(tags, "i") // the model knows the intents
	return fmt.Sprint(tags)
}

// model says what a store must answer.
type model struct {
	*rapid.T
	disk   medium
	keeper keeper
	queues map[string]Queue // of the webhooks that the config has now
	known  map[string]Queue // of all that the store knows

	intents map[string]bool
	events  map[string]event.Event
	waiting map[string][]*waiter // by webhook, in commit order
	held    []event.Delivery
	seq     uint64
	count   int
}

// waiter is a waiting delivery.
type waiter struct {
	id       string
	attempts int
	due      time.Time
	held     bool
}

func checkModel(t *testing.T, newMedium func() medium) {
	rapid.Check(t, func(r *rapid.T) {
		m := &model{
			T: r, disk: newMedium(),
			intents: map[string]bool{}, events: map[string]event.Event{}, waiting: map[string][]*waiter{}, known: map[string]Queue{},
		}
		m.queues = m.choose()
		m.open()
		defer func() { // after a failure too
			if m.keeper != nil {
				_ = m.keeper.Close()
			}
		}()
		r.Repeat(map[string]func(*rapid.T){
			"":        m.with(m.check),
			"begin":   m.with(m.begin),
			"commit":  m.with(m.commit),
			"commit2": m.with(m.commit),
			"drop":    m.with(m.drop),
			"next":    m.with(m.next),
			"next2":   m.with(m.next),
			"settle":  m.with(m.settle),
			"settle2": m.with(m.settle),
			"settle3": m.with(m.settle),
			"time":    m.with(func() { m.disk.advance(time.Duration(m.int(0, 20_000)) * time.Microsecond) }),
			"restart": m.with(m.restart),
			"crash":   m.with(m.crash),
			"others":  m.with(m.others),
			"reload":  m.with(m.reload),
			"forget":  m.with(m.forget),
		})
		m.T = r
		m.drain()
	})
}

func (m *model) with(do func()) func(*rapid.T) {
	return func(r *rapid.T) { m.T = r; do() }
}

func (m *model) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *model) int(low, high int) int { return rapid.IntRange(low, high).Draw(m.T, "n") }

func (m *model) oneIn(n int) bool { return m.int(1, n) == n }

// hooks are the webhooks of the config, sorted.
func (m *model) hooks() []string { return slices.Sorted(maps.Keys(m.queues)) }

func (m *model) check() {
	deliveries := 0
	for _, waiting := range m.waiting {
		deliveries += len(waiting)
	}
	gotDeliveries, writes, err := m.keeper.Waiting()
	if err != nil || gotDeliveries != deliveries || writes != len(m.intents) {
		m.Fatalf("%d deliveries and %d writes wait, want %d and %d: %v", gotDeliveries, writes, deliveries, len(m.intents), err)
	}
}

func (m *model) begin() {
	m.count++
	id := fmt.Sprintf("%06d", m.count)
	m.must(m.keeper.Begin(m.Context(), &event.Intent{ID: id}))
	m.intents[id] = true
}

// anIntent returns an open one, or one that never was.
func (m *model) anIntent() string {
	return rapid.SampledFrom(append(slices.Sorted(maps.Keys(m.intents)), "none")).Draw(m.T, "intent")
}

func (m *model) drop() {
	id := m.anIntent()
	m.must(m.keeper.Drop(m.Context(), id))
	delete(m.intents, id)
}

func (m *model) commit() {
	intent := m.anIntent()
	var captured []event.Captured
	for range m.int(0, 3) {
		c := event.Captured{Event: m.anEvent()}
		for _, hook := range m.hooks() {
			if m.oneIn(2) {
				c.Want = append(c.Want, event.Want{Webhook: hook, Undecided: c.Event.ID[:3]})
			}
		}
		captured = append(captured, c)
	}
	m.must(m.keeper.Commit(m.Context(), intent, captured, nil, nil))
	delete(m.intents, intent)
	for _, c := range captured {
		m.committed(c)
	}
}

// anEvent returns a new one, or one that is stored already.
func (m *model) anEvent() event.Event {
	if len(m.events) > 0 && m.oneIn(6) {
		return m.events[rapid.SampledFrom(slices.Sorted(maps.Keys(m.events))).Draw(m.T, "event")]
	}
	m.count++
	size := m.int(1, 100)
	if m.oneIn(20) {
		size = m.int(200_000, 600_000)
	}
	e := change(fmt.Sprint("e", m.int(0, 1)), m.count, random(uint64(m.count), size))
	e.Entity.Version, e.Confirmed, e.Late = int64(m.int(0, 2)), !m.oneIn(8), m.oneIn(8)
	e.Request.ID = fmt.Sprint(m.count / 2) // some are of one exchange
	if m.oneIn(3) {
		e.Action = "save"
	}
	e.ID = event.NewID("intent", e.Topic(), e.Key(), m.count)
	return e
}

func (m *model) committed(c event.Captured) {
	if _, known := m.events[c.Event.ID]; known {
		return
	}
	m.seq++
	c.Event.Seq = m.seq
	m.events[c.Event.ID] = c.Event
	for _, want := range c.Want {
		m.waiting[want.Webhook] = append(m.waiting[want.Webhook], &waiter{id: c.Event.ID, due: m.disk.now().Truncate(time.Millisecond)})
		m.supersede(want.Webhook, c.Event.Key(), "")
	}
}

// supersede drops the deliveries of an entity that a later one makes needless,
// but for those that are handed out and not being settled.
func (m *model) supersede(hook, key, settled string) {
	if m.known[hook].Superseded != "skip" {
		return
	}
	var kept []*waiter
	for i, w := range m.waiting[hook] {
		old := m.events[w.id]
		needless := slices.ContainsFunc(m.waiting[hook][i+1:], func(later *waiter) bool {
			newer := m.events[later.id]
			return newer.Key() == key && newer.Topic() == old.Topic() && newer.Entity.Version >= old.Entity.Version &&
				newer.Confirmed && !newer.Late && newer.Request.ID != old.Request.ID
		})
		if old.Key() != key || !needless || w.held && w.id != settled {
			kept = append(kept, w)
		}
	}
	m.waiting[hook] = kept
}

// due returns what Next may hand out: of each entity the first, if it is due, or
// whatever is due. Those of which no attempt was made come first.
func (m *model) due(hook string) (due []*waiter, fresh int) {
	seen := map[string]bool{}
	for _, w := range m.waiting[hook] {
		e := m.events[w.id]
		if (!seen[e.Key()] || m.known[hook].Order == "none") && !w.held && !w.due.After(m.disk.now()) {
			due = append(due, w)
			if w.attempts == 0 {
				fresh++
			}
		}
		seen[e.Key()] = true
	}
	slices.SortStableFunc(due, func(a, b *waiter) int {
		return cmp.Or(cmp.Compare(min(a.attempts, 1), min(b.attempts, 1)), a.due.Compare(b.due))
	})
	return due, fresh
}

// handedOut is what Next must hand out, given how many first attempts it chose
// to: each kind gets half at least, if there is as much of it.
func (m *model) handedOut(hook string, limit int, got []event.Delivery) []*waiter {
	m.Helper()
	due, fresh := m.due(hook)
	chosen := 0
	for _, d := range got {
		if d.Attempts == 0 {
			chosen++
		}
	}
	again := min(limit, len(due)) - chosen
	if chosen < min(limit/2, fresh) || chosen > fresh || again < min(limit/2, len(due)-fresh) || again > len(due)-fresh {
		m.Fatalf("%s: of %d first attempts and %d others %d and %d were handed out", hook, fresh, len(due)-fresh, chosen, again)
	}
	return append(slices.Clone(due[:chosen]), due[fresh:fresh+again]...)
}

func (m *model) next() {
	if hooks := m.hooks(); len(hooks) > 0 {
		m.claim(rapid.SampledFrom(hooks).Draw(m.T, "webhook"), m.int(1, 5))
	}
}

func (m *model) claim(hook string, limit int) {
	m.Helper()
	wait := time.Minute
	if due, _ := m.due(hook); len(due) == 0 {
		wait = time.Millisecond
	}
	ctx, cancel := context.WithTimeout(m.Context(), wait)
	defer cancel()
	got, err := m.keeper.Next(ctx, hook, limit)
	want := m.handedOut(hook, limit, got)
	if len(want) == 0 && !errors.Is(err, context.DeadlineExceeded) || len(want) != len(got) {
		m.Fatalf("%s: %d deliveries, %v; want %d", hook, len(got), err, len(want))
	}
	for i, w := range want {
		w.held = true
		e := m.events[w.id]
		if string(e.Payload) != string(got[i].Event.Payload) {
			m.Fatalf("%s: the payload of %s is not what was committed", hook, w.id)
		}
		e.Payload, got[i].Event.Payload = nil, nil // cmp is slow on them
		expected := event.Delivery{Event: &e, Attempts: w.attempts, Due: w.due, Want: event.Want{Webhook: hook, Undecided: e.ID[:3]}}
		if diff := gocmp.Diff(expected, got[i]); diff != "" {
			m.Fatalf("%s: delivery %d: %s", hook, i, diff)
		}
	}
	m.held = append(m.held, got...)
}

// settle settles or releases a delivery that is handed out.
func (m *model) settle() {
	if len(m.held) == 0 {
		return
	}
	at := m.int(0, len(m.held)-1)
	d := m.held[at]
	m.held = slices.Delete(m.held, at, at+1)
	if m.find(d) == nil || m.oneIn(6) {
		if w := m.find(d); w != nil { // else it was dropped meanwhile
			w.held = false
		}
		m.keeper.Release(d)
		return
	}
	results := []event.Result{event.Retry, event.Retry, event.Retry, event.Delivered, event.GiveUp}
	m.settleAs(d, rapid.SampledFrom(results).Draw(m.T, "result"), time.Duration(m.int(0, 20_000))*time.Microsecond)
}

// find returns nil for what does not wait any more.
func (m *model) find(d event.Delivery) *waiter {
	for _, w := range m.waiting[d.Webhook] {
		if w.id == d.Event.ID {
			return w
		}
	}
	return nil
}

func (m *model) settleAs(d event.Delivery, result event.Result, wait time.Duration) {
	w := m.find(d)
	s := event.Settlement{Attempt: event.Attempt{Number: d.Attempts + 1, Time: m.disk.now()}, Result: result, Wait: wait}
	if result == event.Retry {
		w.attempts, w.due = w.attempts+1, m.disk.now().Add(wait).Truncate(time.Millisecond)
		m.supersede(d.Webhook, d.Event.Key(), w.id)
	} else {
		m.remove(d.Webhook, w)
	}
	w.held = false
	m.must(m.keeper.Settle(m.Context(), d, s))
	if m.oneIn(4) { // as if the answer had been lost
		m.must(m.keeper.Settle(m.Context(), d, s))
	}
}

func (m *model) remove(hook string, w *waiter) {
	m.waiting[hook] = slices.DeleteFunc(m.waiting[hook], func(other *waiter) bool { return other == w })
}

func (m *model) open() {
	m.Helper()
	var err error
	m.keeper, err = m.disk.open(m.queues)
	m.must(err)
	m.held = nil
	for hook, queue := range m.known { // of a webhook that the config has not only the order is kept
		m.known[hook] = Queue{}
		if queue.Order == "none" {
			m.known[hook] = Queue{Order: "none"}
		}
	}
	maps.Copy(m.known, m.queues)
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
		m.Fatal(diff)
	}
}

func (m *model) restart() {
	m.must(m.keeper.Close())
	m.open()
}

// crash goes on with what a kill would have left.
func (m *model) crash() {
	if !m.oneIn(4) { // it takes long
		return
	}
	m.disk.crash()
	m.restart()
}

// others goes on with other webhooks, after a restart.
func (m *model) others() {
	m.queues = m.choose()
	m.restart()
}

// reload goes on with other webhooks while the store is open.
func (m *model) reload() {
	next := m.choose()
	for hook := range next {
		if queue, known := m.known[hook]; known {
			next[hook] = queue
		}
	}
	m.must(m.keeper.Replace(next))
	m.queues = next
	maps.Copy(m.known, next)
}

func (m *model) choose() map[string]Queue {
	queue := rapid.Custom(func(t *rapid.T) Queue {
		return Queue{
			Order:      rapid.SampledFrom([]string{"", "entity", "none"}).Draw(t, "order"),
			Superseded: rapid.SampledFrom([]string{"", "deliver", "skip"}).Draw(t, "superseded"),
		}
	})
	return rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c"}), queue).Draw(m.T, "webhooks")
}

// forget drops what waits for a webhook that the config has no longer.
func (m *model) forget() {
	for hook, waiting := range m.waiting {
		if _, there := m.queues[hook]; there || len(waiting) == 0 {
			continue
		}
		if dropped, err := m.keeper.DropWaiting(m.Context(), hook); err != nil || dropped != len(waiting) {
			m.Fatalf("%d of %d are dropped: %v", dropped, len(waiting), err)
		}
		delete(m.waiting, hook)
	}
}

// drain delivers all that waits; then nothing is left of it.
func (m *model) drain() {
	m.Helper()
	m.queues = map[string]Queue{"a": m.queues["a"], "b": m.queues["b"], "c": m.queues["c"]}
	m.restart()
	for _, hook := range m.hooks() {
		for len(m.waiting[hook]) > 0 {
			m.disk.advance(time.Second)
			m.claim(hook, 100)
			for _, d := range m.held {
				m.settleAs(d, event.Delivered, 0)
			}
			m.held = nil
		}
	}
	m.check()
	if left := m.disk.left(); left != "map[]" {
		m.Fatalf("left: %s", left)
	}
}
