package outbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b", "gone")
	s.commit("i", change("done", 1, "{}"), change("dead", 1, "{}"), change("waits", 1, "{}"))
	s.drain("gone")
	s.must(s.Commit(t.Context(), "i", wanted([]event.Event{change("nobody", 1, "{}")}), nil, nil))
	for _, hook := range []string{"a", "b"} {
		for _, d := range s.next(hook, 10) {
			switch d.Event.Entity.ID {
			case "done":
				s.settle(d, event.Delivered, time.Time{})
			case "dead":
				s.settle(d, event.GiveUp, time.Time{})
			case "waits":
				s.settle(d, event.Retry, start.Add(2000*day))
			}
		}
	}
	s.hooks = []string{"a", "b"} // what is left of a webhook that is gone goes too
	s.reopen()
	check := func(at time.Duration, want map[string]int) {
		t.Helper()
		s.must(s.Maintain(start.Add(at)))
		if diff := cmp.Diff(want, s.tags()); diff != "" {
			t.Errorf("after %v: %s", at, diff)
		}
	}
	waits := map[string]int{"e": 1, "x": 1, "p": 1, "v": 1, "o": 2, "h": 2, "t": 2}
	with := func(more map[string]int) map[string]int {
		all := map[string]int{}
		for tag := range "exphotazv" {
			name := string("exphotazv"[tag])
			if n := waits[name] + more[name]; n > 0 {
				all[name] = n
			}
		}
		return all
	}
	check(7*day-time.Second, with(map[string]int{"e": 3, "x": 3, "p": 3, "a": 9, "z": 2, "v": 3}))
	check(7*day+time.Second, with(map[string]int{"e": 1, "x": 1, "p": 1, "a": 3, "z": 2, "v": 1}))
	check(30*day-time.Second, with(map[string]int{"e": 1, "x": 1, "p": 1, "a": 3, "z": 2, "v": 1}))
	check(30*day+time.Second, with(map[string]int{"a": 0}))
	check(1000*day, waits)
	s.clock.advance(2000 * day)
	if got := len(s.drain("a")) + len(s.drain("b")); got != 2 {
		t.Errorf("%d of 2 waiting deliveries were left", got)
	}
}

