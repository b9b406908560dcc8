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
	"pgregory.net/rapid"
)

// callWire is what a call of a test sent and got.
func callWire(n int) *event.Wire {
	return &event.Wire{
		Method: "POST", URL: "https://hooks.example/<secret>", Headers: []event.Header{{Name: "Content-Type", Value: "application/json"}}, Bytes: 12,
		AnswerHeaders: []event.Header{{Name: "Server", Value: "test"}}, Answer: fmt.Sprint("answer ", n),
	}
}

// TestQueriesAgainstModel: pages of random size of random queries are what a
// simple model says, newest first, also if calls come between two pages.
func TestQueriesAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		config := testConfig(t)
		s := newStore(t, config, "a", "b", "c")
		defer func() { _ = s.Close() }()
		s.mostRead = rapid.IntRange(1, 10).Draw(r, "mostRead")
		l := &logModel{store: s, T: r}
		l.make(rapid.IntRange(0, 30).Draw(r, "calls"))
		for range 3 {
			l.checkCalls(l.query())
			l.checkEvents(l.query())
		}
	})
}

// logModel is a store's calls and events as a model has them.
type logModel struct {
	*store
	*rapid.T
	calls  []event.Call // newest first
	events []event.Recorded
}

// make makes calls with the little variety that makes filters and ties meet.
func (l *logModel) make(n int) {
	for range n {
		pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(l.T, label) }
		e := change(pick("entity", "e1", "E2"), len(l.events), "{}")
		e.Action, e.Environment = pick("action", "publish", "delete"), pick("environment", "master", "dev")
		e.Time = start.Add(time.Duration(len(l.events)) * time.Millisecond)
		e.ID = event.NewID("intent", e.Topic(), e.Key(), len(l.events))
		hook := pick("webhook", "a", "b", "c")
		l.must(l.Commit(l.t.Context(), "i", wanted([]event.Event{e}, hook), nil, nil))
		l.events = slices.Insert(l.events, 0, event.Recorded{Event: e, Topic: e.Topic(), Webhooks: []string{hook}})
		for _, d := range l.next(hook, 1) {
			s := event.Settlement{Result: event.Result(rapid.IntRange(0, 2).Draw(l.T, "result")), Wait: time.Hour, Attempt: event.Attempt{
				Number: 1, Time: start.Add(time.Duration(rapid.IntRange(0, 5).Draw(l.T, "time")) * time.Millisecond), Status: 200, Wire: callWire(n),
			}}
			if s.Result != event.Delivered {
				s.Attempt.Status, s.Attempt.Error = 0, pick("error", "no answer in TIME", "refused")
			}
			l.must(l.Settle(l.t.Context(), d, s))
			l.calls = append(l.calls, event.Call{
				ID:      fmt.Sprintf("%x", attemptKey(l.hooks()[hook].id, s.Attempt.Time, d.Event.Seq, 1)[1:]),
				Webhook: hook, Event: d.Event.ID, Topic: d.Event.Topic(), Entity: d.Event.Entity.ID, Environment: d.Event.Environment,
				Attempt: 1, Time: s.Attempt.Time, Status: s.Attempt.Status, Error: s.Attempt.Error, Result: s.Result.String(),
			})
		}
	}
	slices.SortFunc(l.calls, func(a, b event.Call) int {
		place := func(c event.Call) string { return c.ID[8:24] + c.ID[:8] + c.ID[24:] }
		return strings.Compare(place(b), place(a))
	})
}

func (l *logModel) hooks() map[string]*queue { return l.Outbox.hooks() }

func (l *logModel) query() event.Query {
	maybe := func(label string, from ...string) string {
		return rapid.SampledFrom(append(from, "", "")).Draw(l.T, label)
	}
	at := func(label string) time.Time {
		if n := rapid.IntRange(-1, 6).Draw(l.T, label); n >= 0 {
			return start.Add(time.Duration(n) * time.Millisecond)
		}
		return time.Time{}
	}
	return event.Query{
		Webhook: maybe("of webhook", "a", "b", "none"), Topic: maybe("of topic", "Entry.publish", "Entry"), Entity: maybe("of entity", "e1", "e"),
		Environment: maybe("of environment", "dev"), Result: maybe("of result", "delivered", "retrying", "failed"),
		Status: maybe("of status", "200", "2xx", "none", "404"),
		Text:   maybe("text", "ENTRY.pub", "e2", "time", "REFUSED", "zz"), Since: at("since"), Until: at("until"), Limit: rapid.IntRange(1, 7).Draw(l.T, "limit"),
	}
}

