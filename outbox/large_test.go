package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

func TestPayloadsComeBackWhole(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	sizes := []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 5 << 20}
	for n, size := range sizes {
		s.begin(fmt.Sprint(n))
		s.commit(fmt.Sprint(n), change(fmt.Sprint(n), n, random(uint64(n), size)))
	}
	s.reopen()
	if got := s.orphanIDs(); len(got) != 0 {
		t.Errorf("orphans: %v", got)
	}
	for n, e := range s.drain("a") {
		if string(e.Payload) != random(uint64(n), sizes[n]) {
			t.Errorf("the payload of %d bytes came back with %d", sizes[n], len(e.Payload))
		}
	}
	s.checkNothingLeaks()
}

// checkNothingLeaks wants everything delivered, and deletes it.
func (s *store) checkNothingLeaks() {
	s.t.Helper()
	tags := s.tags()
	for tag := range tags {
		if !strings.Contains("exapv", tag) {
			s.t.Errorf("after the last delivery %d keys %q are left", tags[tag], tag)
		}
	}
	s.must(s.Maintain(start.Add(1000 * day)))
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		s.t.Errorf("after retention: %s", diff)
	}
}

// many returns n events, of ten entities.
func many(n, size int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		payload := fmt.Sprintf(`{"n": %d, "text": %q}`, i, strings.Repeat("x", size))
		if size > 1000 {
			payload = random(uint64(i), size)
		}
		events[i] = change(fmt.Sprint(i%10), i, payload)
	}
	return events
}

// checkMany delivers to every webhook and wants all events, whole and in order.
func (s *store) checkMany(events []event.Event) {
	s.t.Helper()
	for _, hook := range s.hooks {
		got := s.drain(hook)
		if len(got) != len(events) {
			s.t.Fatalf("%s got %d of %d events", hook, len(got), len(events))
		}
		place := map[string]int{}
		for i, e := range events {
			place[e.ID] = i
		}
		last := map[string]uint64{}
		for _, e := range got {
			if want := events[place[e.ID]]; string(e.Payload) != string(want.Payload) || e.Seq != uint64(place[e.ID]+1) {
				s.t.Fatalf("event %d came as %d with %d bytes", place[e.ID], e.Seq, len(e.Payload))
			}
			if e.Seq <= last[e.Key()] {
				s.t.Fatalf("%s: %d after %d", hook, e.Seq, last[e.Key()])
			}
			last[e.Key()] = e.Seq
		}
	}
}

func TestManyEventsAtOnce(t *testing.T) {
	t.Parallel()
	check := func(count, size, webhooks int) {
		t.Helper()
		var hooks []string
		for n := range webhooks {
			hooks = append(hooks, fmt.Sprint("hook", n))
		}
		s := newStore(t, testConfig(t), hooks...)
		events := many(count, size)
		s.begin("i")
		s.commit("i", events...)
		before := s.tags()
		s.commit("i", events...)
		if diff := cmp.Diff(before, s.tags()); diff != "" {
			t.Errorf("repeated: %s", diff)
		}
		s.reopen()
		if diff := cmp.Diff(before, s.tags()); diff != "" {
			t.Errorf("reopened: %s", diff)
		}
		s.checkMany(events)
		s.checkNothingLeaks()
	}
	check(200, 30<<10, 20)
	check(2000, 100, 3) // more keys than a transaction has
	if !testing.Short() && !race {
		check(10_000, 100, 3)
	}
}

// Heads can be large too: a path may have 60 KB.
func TestLargeHeads(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	events := many(20, 10)
	for i := range events {
		events[i].Request.Path = strings.Repeat("\x01<", 20_000) // JSON writes 12 bytes
	}
	s.begin("i")
	s.commit("i", events...)
	s.reopen()
	s.checkMany(events)
	s.checkNothingLeaks()
}

// What a kill leaves of a commit is made here by its own steps.
func TestCutOffCommitIsSwept(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.begin("cut")
	visible := change("v", 1, random(9, 300_000))
	s.commit("other", visible)
	before := s.tags()

	records := pack(wanted(append(many(50, 30<<10), visible), "a"))
	_, err := s.upload(t.Context(), "cut", records)
	s.must(err)
	for n, part := range split(records) {
		s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("cut", n), encode(part)) }))
	}
	if tags := s.tags(); tags["u"] == 0 || tags["s"] == 0 || tags["p"] < 50 {
		t.Fatalf("the test does not do what it says: %v", tags)
	}
	s.reopen()
	if diff := cmp.Diff(before, s.tags()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"cut"}, s.orphanIDs()); diff != "" {
		t.Error(diff)
	}
	events := append([]event.Event{visible}, many(50, 30<<10)...)
	s.commit("cut", events...) // the resolver's
	s.checkMany(events)
	s.checkNothingLeaks()
}

