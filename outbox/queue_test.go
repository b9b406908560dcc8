package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	check := func(hook string, limit int, want ...string) []event.Delivery {
		t.Helper()
		got := s.next(hook, limit)
		if diff := cmp.Diff(append([]string{}, want...), namesOf(got)); diff != "" {
			t.Error(diff)
		}
		return got
	}
	s.commit("i", change("e", 1, "1"), change("e", 2, "2"), change("f", 1, "{}"))
	s.commit("i", change("e", 3, "3"))
	s.commit("i", change("g", 1, "{}"))

	got := check("a", 2, "e/0", "f/0")
	check("a", 10, "g/0")
	check("a", 10) // e waits for its first, all are handed out
	s.Release(got[1])
	s.Release(got[1])
	check("a", 10, "f/0")
	s.settle(got[0], event.Retry, s.clock.now().Add(time.Minute))
	check("a", 10) // the retry holds the entity
	check("b", 10, "e/0", "f/0", "g/0")

	s.clock.advance(time.Minute - time.Millisecond)
	check("a", 10)
	s.clock.advance(time.Millisecond)
	got = check("a", 10, "e/1")
	s.settle(got[0], event.GiveUp, time.Time{})
	got = check("a", 10, "e/0")
	if string(got[0].Event.Payload) != "2" || got[0].Event.Seq != 2 {
		t.Errorf("not the second event: %+v", got[0].Event)
	}
	s.settle(got[0], event.Delivered, time.Time{})
	s.settle(got[0], event.Retry, time.Time{}) // settled before: nothing
	if got = check("a", 10, "e/0"); string(got[0].Event.Payload) != "3" {
		t.Errorf("not the third event: %s", got[0].Event.Payload)
	}
	s.settle(got[0], event.Delivered, time.Time{})
	check("a", 10)
}

func TestStateSurvivesExactly(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	e := change("e", 1, `{"a": 1}`)
	e.Native = event.Native{ContentType: "x/y", Headers: []event.Header{{Name: "N", Value: "v"}, {Name: "A", PerCall: event.CallAttempt}}}
	e.Request = event.Request{Method: "PUT", Path: "/p", ID: "i"}
	s.must(s.Commit(t.Context(), "i", []event.Captured{{Event: e, Want: []event.Want{{Webhook: "a", Undecided: "payload not seen"}}}}, nil, nil))
	first := s.next("a", 1)[0]
	if want := start.Truncate(time.Millisecond); !first.Due.Equal(want) || first.Due.Location() != time.UTC {
		t.Errorf("due %v, want %v", first.Due, want)
	}
	due := start.Add(90*time.Minute + 123456789)
	s.settle(first, event.Retry, due)
	s.reopen()
	s.clock.advance(2 * time.Hour)
	second := s.next("a", 1)
	e.Seq = 1
	want := []event.Delivery{{
		Want: event.Want{Webhook: "a", Undecided: "payload not seen"}, Event: &e, Attempts: 1, Due: due.Truncate(time.Millisecond),
	}}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Error(diff)
	}
	s.reopen() // what was handed out but not settled comes again
	if diff := cmp.Diff(want, s.next("a", 1)); diff != "" {
		t.Error(diff)
	}
}

// A Settle whose answer was lost is repeated; meanwhile the delivery may be
// due again and in other hands.
func TestSettleRepeatedLate(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"), change("e", 2, "{}"))
	first := s.next("a", 1)[0]
	s.clock.advance(time.Millisecond)
	s.settle(first, event.Retry, s.clock.now())
	second := s.next("a", 1)[0]
	s.settle(first, event.Retry, s.clock.now().Add(time.Hour))
	s.settle(first, event.Delivered, time.Time{})
	if got := s.names("a", 10); len(got) != 0 {
		t.Errorf("handed out twice: %v", got)
	}
	s.settle(second, event.Delivered, time.Time{})
	if diff := cmp.Diff(map[string]int{"e": 2, "v": 1, "x": 2, "p": 2, "o": 1, "h": 1, "t": 1, "a": 2}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

func TestSettledTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("e", 1, "{}"))
	d := s.next("a", 1)[0]
	release := s.hold()
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() { s.settle(d, event.Retry, start.Add(time.Duration(n+1)*time.Hour)) })
	}
	s.queued(2)
	release()
	all.Wait()
	if tags := s.tags(); tags["t"] != 1 || tags["a"] != 1 {
		t.Errorf("%v", tags)
	}
}

