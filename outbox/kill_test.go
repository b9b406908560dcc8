package outbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/testlog"

	"github.com/dgraph-io/badger/v4"
)

// child is the process that TestKill kills: it writes as fast as it can and
// says what was acknowledged.
func child(dir string) {
	config := DefaultConfig()
	config.Path = dir
	o, err := Open(config, []string{"a"}, (&testlog.Log{}).Logger())
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id)
	}
	worker := func(w int) {
		for n := 0; ; n++ {
			intent := &event.Intent{ID: fmt.Sprintf("%d-%d", w, n)}
			if o.Begin(ctx, intent) != nil {
				panic("begin")
			}
			say("begun", intent.ID)
			size := 1000
			if n%5 == 4 {
				size = 600_000
			}
			e := change(intent.ID, 1, random(uint64(n), size))
			if o.Commit(ctx, intent.ID, wanted([]event.Event{e}, "a"), nil, nil) != nil {
				panic("commit")
			}
			say("committed", intent.ID)
		}
	}
	for w := range 4 {
		go worker(w)
	}
	for {
		deliveries, err := o.Next(ctx, "a", 4)
		if err != nil {
			panic(err)
		}
		for _, d := range deliveries {
			s := event.Settlement{Attempt: event.Attempt{Number: 1, Time: time.Now()}}
			if o.Settle(ctx, d, s) != nil {
				panic("settle")
			}
			say("settled", d.Event.Entity.ID)
		}
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	said := map[string]string{} // intent -> the last word on it
	for round := range 3 {
		clear(said)
		config.Path = t.TempDir()
		for id, word := range runAndKill(t, config.Path, 200+150*round) {
			said[id] = word
		}
		s := newStore(t, config, "a")
		open := map[string]bool{}
		for _, id := range s.orphanIDs() {
			open[id] = true
		}
		attempted, waits := s.attempted(), map[string]bool{}
		for _, e := range s.drainNow() {
			waits[e.Entity.ID] = true
		}
		for id, word := range said {
			e, stored, err := s.stored(change(id, 1, "").ID)
			s.must(err)
			switch {
			case stored == open[id]:
				t.Errorf("%s was %s: stored %v, open %v", id, word, stored, open[id])
			case word != "begun" && !stored:
				t.Errorf("%s was %s, but is lost", id, word)
			case word == "committed" && stored && !waits[id] && !attempted[e.Seq]:
				t.Errorf("%s was never delivered", id)
			case word == "settled" && waits[id]:
				t.Errorf("%s was settled, but is delivered again", id)
			}
		}
		if tags := s.tags(); tags["u"]+tags["s"]+tags["f"]+tags["t"]+tags["o"]+tags["h"] > 0 {
			t.Errorf("left behind: %v", tags)
		}
		s.must(s.Close())
	}
}

func (s *store) drainNow() []*event.Event {
	s.clock.advance(time.Since(start) + time.Hour) // the child had the real time
	return s.drain("a")
}

// attempted returns the seqs that have an attempt: the child may have been
// killed between a settle and its word.
func (s *store) attempted() map[uint64]bool {
	s.t.Helper()
	seqs := map[uint64]bool{}
	s.must(s.view(func(txn *badger.Txn) error {
		keysFrom(txn, []byte{tagAttempt}, []byte{tagAttempt}, func(item *badger.Item) bool {
			_, seq := parseTimed(item.Key())
			seqs[seq] = true
			return true
		})
		return nil
	}))
	return seqs
}

// runAndKill runs a child until it has said so many words, kills it, and
// returns its last word on each intent.
func runAndKill(t *testing.T, dir string, words int) map[string]string {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "OUTBOX_TEST_CHILD="+dir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if n == words {
			if err := command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		word, id, _ := strings.Cut(lines.Text(), " ")
		if said[id] != "settled" { // the words of two goroutines may cross
			said[id] = word
		}
	}
	_ = command.Wait()
	return said
}