func TestInterruptedPlacingIsFinished(t *testing.T) {
	t.Parallel()
	check := func(placed int, restarted ...string) {
		t.Helper()
		s := newStore(t, testConfig(t), "a", "b")
		s.begin("i")
		events := many(1000, 50)
		records := pack(wanted(events, "a", "b"))
		uploads, err := s.upload(t.Context(), "i", records)
		s.must(err)
		parts := split(records)
		if len(parts) < 3 {
			t.Fatalf("only %d parts", len(parts))
		}
		for n, part := range parts {
			s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("i", n), encode(part)) }))
		}
		s.must(s.submit(t.Context(), func(b *batch) {
			b.set(finishKey("i"), be.AppendUint32(nil, uint32(len(parts))))
			b.deleteAll(uploads)
			b.endIntent("i")
		}))
		for n, part := range parts[:placed] {
			s.must(s.submit(t.Context(), func(b *batch) {
				b.placeAll(part)
				b.delete(partKey("i", n))
			}))
		}
		s.hooks = restarted
		s.reopen()
		if parked := fmt.Sprintf("msg=parked webhook=b waiting=%d", len(events)); strings.Contains(s.log.String(), parked) == slices.Contains(restarted, "b") {
			t.Errorf("restarted with %v: %s", restarted, s.log)
		}
		s.hooks = []string{"a", "b"}
		s.reopen()
		if tags := s.tags(); tags["e"] != len(events) || tags["s"]+tags["f"]+tags["u"]+tags["i"] != 0 {
			t.Errorf("after the restart: %v", tags)
		}
		s.checkMany(events)
		s.checkNothingLeaks()
	}
	check(0, "a", "b")
	check(2, "a", "b")
	check(2, "a") // b comes back later: what it wants is parked
}

// A large commit whose placing fails for a while is placed before later ones.
func TestPlacingIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	events := many(1000, 50)
	records := pack(wanted(events, "a"))
	_, err := s.upload(t.Context(), "i", records)
	s.must(err)
	parts := split(records)
	good := encode(parts[1])
	for n, part := range parts {
		s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("i", n), encode(part)) }))
	}
	s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("i", 1), []byte("{")) }))
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(finishKey("i"), be.AppendUint32(nil, uint32(len(parts))))
		b.after = append(b.after, s.finishOrRetry)
	}))
	if tags := s.tags(); tags["f"] != 1 || tags["e"] == 0 {
		t.Fatalf("placing did not fail in the middle: %v", tags)
	}
	s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("i", 1), good) }))
	s.commit("j", change("0", 5000, "{}"))
	got := s.drain("a")
	if last := got[len(got)-1]; len(got) != len(events)+1 {
		t.Errorf("%d of %d events", len(got), len(events)+1)
	} else if last.Seq != uint64(len(got)) {
		t.Errorf("the later commit came earlier: %d", last.Seq)
	}
}

// With no later write it is placed all the same.
func TestPlacingIsTriedAgainOnAQuietSystem(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	good := encode(pack(wanted([]event.Event{change("e", 1, "")}, "a")))
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(partKey("i", 0), []byte("{"))
		b.set(finishKey("i"), be.AppendUint32(nil, 1))
		b.after = append(b.after, s.finishOrRetry)
	}))
	s.must(s.submit(t.Context(), func(b *batch) { b.set(partKey("i", 0), good) }))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := s.Next(ctx, "a", 1); err != nil || len(got) != 1 {
		t.Errorf("%d deliveries, %v", len(got), err)
	}
}

func TestPartsFitIntoATransaction(t *testing.T) {
	t.Parallel()
	var hooks []string
	for n := range 1000 {
		hooks = append(hooks, strings.Repeat("h", 90)+fmt.Sprint(n))
	}
	s := newStore(t, testConfig(t), hooks...)
	events := many(12, 100)
	s.commit("i", events...)
	s.reopen()
	if tags := s.tags(); tags["o"] != 12_000 || tags["h"] != 10_000 || tags["t"] != 10_000 || tags["e"] != 12 {
		t.Errorf("%v", tags)
	}
}