func TestSettleOfAnUnknownWebhook(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	e := change("e", 1, "{}")
	d := event.Delivery{Want: event.Want{Webhook: "nobody"}, Event: &e}
	s.Release(d)
	if err := s.Settle(t.Context(), d, event.Settlement{}); err == nil {
		t.Error("no error")
	}
	if _, err := s.Next(t.Context(), "nobody", 1); err == nil {
		t.Error("no error")
	}
}

// waiting calls Next in the background.
func (s *store) waiting(ctx context.Context, hook string) <-chan []event.Delivery {
	got := make(chan []event.Delivery, 1)
	go func() {
		defer close(got)
		if deliveries, err := s.Next(ctx, hook, 1); err == nil {
			got <- deliveries
		}
	}()
	return got
}

func receive(t *testing.T, from <-chan []event.Delivery, want ...string) []event.Delivery {
	t.Helper()
	select {
	case got := <-from:
		if diff := cmp.Diff(append([]string{}, want...), namesOf(got)); diff != "" {
			t.Error(diff)
		}
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("Next did not wake")
		return nil
	}
}

func TestNextWakes(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.now = time.Now // nothing was written yet: nobody reads it
	one, two := s.waiting(t.Context(), "a"), s.waiting(t.Context(), "a")
	s.commit("i", change("e", 1, "{}"), change("f", 1, "{}")) // wakes both
	var got []event.Delivery
	for _, from := range []<-chan []event.Delivery{one, two} {
		select {
		case d := <-from:
			got = append(got, d...)
		case <-time.After(10 * time.Second):
			t.Fatal("Next did not wake")
		}
	}
	if len(got) != 2 || got[0].Event.ID == got[1].Event.ID {
		t.Fatalf("got %v", namesOf(got))
	}
	next := s.waiting(t.Context(), "a")
	s.Release(got[0])
	got[0] = receive(t, next, namesOf(got[:1])...)[0]

	next = s.waiting(t.Context(), "a")
	due := time.Now().Add(30 * time.Millisecond)
	s.settle(got[0], event.Retry, due)
	receive(t, next, got[0].Event.Entity.ID+"/1")
	if early := time.Until(due); early > time.Millisecond {
		t.Errorf("came %v early", early)
	}
}

func TestNextEndsWithItsContextAndWithTheStore(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	ctx, cancel := context.WithCancel(t.Context())
	next := s.waiting(ctx, "a")
	cancel()
	receive(t, next)
	s.commit("i", change("e", 1, "{}"))
	if got, err := s.Next(ctx, "a", 1); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("after the stop it hands out %v, %v", got, err)
	}
	s.next("a", 1)
	next = s.waiting(t.Context(), "a")
	s.must(s.Close())
	receive(t, next)
}

func TestClaimersNeverShare(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	const events = 300
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen, busy := map[string]int{}, map[string]bool{}
	claimer := func() {
		for {
			deliveries, err := s.Next(ctx, "a", 3)
			if err != nil {
				return
			}
			for _, d := range deliveries {
				mu.Lock()
				if busy[d.Event.Key()] {
					t.Errorf("two of entity %s at a time", d.Event.Entity.ID)
				}
				busy[d.Event.Key()] = true
				seen[d.Event.ID]++
				mu.Unlock()
			}
			for _, d := range deliveries {
				mu.Lock()
				busy[d.Event.Key()] = false
				done := len(seen) == events
				mu.Unlock()
				s.settle(d, event.Delivered, time.Time{})
				if done {
					cancel()
				}
			}
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(claimer)
	}
	for n := range events {
		s.commit("i", change(fmt.Sprint(n%7), n, "{}"))
	}
	all.Wait()
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was handed out %d times", id, times)
		}
	}
}

