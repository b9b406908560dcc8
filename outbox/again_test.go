package outbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// dead returns how many dead letters a webhook has: counted in memory, and stored.
func (s *store) dead(hook string) string {
	s.t.Helper()
	return fmt.Sprintf("%d/%d", s.Outbox.hooks()[hook].dead.Load(), s.tags()["z"])
}

func (s *store) refused(err error, status int) {
	s.t.Helper()
	var refusal event.Refusal
	if !errors.As(err, &refusal) || refusal.Status != status {
		s.t.Errorf("want %d, got %v", status, err)
	}
}

// TestResend: a delivery is due again whatever became of it, with attempts that
// begin anew, and its dead letter goes.
func TestResend(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	failed, retried, delivered := change("failed", 1, "{}"), change("retried", 1, "{}"), change("delivered", 1, "{}")
	s.must(s.Commit(t.Context(), "i", wanted([]event.Event{failed, retried, delivered}, "a"), nil, nil))
	all := s.next("a", 3)
	resend := func(e event.Event) error { return s.Resend(t.Context(), e.ID, "a") }
	s.refused(resend(failed), event.Conflict) // its call is under way
	s.settle(all[0], event.GiveUp, time.Time{})
	s.settle(all[1], event.Retry, s.clock.now().Add(time.Hour))
	s.settle(all[2], event.Delivered, time.Time{})
	if got := s.dead("a"); got != "1/1" {
		t.Error(got)
	}
	for _, e := range []event.Event{failed, retried, delivered} {
		s.must(resend(e))
	}
	s.reopen()
	if got := s.dead("a"); got != "0/0" {
		t.Error(got)
	}
	due := s.next("a", 10)
	names := namesOf(due)
	slices.Sort(names)
	if diff := cmp.Diff([]string{"delivered/0", "failed/0", "retried/0"}, names); diff != "" {
		t.Error(diff)
	}
	for _, d := range due {
		if d.Redelivery != event.Resend {
			t.Errorf("%s: %q", d.Event.Entity.ID, d.Redelivery)
		}
		s.settle(d, event.Retry, s.clock.now()) // and it stays one
	}
	for _, d := range s.next("a", 10) {
		if d.Attempts != 1 || d.Redelivery != event.Resend {
			t.Errorf("%+v", d)
		}
		s.settle(d, event.Delivered, time.Time{})
	}
	s.refused(s.Resend(t.Context(), failed.ID, "none"), event.NotFound)
	s.refused(s.Resend(t.Context(), failed.ID, "b"), event.NotFound) // it did not want it
	s.refused(s.Resend(t.Context(), "none", "a"), event.NotFound)
	s.clock.advance(8 * day)
	s.must(s.Maintain(s.clock.now()))
	s.refused(resend(failed), event.NotFound)
	if diff := cmp.Diff(map[string]int{}, s.tags()); diff != "" {
		t.Error(diff)
	}
}

// TestResendKeepsOrder: what is sent again goes behind what waits of its entity,
// one at a time; what waits keeps its place.
func TestResendKeepsOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	for n := range 4 {
		s.commit(fmt.Sprint(n), change("e", n, "{}"))
	}
	ids := []string{}
	for n := range 4 {
		ids = append(ids, change("e", n, "").ID)
	}
	settled := func(result event.Result) int {
		t.Helper()
		due := s.next("a", 10)
		if len(due) != 1 {
			t.Fatalf("%d at a time", len(due))
		}
		s.settle(due[0], result, s.clock.now().Add(time.Hour))
		return slices.Index(ids, due[0].Event.ID)
	}
	if n := settled(event.Delivered); n != 0 {
		t.Error(n)
	}
	s.must(s.Resend(t.Context(), ids[0], "a"))
	s.must(s.Resend(t.Context(), ids[3], "a")) // waits: it stays the last of the new ones
	if n := settled(event.Retry); n != 1 {
		t.Error(n)
	}
	if due := s.next("a", 10); len(due) != 0 {
		t.Error(namesOf(due))
	}
	s.must(s.Resend(t.Context(), ids[1], "a")) // is first, and so is due now
	var order []int
	for range 4 {
		order = append(order, settled(event.Delivered))
	}
	if diff := cmp.Diff([]int{1, 2, 3, 0}, order); diff != "" {
		t.Error(diff)
	}
	if due := s.next("a", 10); len(due) != 0 {
		t.Error(namesOf(due))
	}
}

