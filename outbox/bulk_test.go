package outbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"
)

// bulk is what a bulk action of Contentful may make: 200 entities of 30 KB for
// 20 webhooks.
func bulk() (events []event.Event, hooks []string) {
	for n := range 20 {
		hooks = append(hooks, fmt.Sprint("hook", n))
	}
	return many(200, 30<<10), hooks
}

// bulkChild commits a bulk and kills itself when its nth transaction begins.
func bulkChild(dir string, step int64) {
	events, hooks := bulk()
	config := DefaultConfig()
	config.Path, config.Sync = dir, false
	transactions := int64(-1 << 60) // opening has some of its own
	now := func() time.Time {
		if transactions++; transactions == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return start
	}
	o, err := openAt(config, hooks, (&testlog.Log{}).Logger(), now, FreeSpace)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := o.Begin(ctx, &event.Intent{ID: "bulk"}); err != nil {
		panic(err)
	}
	transactions = 0
	if err := o.Commit(ctx, "bulk", wanted(events, hooks...), nil, nil); err != nil {
		panic(err)
	}
	fmt.Println("whole", transactions)
	if err := o.Close(); err != nil {
		panic(err)
	}
}

// TestBulkIsKilled: a large commit is killed before each of its transactions.
// Either its intent is still open, and the commit is repeated, or the restart
// finishes it: then every webhook has every event, whole, once, in order.
func TestBulkIsKilled(t *testing.T) {
	t.Parallel()
	stride, err := strconv.Atoi(os.Getenv("OUTBOX_TEST_STRIDE")) // 1 takes half a minute
	if err != nil {
		stride = 7
	}
	finished, repeated := 0, 0
	for step := 1; ; step += stride {
		dir := t.TempDir()
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), "OUTBOX_TEST_CHILD="+dir, "OUTBOX_TEST_STEP="+strconv.Itoa(step))
		command.Stderr = os.Stderr
		said, err := command.Output()
		if err == nil {
			t.Logf("%s killed before each %d: %d finished by the restart, %d repeated", said, stride, finished, repeated)
			break
		}
		events, hooks := bulk()
		config := testConfig(t)
		config.Path = dir
		s := newStore(t, config, hooks...)
		if len(s.orphanIDs()) > 0 {
			repeated++
			s.commit("bulk", events...)
		} else {
			finished++
		}
		s.checkMany(events)
		if tags := s.tags(); tags["e"] != len(events) || tags["u"]+tags["s"]+tags["f"]+tags["i"]+tags["o"] > 0 {
			t.Errorf("killed before transaction %d: left %v", step, tags)
		}
		s.must(s.Close())
	}
	if finished == 0 || repeated == 0 {
		t.Errorf("%d finished, %d repeated: both must happen", finished, repeated)
	}
}