// checkCalls reads all pages. Once calls are made in between: those older than
// the cursor are seen, newer ones are not.
func (l *logModel) checkCalls(q event.Query) {
	got, want := []event.Call{}, []event.Call{}
	add := rapid.Bool().Draw(l.T, "add")
	for first := true; first || q.Cursor != ""; first = false {
		page, err := l.Calls(q)
		l.must(err)
		if len(page.Items) > q.Limit {
			l.Fatalf("a page of %d", len(page.Items))
		}
		got = append(got, page.Items...)
		if q.Cursor = page.Cursor; q.Cursor != "" && add {
			add = false
			want = l.selected(q, func(c event.Call) bool { return place(c) >= q.Cursor })
			l.make(2)
			want = append(want, l.selected(q, func(c event.Call) bool { return place(c) < q.Cursor })...)
		} else if first {
			want = l.selected(q, func(event.Call) bool { return true })
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.Fatalf("%+v: %s", q, diff)
	}
}

// place is where a call is in the order of all.
func place(c event.Call) string { return c.ID[8:24] + c.ID[:8] + c.ID[24:] }

func (l *logModel) selected(q event.Query, also func(event.Call) bool) []event.Call {
	found := []event.Call{}
	for _, c := range l.calls {
		text := strings.ToLower(c.Topic + "\n" + c.Entity + "\n" + c.Event + "\n" + c.Error)
		if status := map[string]bool{"": true, "200": c.Status == 200, "2xx": c.Status == 200, "none": c.Status == 0}; !status[q.Status] {
			continue
		}
		if also(c) && (q.Webhook == "" || q.Webhook == c.Webhook) && (q.Result == "" || q.Result == c.Result) &&
			(q.Topic == "" || q.Topic == c.Topic) && (q.Entity == "" || q.Entity == c.Entity) && (q.Environment == "" || q.Environment == c.Environment) &&
			strings.Contains(text, strings.ToLower(q.Text)) && (q.Since.IsZero() || !c.Time.Before(q.Since)) && (q.Until.IsZero() || c.Time.Before(q.Until)) {
			found = append(found, c)
		}
	}
	return found
}

func (l *logModel) checkEvents(q event.Query) {
	var got, want []string
	for first := true; first || q.Cursor != ""; first = false {
		page, err := l.Events(q)
		l.must(err)
		for _, e := range page.Items {
			got = append(got, fmt.Sprint(e.ID, e.Topic, e.Webhooks))
		}
		q.Cursor = page.Cursor
	}
	for _, e := range l.events {
		text := strings.ToLower(e.Topic + "\n" + e.Entity.ID + "\n" + e.ID)
		if (q.Topic == "" || q.Topic == e.Topic) && (q.Entity == "" || q.Entity == e.Entity.ID) && (q.Environment == "" || q.Environment == e.Environment) &&
			strings.Contains(text, strings.ToLower(q.Text)) && (q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) {
			want = append(want, fmt.Sprint(e.ID, e.Topic, e.Webhooks))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.Fatalf("%+v: %s", q, diff)
	}
}

// TestStory: an event's deliveries, each in another state, and its calls.
func TestStory(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b", "c", "d", "e")
	e := change("x", 1, `{"n": 1}`)
	s.commit("i", e, change("other", 1, "{}"))
	settle := func(hook string, result event.Result) {
		t.Helper()
		s.must(s.Settle(t.Context(), s.next(hook, 1)[0], event.Settlement{Result: result, Wait: time.Hour, Reason: "enough", Attempt: event.Attempt{
			Number: 1, Time: s.clock.now(), Status: 200, Wire: callWire(1), Answer: "kept apart",
		}}))
	}
	settle("a", event.Delivered)
	s.clock.advance(time.Second)
	settle("b", event.Retry)
	s.clock.advance(time.Second)
	settle("c", event.GiveUp)
	if _, err := s.DropWaiting(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	s.reopen()
	story, found, err := s.Story(e.ID)
	if err != nil || !found || string(story.Content) != `{"n": 1}` || story.PayloadBytes != 8 || story.Topic != "Entry.publish" {
		t.Errorf("%v %v %+v", found, err, story)
	}
	var got []string
	for _, d := range story.Deliveries {
		got = append(got, fmt.Sprint(d.Webhook, " ", d.State, " ", d.Attempts, " ", d.Reason))
	}
	if diff := cmp.Diff([]string{"a delivered 1 ", "b retrying 1 ", "c failed 1 enough", "d waiting 0 ", "e gone 0 "}, got); diff != "" {
		t.Error(diff)
	}
	hooks := ""
	for _, c := range story.Calls {
		hooks += c.Webhook
		call, found, err := s.Call(c.ID)
		if diff := cmp.Diff(callWire(1), call.Wire); err != nil || !found || diff != "" {
			t.Errorf("%v %v %s", found, err, diff)
		}
		if call.Wire = nil; cmp.Diff(c, call) != "" {
			t.Error(cmp.Diff(c, call))
		}
	}
	if hooks != "abc" {
		t.Errorf("calls of %s", hooks)
	}
	for _, id := range []string{"", "zz", story.Calls[0].ID[1:], strings.Repeat("0", 48)} {
		if _, found, err := s.Call(id); found || err != nil {
			t.Errorf("call %q: %v, %v", id, found, err)
		}
		if _, found, err := s.Story(id); found || err != nil {
			t.Errorf("event %q: %v, %v", id, found, err)
		}
	}
}

// TestOldAttempts: records of older versions are listed with what the event says.
func TestOldAttempts(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("x", 1, "{}"))
	s.settle(s.next("a", 1)[0], event.Delivered, time.Time{})
	key := attemptKey(1, s.clock.now(), 1, 1)
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(key, []byte(`{"number":1,"time":"2026-01-02T03:04:05.678Z","duration":12000000,"status":200,"event":"id","result":"delivered"}`))
		b.delete(wireKey(key))
	}))
	page, err := s.Calls(event.Query{Topic: "Entry.publish", Entity: "x", Environment: "master", Limit: 5})
	if err != nil || len(page.Items) != 1 || page.Items[0].Duration != 12 || page.Cursor != "" {
		t.Fatalf("%v %+v", err, page)
	}
	if call, found, err := s.Call(page.Items[0].ID); err != nil || !found || call.Wire != nil || call.Topic != "Entry.publish" {
		t.Errorf("%v %v %+v", err, found, call)
	}
}

