package outbox

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"syscall"

	"cmstap/internal/setting"
)

// ErrNoSpace says that the disk is too full to store something, or that the
// store is not open yet because it was. Nothing was stored; it works again, by
// itself, when there is room.
var ErrNoSpace = errors.New("the disk is too full")

// guard keeps Badger from a full disk: Badger writes through memory maps, and
// there a full disk is a SIGBUS that ends the process. Below min nothing new is
// begun; what ends things is stored down to half of it. The rest is for what
// Badger does by itself, which nobody can stop: flushes, and compactions, which
// write the new tables before they remove the old ones.
type guard struct {
	path string
	min  setting.Size
	read func(path string) (setting.Size, error)
	log  *slog.Logger

	// What the last look saw.
	free   atomic.Int64
	low    atomic.Bool // since free was below min, until it is a tenth above
	failed atomic.Pointer[error]
}

// fail notes that the disk failed. From then on nothing is stored until the next
// start: after a failed sync nobody knows what of the log is on disk, and what
// comes behind a hole in it would not be found again.
func (g *guard) fail(err error) {
	err = fmt.Errorf("outbox.path: the disk of %s failed: %w", g.path, err)
	if g.failed.CompareAndSwap(nil, &err) {
		g.log.Error("disk_failed", "path", g.path, "error", err,
			"hint", "no write can be recorded (proxy.durability) until a restart; reads pass; look after the disk first: what was accepted is in the folder")
	}
}

// errReadOnly says that the kernel allows no writing, as after an error of the
// disk. A sync may succeed then, and write nothing.
var errReadOnly = errors.New("read-only file system")

// look reads the free space, and says so when the guard closes and when it
// opens again. It takes a microsecond, so it is done for every transaction; a
// disk that hangs may hold it up, so only the goroutine that writes does it.
func (g *guard) look() error {
	free, err := g.read(g.path)
	if errors.Is(err, errReadOnly) {
		g.fail(err)
	}
	if failed := g.failed.Load(); failed != nil {
		return *failed
	}
	if err != nil {
		return fmt.Errorf("outbox.path: the free space of %s can not be read: %w", g.path, err)
	}
	g.free.Store(int64(free))
	enough := g.min + g.min/10
	switch low := g.low.Load(); {
	case !low && free < g.min:
		g.low.Store(true)
		g.log.Error("disk_full", "path", g.path, "free", mib(free), "min_free", mib(g.min),
			"hint", "no write can be recorded (proxy.durability) until "+mib(enough)+" are free (outbox.min_free); reads pass; make room, cmstap goes on by itself")
	case low && free >= enough:
		g.low.Store(false)
		g.log.Warn("disk_freed", "path", g.path, "free", mib(free), "min_free", mib(g.min), "hint", "there is room again, writes are recorded")
	}
	return nil
}

// begins refuses what is new while the disk is low.
func (g *guard) begins() error {
	if failed := g.failed.Load(); failed != nil {
		return *failed
	}
	if g.low.Load() {
		return g.full()
	}
	return nil
}

// ends refuses to write anything below half of min.
func (g *guard) ends() error {
	if failed := g.failed.Load(); failed != nil {
		return *failed
	}
	if setting.Size(g.free.Load()) < g.min/2 {
		return g.full()
	}
	return nil
}

func (g *guard) full() error {
	free := setting.Size(g.free.Load())
	return fmt.Errorf("%w: %s are free for %s (outbox.path), outbox.min_free is %s", ErrNoSpace, mib(free), g.path, mib(g.min))
}

// mib writes a size as the config does, rounded down.
func mib(size setting.Size) string { return fmt.Sprintf("%dMiB", size>>20) }

// FreeSpace returns what an ordinary user may still write to the file system
// of a path, in bytes; an error if that is read-only.
func FreeSpace(path string) (setting.Size, error) {
	var s syscall.Statfs_t
	err := syscall.Statfs(path, &s)
	for errors.Is(err, syscall.EINTR) { // a network file system may be interrupted
		err = syscall.Statfs(path, &s)
	}
	if err != nil {
		return 0, err
	}
	const readOnly = 1 // ST_RDONLY of statvfs(3)
	if s.Flags&readOnly != 0 {
		return 0, errReadOnly
	}
	free := s.Bavail * uint64(s.Bsize)
	if s.Blocks == 0 || free > math.MaxInt64 { // it has no bound
		return math.MaxInt64, nil
	}
	return setting.Size(free), nil
}