// A delivery that can not be read must not block its webhook or its entity.
func TestDamagedDeliveryIsGivenUp(t *testing.T) {
	t.Parallel()
	check := func(damage func(b *batch, first event.Event)) {
		t.Helper()
		s := newStore(t, testConfig(t), "a")
		first := change("e", 1, random(1, 1000))
		s.commit("i", first, change("e", 2, "{}"), change("f", 1, "{}"))
		s.must(s.submit(t.Context(), func(b *batch) { damage(b, first) }))
		if got := len(s.drain("a")); got != 2 {
			t.Errorf("%d of 2 are delivered", got)
		}
		tags := s.tags()
		if tags["o"]+tags["h"]+tags["t"] != 0 || tags["z"] != 1 {
			t.Errorf("left behind: %v", tags)
		}
	}
	check(func(b *batch, _ event.Event) { b.delete(eventKey(1)) })
	check(func(b *batch, _ event.Event) { b.set(eventKey(1), []byte("{")) })
	check(func(b *batch, e event.Event) { b.set(pieceKey(e.ID, 0), []byte("not s2")) })
	check(func(b *batch, e event.Event) { b.delete(pieceKey(e.ID, 0)) })
}

// A storm of retries does not keep new events from leaving, nor do those keep
// the retries back.
func TestRetriesDoNotStarveNewEvents(t *testing.T) {
	t.Parallel()
	const retries, fresh = 10_000, 500
	s := newStore(t, testConfig(t), "a")
	for n := range retries / 500 {
		var events []event.Event
		for i := range 500 {
			events = append(events, change(fmt.Sprint("r", n, "/", i), 1, "{}"))
		}
		s.commit("i", events...)
	}
	var all sync.WaitGroup
	for _, d := range s.next("a", retries) {
		all.Go(func() { s.settle(d, event.Retry, s.clock.now()) })
	}
	all.Wait()
	s.clock.advance(time.Hour) // they are all due, and long before what is new
	check := func(limit int) {
		t.Helper()
		var events []event.Event
		for i := range fresh {
			events = append(events, change(fmt.Sprint("n", limit, "/", i), 1, "{}"))
		}
		s.commit("i", events...)
		claims, left := 0, fresh
		for ; left > 0 && claims <= 2*fresh; claims += limit {
			for _, d := range s.next("a", limit) {
				if d.Attempts == 0 {
					left--
				}
				s.settle(d, event.Delivered, time.Time{})
			}
		}
		if left > 0 || claims < 2*fresh-limit {
			t.Errorf("%d at a time: after %d deliveries %d new ones of %d wait", limit, claims, left, fresh)
		}
	}
	check(1)
	check(8)
	check(3)
}

// A dead letter keeps why it is one and what came back last, over restarts, until
// it is past its retention.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	answer := func(d event.Delivery, result event.Result, status int) {
		t.Helper()
		s.must(s.Settle(t.Context(), d, event.Settlement{Result: result, Reason: "the last attempt failed", Attempt: event.Attempt{
			Number: d.Attempts + 1, Time: s.clock.now(), Status: status, Error: "no", Answer: fmt.Sprint("sorry ", status),
		}}))
	}
	s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"), change("g", 1, "{}"))
	all := s.next("a", 3)
	answer(all[0], event.GiveUp, 404)
	answer(all[1], event.Retry, 503)
	answer(all[2], event.Delivered, 200)
	s.reopen()
	again := s.next("a", 1)[0]
	c, _ := s.Outbox.hooks()["a"].held(again)
	s.must(s.submit(t.Context(), func(b *batch) {
		b.bury(s.Outbox.hooks()["a"], c, deadRecord{Event: again.Event.ID, Reason: "outbox full"})
	}))
	s.reopen()
	check := func(want ...string) {
		t.Helper()
		got := []string{}
		s.must(s.view(func(txn *badger.Txn) error {
			return scan(txn, []byte{tagDead}, func(_, value []byte) error {
				var dead deadRecord
				err := decode(value, &dead)
				_, found, _ := s.stored(dead.Event)
				got = append(got, fmt.Sprint(dead.Reason, " ", found, " ", dead.Last.Number, " ", dead.Last.Status, " ", dead.Last.Error, " ", dead.Last.Answer))
				return err
			})
		}))
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Error(diff)
		}
	}
	first, second := "the last attempt failed true 1 404 no sorry 404", "outbox full true 1 503 no sorry 503"
	check(first, second)
	s.clock.advance(s.config.Retention.Failed.Std() - time.Hour)
	s.must(s.Maintain(s.clock.now()))
	check(first, second)
	s.clock.advance(2 * time.Hour)
	s.must(s.Maintain(s.clock.now()))
	check()
}
