package outbox

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
)

// disk is a made-up file system. The real ones are in the tests of package
// main.
type disk struct{ free atomic.Int64 }

func (d *disk) read(string) (setting.Size, error) {
	if free := d.free.Load(); free >= 0 {
		return setting.Size(free), nil
	}
	return 0, syscall.EIO
}

func (d *disk) set(mebibytes int64) { d.free.Store(mebibytes << 20) }

// newDisk returns a disk, and a config that wants 100 MiB of it free.
func newDisk(t *testing.T, mebibytes int64) (*disk, Config) {
	d, config := &disk{}, testConfig(t)
	d.set(mebibytes)
	config.MinFree = 100 << 20
	return d, config
}

// lines counts the lines of the log by message, without those for debugging.
func (s *store) lines(messages ...string) map[string]int {
	counts := map[string]int{}
	for _, message := range messages {
		for _, level := range []string{"ERROR", "WARN"} {
			counts[message] += strings.Count(s.log.String(), "level="+level+" msg="+message+" ")
		}
	}
	return counts
}

// ready waits until the store is open.
func (s *store) ready() {
	s.t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second):
		s.t.Fatalf("the store was not opened:\n%s", s.log)
	}
}

func TestGuardMarks(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 100)
	s := newStoreOn(t, d.read, config, "a")
	s.commit("i", change("e", 1, "{}"))
	s.begin("1")
	s.begin("2")
	s.begin("3")
	delivery := s.next("a", 1)[0]
	id := ""
	check := func(what string, mebibytes int64, begin, end error) {
		t.Helper()
		d.set(mebibytes)
		s.seqNow() // a transaction looks
		id += "x"
		if err := s.Begin(t.Context(), &event.Intent{ID: id}); !errors.Is(err, begin) {
			t.Errorf("%s: begin: %v, want %v", what, err, begin)
		}
		for name, err := range map[string]error{
			"drop":   s.Drop(t.Context(), "1"),
			"commit": s.Commit(t.Context(), "2", wanted([]event.Event{change("e", 2, random(1, 1<<20))}, "a"), nil, nil),
			"settle": s.Settle(t.Context(), delivery, event.Settlement{Attempt: event.Attempt{Number: 1, Time: start}}),
		} {
			if !errors.Is(err, end) {
				t.Errorf("%s: %s: %v, want %v", what, name, err, end)
			}
		}
	}
	check("below half of it", 49, ErrNoSpace, ErrNoSpace)
	if tags := s.tags(); tags["i"] != 3 || tags["o"] != 1 || tags["e"] != 1 {
		t.Errorf("something was stored: %v", tags)
	}
	check("below the mark", 50, ErrNoSpace, nil)
	if tags := s.tags(); tags["i"] != 1 || tags["o"] != 1 || tags["e"] != 2 {
		t.Errorf("not all was stored: %v", tags)
	}
	check("a little above", 109, ErrNoSpace, nil)
	check("a tenth above", 110, nil, nil)
	check("above", 100, nil, nil)
	check("below again", 99, ErrNoSpace, nil)
	want := map[string]int{"disk_full": 2, "disk_freed": 1, "store": 0}
	if diff := cmp.Diff(want, s.lines("disk_full", "disk_freed", "store")); diff != "" {
		t.Error(diff)
	}
	err := s.Begin(t.Context(), &event.Intent{ID: "last"})
	want2 := "the disk is too full: 99MiB are free for " + config.Path + " (outbox.path), outbox.min_free is 100MiB"
	if err == nil || err.Error() != want2 {
		t.Errorf("got %v, want %s", err, want2)
	}
	d.free.Store(-1)
	if err := s.Drop(t.Context(), "3"); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "outbox.path") {
		t.Errorf("got %v", err)
	}
}

// TestNoSpaceDoesNotWait: Begin is refused at once, whatever the committer does.
func TestNoSpaceDoesNotWait(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 100)
	s := newStoreOn(t, d.read, config, "a")
	begin := func() {
		t.Helper()
		if err := s.Begin(context.Background(), &event.Intent{ID: "1"}); !errors.Is(err, ErrNoSpace) {
			t.Errorf("got %v", err)
		}
	}
	d.set(99)
	begin() // nothing has looked since: the committer does
	release := s.hold()
	defer release()
	begin()
}