func TestRetentionOfMuch(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", many(3000, 10)...)
	s.drain("a")
	s.must(s.Maintain(start.Add(8 * day)))
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

// live returns the bytes that live in the store.
func (s *store) live() (bytes int64) {
	s.t.Helper()
	limit := s.Outbox.config.MaxSize
	defer func() { s.Outbox.config.MaxSize = limit }()
	s.Outbox.config.MaxSize = 0
	bytes, err := s.excess()
	s.must(err)
	return bytes
}

// fill commits events of 100 KB, each of an entity of its own.
func (s *store) fill(from, n int, hooks ...string) {
	s.t.Helper()
	for i := range n {
		e := change(fmt.Sprint(from+i), 1, random(uint64(from+i), 100_000))
		s.must(s.Commit(s.t.Context(), "i", wanted([]event.Event{e}, hooks...), nil, nil))
	}
}

func TestMaxSize(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.MaxSize = 10 << 20
	s := newStore(t, config, "a", "b")
	stored := func(n int) bool {
		_, found, err := s.stored(change(fmt.Sprint(n), 1, "").ID)
		s.must(err)
		return found
	}
	maintain := func() {
		t.Helper()
		s.must(s.Maintain(s.clock.now()))
		s.must(s.Begin(t.Context(), &event.Intent{ID: "always"})) // never refused
	}

	s.fill(0, 200) // 20 MB that nobody waits for
	s.fill(200, 20, "a", "b")
	for _, d := range s.next("b", 5) {
		s.settle(d, event.GiveUp, time.Time{})
	}
	s.fill(300, 10)
	s.reopen() // what is in memory tables goes to disk
	maintain()
	if got := s.live(); got > 10<<20 {
		t.Errorf("%d bytes live", got)
	}
	if stored(0) || stored(100) || !stored(309) || !stored(200) {
		t.Error("history must go first, the oldest first")
	}
	if tags := s.tags(); tags["z"] != 5 || tags["o"] != 35 {
		t.Errorf("history was enough, but others went: %v", tags)
	}
	if strings.Contains(s.log.String(), "msg=full") {
		t.Error(s.log)
	}

	for _, d := range s.next("a", 10) {
		if d.Event.Seq <= 205 {
			s.settle(d, event.Delivered, time.Time{})
		} else {
			s.Release(d)
		}
	}
	s.fill(400, 200, "a") // more than is allowed, all of it waiting
	s.reopen()
	held := s.next("a", 1)[0]
	maintain()
	if stored(200) || stored(309) {
		t.Error("history and dead letters must go before what waits")
	}
	tags, text := s.tags(), s.log.String()
	if !strings.Contains(text, fmt.Sprintf("level=ERROR msg=full webhook=a deliveries=%d", tags["z"])) || strings.Count(text, "msg=full") != 1 {
		t.Errorf("%d dead letters: %s", tags["z"], text)
	}
	dead := tags["z"]
	for range 3 { // what died gives its room back
		maintain()
	}
	if got := s.live(); got > 10<<20 {
		t.Errorf("%d bytes live", got)
	}
	if tags := s.tags(); tags["z"] >= dead || tags["o"] < 50 {
		t.Errorf("after the dead letters went: %v", tags)
	}
	s.settle(held, event.Delivered, time.Time{})
	if got := s.drain("b"); len(got) != 15 {
		t.Errorf("the small backlog of b lost %d of 15", 15-len(got))
	}
	got := s.drain("a")
	if len(got) == 0 || got[len(got)-1].Entity.ID != "599" {
		t.Errorf("the youngest must stay: %d are left", len(got))
	}
	if tags := s.tags(); tags["o"]+tags["h"]+tags["t"] != 0 {
		t.Errorf("left behind: %v", tags)
	}
}

// What another webhook waits for too is given up only if the rest is not
// enough, and then no more of it than is needed.
func TestVictimsAreThoseThatFreeRoom(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.fill(0, 10, "a", "b") // seq 1 to 10
	s.fill(10, 10, "a")
	s.fill(20, 10, "b", "a")
	check := func(hook string, enough int64, want ...uint64) {
		t.Helper()
		var got []uint64
		s.must(s.view(func(txn *badger.Txn) error {
			victims, err := s.Outbox.hooks()[hook].oldest(txn, enough)
			for _, v := range victims {
				got = append(got, v.seq)
			}
			return err
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %d: %s", hook, enough, diff)
		}
	}
	check("a", 150_000, 11, 12)
	check("a", 1_150_000, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 1, 2)
	check("b", 150_000, 1, 2)
	for _, d := range s.next("a", 3) {
		s.settle(d, event.Delivered, time.Time{})
	}
	check("b", 450_000, 1, 2, 3, 4, 5)
	held := s.next("b", 1)
	check("b", 150_000, 2, 3)
	s.Release(held[0])
}

func (s *store) bury(q *queue, v victim) {
	s.t.Helper()
	_, err := s.buryAll(q, []victim{v}, "outbox full", func(*batch) bool { return true })
	s.must(err)
}

// Giving up the first delivery of an entity, or one in its middle, keeps the
// order of the others.
func TestBuryKeepsTheOthers(t *testing.T) {
	t.Parallel()
	check := func(victims ...uint64) {
		t.Helper()
		s := newStore(t, testConfig(t), "a")
		s.commit("i", change("e", 1, "{}"), change("e", 2, "{}"), change("e", 3, "{}"))
		q, e := s.Outbox.hooks()["a"], change("e", 1, "")
		for _, seq := range victims {
			c := claim{lane: tagDue, seq: seq, entity: entityHash(e.Key()), due: start.Truncate(time.Millisecond)}
			s.bury(q, victim{claim: c, event: "x"})
			s.bury(q, victim{claim: c, event: "x"})
		}
		first := s.next("a", 10)
		if len(first) != min(1, 3-len(victims)) {
			t.Errorf("%v: %d are handed out at a time", victims, len(first))
		}
		for _, d := range first {
			s.Release(d)
		}
		got := s.drain("a")
		if len(got) != 3-len(victims) {
			t.Errorf("%v: %d are left", victims, len(got))
		}
		if tags := s.tags(); tags["o"]+tags["h"]+tags["t"] != 0 || tags["z"] != len(victims) {
			t.Errorf("%v: left behind: %v", victims, tags)
		}
	}
	check(1)
	check(2)
	check(3)
	check(1, 2)
	check(2, 1)
	check(3, 1)
	check(1, 2, 3)
}

// What is to be given up may have been handed out, or have failed, meanwhile.
func TestBuryComesLate(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"), change("e", 2, "{}"))
	q, e := s.Outbox.hooks()["a"], change("e", 1, "")
	seen := victim{claim: claim{lane: tagDue, seq: 1, entity: entityHash(e.Key()), due: start.Truncate(time.Millisecond)}, event: e.ID}
	first := s.next("a", 1)[0]
	s.bury(q, seen)
	if got := s.names("a", 10); len(got) != 0 || s.tags()["z"] != 0 {
		t.Errorf("given up while it is delivered; %v is handed out", got)
	}
	s.settle(first, event.Retry, s.now().Add(time.Hour))
	s.bury(q, seen)
	if got := s.names("a", 10); len(got) != 1 || s.tags()["z"] != 1 || s.tags()["t"] != 1 {
		t.Errorf("%v is handed out, %v", got, s.tags())
	}
}
