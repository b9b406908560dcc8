package outbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"

	"github.com/google/go-cmp/cmp"
)

// quietChild is a process that commits 300 events, waits for the watermark, and
// then for its end.
func quietChild(dir string) {
	config := DefaultConfig()
	config.Path = dir
	o, err := Open(config, []string{"a"}, (&testlog.Log{}).Logger())
	if err != nil {
		panic(err)
	}
	for n := range 300 {
		if err := o.Commit(context.Background(), "i", wanted([]event.Event{change(fmt.Sprint(n), 1, "{}")}, "a"), nil, nil); err != nil {
			panic(err)
		}
	}
	for readWatermark(dir).Commits < 300 {
		<-time.After(time.Millisecond)
	}
	fmt.Println("ready")
	select {}
}

// killedStore returns the folder that a kill left of 300 commits.
func killedStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "OUTBOX_TEST_QUIET="+dir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Error(err)
	}
	_ = command.Process.Kill()
	_ = command.Wait()
	return dir
}

// flip changes one byte in the middle of what is in the newest memory table.
func flip(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no memory table: %v", err)
	}
	table := tables[len(tables)-1]
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	text[len(bytes.TrimRight(text, "\x00"))/2] ^= 1
	if err := os.WriteFile(table, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLost: a damaged byte in the middle of the log, which Badger does not
// mention, is one loud line; numbers are not given twice; a kill is no damage.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		config := testConfig(t)
		config.Path = killedStore(t)
		if damaged {
			flip(t, config.Path)
		}
		s := newStore(t, config, "a")
		events := s.tags()["e"]
		_, text, said := strings.Cut(s.log.String(), "msg=lost transactions=")
		if said != damaged || (events < 300) != damaged {
			t.Errorf("damaged %v: %d events are left, log:\n%s", damaged, events, s.log)
		}
		if damaged && !strings.HasPrefix(text, fmt.Sprintf("%d ", 300-events)) {
			t.Errorf("%d events are left, but lost is %s", events, text)
		}
		s.commit("i", change("late", 1, "{}"))
		late, _, err := s.stored(change("late", 1, "").ID)
		s.must(err)
		if late.Seq <= 300 || damaged && late.Seq <= 300+skip {
			t.Errorf("the next number is %d", late.Seq)
		}
		s.log.Take()
		s.reopen()
		if text := s.log.String(); strings.Contains(text, "msg=lost") || s.seqNow() != late.Seq {
			t.Errorf("seq %d, then %d; it is said again:\n%s", late.Seq, s.seqNow(), text)
		}
		s.must(s.Close())
	}
}

// TestWatermarkFile: it is written at Close, and only if something changed; a
// missing or torn one is no error.
func TestWatermarkFile(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"))
	s.begin("1")
	s.must(s.Close())
	if diff := cmp.Diff(watermark{Commits: 2, Seq: 1}, readWatermark(s.config.Path)); diff != "" {
		t.Error(diff)
	}
	file := watermarkFile(s.config.Path)
	before, err := os.Stat(file)
	s.must(err)
	s.open()
	s.must(s.Close())
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("written without need, %v", err)
	}
	for _, torn := range []string{"", "{\"commits\":9", "\x00\x00\x00\x00"} {
		s.must(os.WriteFile(file, []byte(torn), 0o600))
		s.open()
		s.must(s.Close())
	}
	s.must(os.Remove(file))
	s.open()
	s.begin("2")
	s.must(s.Close())
	if got := readWatermark(s.config.Path); got.Commits != 3 {
		t.Errorf("got %+v", got)
	}
	if text := s.log.String(); strings.Contains(text, "ERROR") {
		t.Errorf("it was complained about:\n%s", text)
	}
}

// TestWatermarkBlocked: that it can not be written is said once.
func TestWatermarkBlocked(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.must(os.MkdirAll(watermarkFile(s.config.Path)+"/in-the-way", 0o700))
	for n := range 3 {
		s.begin(fmt.Sprint(n))
		s.must(s.submit(t.Context(), func(b *batch) { b.o.saveWatermark() }))
	}
	if got := s.lines("store"); got["store"] != 1 {
		t.Errorf("said %d times:\n%s", got["store"], s.log)
	}
	s.must(os.RemoveAll(watermarkFile(s.config.Path)))
}
