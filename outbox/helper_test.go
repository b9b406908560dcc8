package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("OUTBOX_TEST_CHILD"); dir != "" {
		if step, err := strconv.ParseInt(os.Getenv("OUTBOX_TEST_STEP"), 10, 64); err == nil {
			bulkChild(dir, step)
			os.Exit(0)
		}
		child(dir)
	}
	if dir := os.Getenv("OUTBOX_TEST_QUIET"); dir != "" {
		quietChild(dir)
	}
	setRapid()
	code := m.Run()
	if left := goleak.Find(); code == 0 && left != nil {
		fmt.Println(left)
		code = 1
	}
	os.Exit(code)
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)

// clock is a time that tests set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return start.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// store is an outbox under test that can be reopened.
type store struct {
	*Outbox
	t      testing.TB
	config Config
	hooks  []string
	clock  *clock
	log    *testlog.Log
	disk   func(string) (setting.Size, error)
}

func testConfig(t testing.TB) Config {
	c := DefaultConfig()
	c.Path, c.Sync = t.TempDir(), false
	return c
}

func newStore(t testing.TB, config Config, hooks ...string) *store {
	t.Helper()
	return newStoreOn(t, FreeSpace, config, hooks...)
}

// newStoreOn opens a store on a disk with a made-up free space.
func newStoreOn(t testing.TB, disk func(string) (setting.Size, error), config Config, hooks ...string) *store {
	t.Helper()
	s := &store{t: t, config: config, hooks: hooks, clock: &clock{}, log: &testlog.Log{}, disk: disk}
	s.open()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *store) open() {
	s.t.Helper()
	var err error
	s.Outbox, err = openUnlocked(func() (*Outbox, error) {
		return openAt(s.config, s.hooks, s.log.Logger(), s.clock.now, s.disk)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// openUnlocked opens a store that nobody else has. A process that another test
// starts has all locks of this one until it runs its program.
func openUnlocked(open func() (*Outbox, error)) (*Outbox, error) {
	for end := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		o, err := open()
		if err == nil || time.Now().After(end) || !strings.Contains(err.Error(), "directory lock") && !strings.Contains(err.Error(), "in use by another") {
			return o, err
		}
	}
}

func (s *store) reopen() {
	s.t.Helper()
	s.must(s.Close())
	s.open()
}

func (s *store) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) begin(id string) {
	s.t.Helper()
	s.must(s.Begin(s.t.Context(), &event.Intent{ID: id, Time: start, Method: "PUT", Path: "/e"}))
}

// commit stores events for all webhooks.
func (s *store) commit(intent string, events ...event.Event) {
	s.t.Helper()
	s.must(s.Commit(s.t.Context(), intent, wanted(events, s.hooks...), nil, nil))
}

func wanted(events []event.Event, hooks ...string) []event.Captured {
	captured := make([]event.Captured, len(events))
	for i, e := range events {
		captured[i] = event.Captured{Event: e}
		for _, hook := range hooks {
			captured[i].Want = append(captured[i].Want, event.Want{Webhook: hook})
		}
	}
	return captured
}

// change is the n-th event of an entity.
func change(entity string, n int, payload string) event.Event {
	e := event.Event{
		Time: start, Type: "Entry", Action: "publish", Space: "s", Environment: "master", Confirmed: true,
		Entity: event.Entity{Type: "Entry", ID: entity}, Payload: []byte(payload),
	}
	e.ID = event.NewID("intent", e.Topic(), e.Key(), n)
	return e
}

// stored returns a stored event with its payload; found is false if there is
// none of that id.
func (s *store) stored(id string) (e *event.Event, found bool, err error) {
	err = s.view(func(txn *badger.Txn) error {
		seq, ok, err := get(txn, idKey(id))
		if err != nil || !ok {
			return err
		}
		var stored *eventRecord
		stored, found, err = loadEvent(txn, be.Uint64(seq))
		if found {
			e = &stored.Event
		}
		return err
	})
	return e, found, err
}

// next claims what is due now, as Next does, and does not wait.
func (s *store) next(hook string, limit int) []event.Delivery {
	s.t.Helper()
	q := s.Outbox.hooks()[hook]
	for {
		h, err := s.handOut(q, limit)
		s.must(err)
		s.must(s.buryDamaged(s.t.Context(), q, h.damaged))
		if len(h.claims) == 0 || len(h.deliveries) > 0 {
			return h.deliveries
		}
	}
}

// names returns what next claims as "entity/attempts".
func (s *store) names(hook string, limit int) []string {
	s.t.Helper()
	return namesOf(s.next(hook, limit))
}

func namesOf(deliveries []event.Delivery) []string {
	names := []string{}
	for _, d := range deliveries {
		names = append(names, fmt.Sprintf("%s/%d", d.Event.Entity.ID, d.Attempts))
	}
	return names
}

func (s *store) settle(d event.Delivery, result event.Result, next time.Time) {
	s.t.Helper()
	s.must(s.Settle(s.t.Context(), d, event.Settlement{
		Attempt: event.Attempt{Number: d.Attempts + 1, Time: s.clock.now(), Status: 500}, Result: result, Wait: next.Sub(s.now()), Reason: "test",
	}))
}

// drain delivers everything that is due, and returns the events in order.
func (s *store) drain(hook string) (events []*event.Event) {
	s.t.Helper()
	for {
		deliveries := s.next(hook, 1000)
		if len(deliveries) == 0 {
			return events
		}
		var all sync.WaitGroup
		for _, d := range deliveries {
			events = append(events, d.Event)
			all.Go(func() { s.settle(d, event.Delivered, time.Time{}) })
		}
		all.Wait()
	}
}

// tags counts the keys by tag, r as t. Each attempt has its call.
func (s *store) tags() map[string]int {
	s.t.Helper()
	tags := map[string]int{}
	s.must(s.db.View(func(txn *badger.Txn) error {
		keysFrom(txn, nil, nil, func(item *badger.Item) bool { tags[string(item.Key()[:1])]++; return true })
		return nil
	}))
	delete(tags, "m")
	if tags["c"] != tags["a"] {
		s.t.Errorf("%d attempts and %d calls", tags["a"], tags["c"])
	}
	delete(tags, "c")
	tags["t"] += tags["r"]
	delete(tags, "r")
	if tags["t"] == 0 {
		delete(tags, "t")
	}
	return tags
}

// random returns bytes that can not be compressed.
func random(seed uint64, size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return string(b)
}

// copyFolder copies a store as a kill would leave it now. What Badger does to its
// files meanwhile, it does at any time: then the copy is made again.
func copyFolder(t testing.TB, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	for range 100 {
		before := listing(from)
		err := copyFiles(to, from)
		if err == nil && listing(from) == before {
			return to
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the folder does not come to rest")
	return ""
}

// listing is the names, sizes and times of a folder's files.
func listing(folder string) string {
	var list strings.Builder
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			fmt.Fprintln(&list, entry.Name(), info.Size(), info.ModTime())
		}
	}
	return list.String()
}

func copyFiles(to, from string) error {
	entries, err := os.ReadDir(from)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	for _, entry := range entries {
		if err == nil {
			err = copyFile(filepath.Join(to, entry.Name()), filepath.Join(from, entry.Name()))
		}
	}
	return err
}

// copyFile leaves holes where there are only zeros: Badger's files are mostly that.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	part, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	var at int64
	for {
		n, err := in.ReadAt(part, at)
		if !bytes.Equal(part[:n], zeros[:n]) {
			if _, err := out.WriteAt(part[:n], at); err != nil {
				return err
			}
		}
		if at += int64(n); err != nil {
			break
		}
	}
	return errors.Join(out.Truncate(at), out.Close())
}