// giveUp commits so many events and has a webhook fail all of them.
func (s *store) giveUp(hook string, n int) { s.t.Helper(); s.giveUpFrom(hook, 0, n) }

// giveUpFrom is giveUp with other entities.
func (s *store) giveUpFrom(hook string, from, n int) {
	s.t.Helper()
	for i := from; i < from+n; i++ {
		s.commit(fmt.Sprint("g", i), change(fmt.Sprintf("e%03d", i), 1, "{}"))
	}
	for {
		due := s.next(hook, 1000)
		if len(due) == 0 {
			return
		}
		for _, d := range slices.Backward(due) { // dead letters are in another order than commits
			s.settle(d, event.GiveUp, time.Time{})
		}
	}
}

// TestResendFailed: dead letters go out in commit order, so many a second, also
// over a restart in the middle; what was not reached is still a dead letter.
func TestResendFailed(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.giveUp("a", 250)
	count := func(query event.Query, want int) {
		t.Helper()
		tally, err := s.CountFailed(t.Context(), query)
		if err != nil || tally.Deliveries != want || !tally.Done {
			t.Errorf("%+v: %+v %v", query, tally, err)
		}
	}
	count(event.Query{}, 250)
	count(event.Query{Webhook: "a", Topic: "Entry.publish", Entity: "e007"}, 1)
	count(event.Query{Text: "TEST"}, 250) // the reason
	count(event.Query{Text: "entry.PUB"}, 250)
	count(event.Query{Topic: "Entry.delete"}, 0)
	count(event.Query{Since: s.clock.now().Add(time.Minute)}, 0)
	count(event.Query{Until: s.clock.now().Add(-time.Second)}, 0)
	_, err := s.CountFailed(t.Context(), event.Query{Webhook: "none"})
	s.refused(err, event.NotFound)

	reports := 0
	tally, err := s.ResendFailed(t.Context(), event.Query{Until: s.clock.now().Add(time.Hour)}, 10, func(event.Tally) {
		if reports++; reports == 2 { // the store is closed in the middle
			s.must(s.Close())
		}
	})
	if err == nil || tally.Done || tally.Deliveries != 200 {
		t.Fatalf("%+v %v", tally, err)
	}
	s.open()
	if got := s.dead("a"); got != "50/50" {
		t.Error(got)
	}
	if tally, err = s.ResendFailed(t.Context(), event.Query{}, 10, func(event.Tally) {}); err != nil || tally.Deliveries != 50 {
		t.Fatalf("%+v %v", tally, err)
	}
	if got := s.dead("a"); got != "0/0" {
		t.Error(got)
	}
	s.reopen()
	var order []string
	for second := range 26 {
		due := s.next("a", 1000)
		if len(due) > 11 || second > 0 && second < 25 && len(due) < 9 {
			t.Errorf("%d in second %d", len(due), second)
		}
		for _, d := range due {
			order = append(order, d.Event.Entity.ID)
			s.settle(d, event.Delivered, time.Time{})
		}
		s.clock.advance(time.Second)
	}
	if len(order) != 250 || !slices.IsSorted(order) {
		t.Errorf("%d: %s", len(order), order)
	}
}