// TestBundleHasOneCall: what was sent together is kept once, and found from each.
func TestBundleHasOneCall(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	config.Queues = map[string]Queue{"a": {Batch: &Batch{MaxEvents: 500, By: "webhook"}}}
	s := newStore(t, config, "a")
	events := many(500, 10)
	s.commit("i", events...)
	bundle := s.next("a", 1)
	wire := callWire(1)
	wire.Answer = random(1, 4<<10)
	settle := func(result event.Result) {
		t.Helper()
		s.must(s.SettleAll(t.Context(), bundle, event.Settlement{Result: result, Reason: "no", Attempt: event.Attempt{
			Number: bundle[0].Attempts + 1, Time: s.clock.now(), Status: 500, Wire: wire, Answer: wire.Answer}}))
	}
	settle(event.Retry)
	bundle = s.next("a", 1)
	settle(event.GiveUp)
	page, err := s.Calls(event.Query{Limit: 2000})
	if err != nil || len(page.Items) != 1000 {
		t.Fatalf("%d calls, %v", len(page.Items), err)
	}
	for _, c := range page.Items {
		if call, _, err := s.Call(c.ID); err != nil || call.Wire == nil || call.Wire.Bytes != wire.Bytes {
			t.Fatalf("%+v, %v", call, err)
		}
	}
}