// TestGuardOpensByItself: without a write that would ask.
func TestGuardOpensByItself(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 10)
	s := newStoreOn(t, d.read, config, "a")
	d.set(200)
	s.ready()
	for deadline := time.After(20 * time.Second); s.lines("disk_freed")["disk_freed"] == 0; {
		select {
		case <-deadline:
			t.Fatalf("it stays closed:\n%s", s.log)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestOpenLater: a store that can not be opened for want of space refuses
// everything, and goes on where it was once there is some.
func TestOpenLater(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 200)
	s := newStoreOn(t, d.read, config, "a")
	s.begin("orphan")
	s.commit("i", change("e", 1, "{}"))
	s.must(s.Close())

	d.set(49)
	s.open()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := s.stored("x")
	check("event", err)
	check("begin", s.Begin(ctx, &event.Intent{ID: "1"}))
	check("drop", s.Drop(ctx, "orphan"))
	check("commit", s.Commit(ctx, "orphan", wanted([]event.Event{change("e", 2, "{}")}, "a"), nil, nil))
	check("settle", s.Settle(ctx, event.Delivery{Want: event.Want{Webhook: "a"}}, event.Settlement{}))
	check("maintain", s.Maintain(start))
	next := make(chan []event.Delivery)
	go func() {
		deliveries, err := s.Next(ctx, "a", 1)
		if err != nil {
			t.Error(err)
		}
		next <- deliveries
	}()
	select {
	case <-s.Ready():
		t.Error("the store is open")
	case <-next:
		t.Error("Next does not wait")
	default:
	}
	d.set(50)
	s.ready()
	if diff := cmp.Diff([]string{"e/0"}, namesOf(<-next)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"orphan"}, s.orphanIDs()); diff != "" {
		t.Error(diff)
	}
	check("begin", s.Begin(ctx, &event.Intent{ID: "1"}))
	s.must(s.Drop(ctx, "orphan"))
	if diff := cmp.Diff(map[string]int{"disk_full": 1, "store": 0}, s.lines("disk_full", "store")); diff != "" {
		t.Error(diff)
	}
}

// TestCloseBeforeOpen: a store that never was open closes like any other.
func TestCloseBeforeOpen(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 0)
	s := newStoreOn(t, d.read, config, "a")
	waits := make(chan error)
	go func() {
		_, err := s.Next(context.Background(), "a", 1)
		waits <- err
	}()
	s.must(s.Close())
	s.must(s.Close())
	for what, err := range map[string]error{"next": <-waits, "drop": s.Drop(t.Context(), "1"), "maintain": s.Maintain(start)} {
		if !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if tables, _ := filepath.Glob(filepath.Join(config.Path, "*")); len(tables) > 0 {
		t.Errorf("something was written: %v", tables)
	}
}

// TestOpenLaterFails: what else keeps the store from opening is said once, and
// it is tried again.
func TestOpenLaterFails(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 0)
	s := newStoreOn(t, d.read, config, "a")
	other := newStoreOn(t, (&disk{}).unbounded, config, "a")
	d.set(200)
	for deadline := time.After(20 * time.Second); s.lines("store")["store"] == 0; {
		select {
		case <-deadline:
			t.Fatalf("nothing is said:\n%s", s.log)
		case <-time.After(time.Millisecond):
		}
	}
	if line := s.log.String(); !strings.Contains(line, "in use by another process") {
		t.Errorf("got %s", line)
	}
	other.must(other.Close())
	s.ready()
	s.begin("1")
	if got := s.lines("store"); got["store"] != 1 {
		t.Errorf("said %d times:\n%s", got["store"], s.log)
	}
}

func (*disk) unbounded(string) (setting.Size, error) { return 1 << 50, nil }

// TestCloseWithoutRoom: closing Badger writes, so on a full disk that is left
// out; a copy of the folder shows that nothing is lost.
func TestCloseWithoutRoom(t *testing.T) {
	t.Parallel()
	d, config := newDisk(t, 200)
	s := newStoreOn(t, d.read, config, "a")
	s.commit("i", change("e", 1, "{}"))
	d.set(0)
	s.must(s.Close())
	if got := s.lines("store"); got["store"] != 1 {
		t.Errorf("said %d times:\n%s", got["store"], s.log)
	}
	copied := newStore(t, Config{Path: copyFolder(t, config.Path), MaxOpen: 10, MaxSize: 1 << 30}, "a")
	if diff := cmp.Diff([]string{"e/0"}, copied.names("a", 9)); diff != "" {
		t.Error(diff)
	}
	s.must(s.db.Close()) // the process would have ended
}

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	if free, err := FreeSpace(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
	if _, err := FreeSpace(filepath.Join(t.TempDir(), "none")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}