// TestNewEventsDoNotWaitForResent: what is new of an entity goes before a
// redelivery whose time has not come, and that goes afterwards.
func TestNewEventsDoNotWaitForResent(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.giveUp("a", 20)
	if _, err := s.ResendFailed(t.Context(), event.Query{}, 1, func(event.Tally) {}); err != nil {
		t.Fatal(err)
	}
	s.commit("new", change("e019", 2, "{}"))
	s.commit("newer", change("e019", 3, "{}"))
	due := func(want ...string) {
		t.Helper()
		got := []string{}
		for _, d := range s.next("a", 10) {
			got = append(got, d.Event.Entity.ID+" "+string(d.Redelivery))
			s.settle(d, event.Delivered, time.Time{})
		}
		slices.Sort(got)
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Error(diff)
		}
	}
	due("e000 resend", "e019 ")
	due("e019 ")
	due()
	s.reopen()
	s.clock.advance(19 * time.Second)
	var all []string
	for n := 1; n < 20; n++ {
		all = append(all, fmt.Sprintf("e%03d resend", n))
	}
	for len(all) > 0 {
		n := min(10, len(all))
		due(all[:n]...)
		all = all[n:]
	}
	due()
}

// TestRedeliver: a replay reaches webhooks that did not want the event before, and
// leaves what waits as it is.
func TestRedeliver(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	old := []event.Event{change("x", 1, `{"n":1}`), change("y", 1, `{"n":2}`)}
	s.must(s.Commit(t.Context(), "i", wanted(old, "a"), nil, nil))
	for i, d := range s.next("a", 2) {
		s.settle(d, []event.Result{event.Delivered, event.GiveUp}[i], time.Time{})
	}
	s.commit("j", change("z", 1, "{}")) // waits for both
	replay, err := s.Redeliver(100)
	s.must(err)
	var events []string
	var made, waiting int
	s.must(s.Walk(t.Context(), event.Query{Since: start}, func(page []event.Event) error {
		var captured []event.Captured
		for _, e := range page {
			events = append(events, e.Entity.ID+string(e.Payload))
			captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "a"}, {Webhook: "b", Undecided: "why"}}})
		}
		m, w, err := replay.Add(t.Context(), captured)
		made, waiting = made+m, waiting+w
		return err
	}))
	if got := fmt.Sprint(events, made, waiting, " ", s.dead("a")); got != `[x{"n":1} y{"n":2} z{}] 4 2 0/0` {
		t.Error(got)
	}
	s.clock.advance(time.Minute)
	got := []string{}
	for _, d := range append(s.next("a", 10), s.next("b", 10)...) {
		got = append(got, strings.Join([]string{d.Webhook, d.Event.Entity.ID, string(d.Redelivery), d.Undecided}, " "))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a x replay ", "a y replay ", "a z  ", "b x replay why", "b y replay why", "b z  "}, got); diff != "" {
		t.Error(diff)
	}
	story, _, err := s.Story(old[0].ID)
	if err != nil || fmt.Sprint(story.Webhooks) != "[a b]" {
		t.Errorf("%+v %v", story.Webhooks, err)
	}
}

// TestPause: nothing is handed out while a webhook is paused, over restarts too.
func TestPause(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.must(s.Pause(t.Context(), "a"))
	s.commit("i", change("x", 1, "{}"))
	check := func(paused bool, want string) {
		t.Helper()
		list, err := s.Backlogs()
		if err != nil || list[0].Paused != paused || list[1].Paused || list[0].Waiting != 1 {
			t.Errorf("%+v %v", list, err)
		}
		due := s.next("a", 10)
		if got := strings.Join(namesOf(due), " "); got != want {
			t.Errorf("%q", got)
		}
		for _, d := range due {
			s.Release(d)
		}
	}
	check(true, "")
	if !strings.Contains(s.log.Take(), "msg=paused webhook=a by=operator") {
		t.Error("it was not said")
	}
	s.reopen()
	check(true, "")
	if !strings.Contains(s.log.Take(), "msg=paused webhook=a by=operator") {
		t.Error("it was not said at the start")
	}
	waiting := s.waiting(t.Context(), "a")
	s.must(s.Resume(t.Context(), "a"))
	s.Release(receive(t, waiting, "x/0")[0])
	check(false, "x/0")
	s.reopen()
	check(false, "x/0")
	s.refused(s.Pause(t.Context(), "none"), event.NotFound)
	s.refused(s.Resume(t.Context(), "none"), event.NotFound)
}