// TestCursors: what no page had is refused.
func TestCursors(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	for _, cursor := range []string{"x", "00", strings.Repeat("0", 50)} {
		if _, err := s.Calls(event.Query{Cursor: cursor, Limit: 1}); !errors.Is(err, event.ErrCursor) {
			t.Errorf("%s: %v", cursor, err)
		}
		if _, err := s.Events(event.Query{Cursor: cursor, Limit: 1}); !errors.Is(err, event.ErrCursor) {
			t.Errorf("%s: %v", cursor, err)
		}
	}
}

// TestBacklogs: what is counted in memory is what is on disk, and the oldest is
// found among those that are tried again, too.
func TestBacklogs(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b", "quiet")
	for n := range 6 {
		e := change(fmt.Sprint(n), 1, "{}")
		e.Time = start.Add(time.Duration(n) * time.Second)
		s.must(s.Commit(t.Context(), "i", wanted([]event.Event{e}, "a", "b"), nil, nil))
		s.clock.advance(time.Millisecond)
	}
	first := s.next("a", 3)
	s.settle(first[0], event.Delivered, time.Time{})
	s.settle(first[1], event.Retry, s.clock.now().Add(time.Hour))
	s.settle(first[2], event.GiveUp, time.Time{})
	check := func(want ...event.Backlog) {
		t.Helper()
		got, err := s.Backlogs()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
	next := s.clock.now().Add(time.Hour).Truncate(time.Millisecond)
	want := []event.Backlog{{Webhook: "a", Waiting: 4, Dead: 1, Oldest: start.Add(time.Second), NextRetry: next}, {Webhook: "b", Waiting: 6, Oldest: start}, {Webhook: "quiet"}}
	check(want...)
	s.reopen()
	check(want...)
	s.clock.advance(31 * day)
	s.must(s.Maintain(s.clock.now()))
	want[0].Dead = 0
	check(want...)
	s.hooks = []string{"b", "quiet"}
	s.reopen()
	want[0].Parked, want[0].NextRetry = true, time.Time{}
	check(want...)
}

// TestCallsOfDeadLettersStay: a call goes after the retention of what was
// delivered, or with the dead letter that it explains.
func TestCallsOfDeadLettersStay(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("x", 1, "{}"), change("y", 1, "{}"))
	for i, d := range s.next("a", 2) {
		s.must(s.Settle(t.Context(), d, event.Settlement{Result: []event.Result{event.Delivered, event.GiveUp}[i], Reason: "no", Attempt: event.Attempt{
			Number: 1, Time: s.clock.now(), Status: 500, Wire: callWire(i),
		}}))
	}
	check := func(age time.Duration, want ...string) {
		t.Helper()
		s.must(s.Maintain(s.clock.now().Add(age)))
		page, err := s.Calls(event.Query{Limit: 5})
		s.must(err)
		got := []string{}
		for _, c := range page.Items {
			call, _, err := s.Call(c.ID)
			s.must(err)
			got = append(got, c.Entity+" "+call.Wire.Answer)
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("after %v: %s", age, diff)
		}
		s.tags() // no call without its attempt
	}
	check(6*day, "y answer 1", "x answer 0")
	check(8*day, "y answer 1")
	check(31 * day)
}

// TestDamagedCall: a record that can not be read is listed as that, and hides no
// other.
func TestDamagedCall(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", change("x", 1, "{}"), change("y", 1, "{}"))
	for _, d := range s.next("a", 2) {
		s.settle(d, event.Delivered, time.Time{})
	}
	key := attemptKey(1, s.clock.now(), 2, 1)
	s.must(s.submit(t.Context(), func(b *batch) {
		b.set(key, []byte("{"))
		b.set(wireKey(key), []byte("{"))
	}))
	page, err := s.Calls(event.Query{Limit: 5})
	if err != nil || len(page.Items) != 2 || page.Items[0].Error != "the record of this call is damaged" || page.Items[0].Entity != "y" || page.Items[1].Result != "delivered" {
		t.Errorf("%v %+v", err, page)
	}
	if call, found, err := s.Call(page.Items[0].ID); err != nil || !found || call.Wire != nil || call.Attempt != 1 {
		t.Errorf("%v %v %+v", err, found, call)
	}
}