// TestOldDeadLetters: records of older versions say nothing of redeliveries.
func TestOldDeadLetters(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	e := change("x", 1, "{}")
	s.commit("i", e)
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(orderKey(1, entityHash(e.Key()), 1), []byte(`{"n":3,"due":1}`))
		b.delete(dueKey(tagDue, 1, start, 1))
		b.set(dueKey(tagRetry, 1, millis(1), 1), be.AppendUint64(nil, entityHash(e.Key())))
	}))
	s.reopen()
	d := s.next("a", 1)[0]
	if d.Attempts != 3 || d.Redelivery != "" {
		t.Errorf("%+v", d)
	}
	s.settle(d, event.GiveUp, time.Time{})
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(deadKey(1, s.now(), 1), []byte(`{"event":"`+e.ID+`","reason":"old"}`))
	}))
	if tally, err := s.ResendFailed(t.Context(), event.Query{}, 1, func(event.Tally) {}); err != nil || tally.Deliveries != 1 {
		t.Errorf("%+v %v", tally, err)
	}
}

// TestTail: who follows gets what is selected, and after an absence the rest; who
// does not read is told how much was missed.
func TestTail(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	follow := func(query event.Query, after string) event.Tail {
		t.Helper()
		tail, err := s.Tail(query, after)
		s.must(err)
		t.Cleanup(tail.Stop)
		return tail
	}
	all, calls := follow(event.Query{}, ""), follow(event.Query{Webhook: "a", Result: "delivered"}, "")
	s.commit("i", change("x", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.Delivered, time.Time{})
	s.settle(s.next("b", 1)[0], event.Retry, s.clock.now())
	if n := <-all.News; n.Event == nil || n.Event.Entity.ID != "x" || n.Event.Topic != "Entry.publish" || fmt.Sprint(n.Event.Webhooks) != "[a b]" {
		t.Errorf("%+v", n)
	}
	first, second := <-all.News, <-all.News
	if first.Call == nil || first.Call.Webhook != "a" || first.Call.Result != "delivered" || second.Call.Result != "retrying" {
		t.Errorf("%+v %+v", first, second)
	}
	if stored, found, err := s.Call(first.Call.ID); err != nil || !found || stored.Time != first.Call.Time {
		t.Errorf("%+v %v", stored, err)
	}
	if n := <-calls.News; n.Call == nil || n.Call.ID != first.Call.ID || len(calls.News) != 0 {
		t.Errorf("%+v", n)
	}
	calls.Stop()
	s.reopen() // the reader comes back to another process
	s.commit("j", change("y", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.Delivered, time.Time{})
	back := follow(event.Query{Webhook: "a"}, second.ID)
	var got []string
	for _, n := range back.Earlier {
		if n.Event != nil {
			got = append(got, "event "+n.Event.Entity.ID)
		} else {
			got = append(got, "call "+n.Call.Entity)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"call x", "call y", "event y"}, got); diff != "" { // the call of x was had before
		t.Error(diff)
	}
	for n := range maxUnread + 10 {
		s.commit(fmt.Sprint("m", n), change("z", n, "{}"))
	}
	for range maxUnread {
		<-back.News
	}
	s.commit("last", change("last", 1, "{}"))
	if n := <-back.News; n.Missed != 10 || n.Event.Entity.ID != "last" {
		t.Errorf("%+v", n)
	}
	_, err := s.Tail(event.Query{}, "zz")
	s.refused(err, event.Invalid)
}
