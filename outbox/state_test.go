package outbox

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"cmstap/event"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
)

// shown is an event that shows its entity.
func shown(entity string, n int, version int64, payload string) event.Event {
	e := change(entity, n, payload)
	e.Entity.Version, e.Entity.ContentType, e.Shows = version, "post", event.ShowsAll
	return e
}

// recall returns an entity's state, from memory and as it is on disk, which must
// be the same.
func (s *store) recall(e event.Event) event.State {
	s.t.Helper()
	var both [2]event.State
	for i := range both {
		if i == 1 {
			s.states.forget([][]byte{stateKey(e.Key())})
		}
		found, err := s.Recall(s.t.Context(), []string{e.Key()}, true)
		s.must(err)
		both[i] = found[e.Key()]
	}
	if diff := cmp.Diff(both[0], both[1]); diff != "" {
		s.t.Errorf("%s: in memory and on disk: %s", e.Entity.ID, diff)
	}
	return both[1]
}

// TestState: what an entity's events say of it is kept, over a restart too, and
// goes with the last of them.
func TestState(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	x := shown("x", 0, 0, "{}")
	n := 0
	want := func(e event.Event, want string) {
		t.Helper()
		n++
		e.ID = event.NewID("i", "T.a", fmt.Sprint(n), 0)
		s.commit("i", e)
		for range 2 {
			got := s.recall(x)
			text := fmt.Sprintf("version %d of %d, %s, gone %t, known %t: %s", got.Version, got.Count, got.ContentType, got.Gone, got.Known, got.Payload)
			if got.Seq == 0 {
				text = "nothing"
			}
			if text != want {
				t.Errorf("%d: got %.200s, want %s", n, text, want)
			}
			if n%3 == 0 {
				s.reopen()
			}
		}
	}
	with := func(version int64, payload string, change func(*event.Event)) event.Event {
		e := shown("x", 0, version, payload)
		if change != nil {
			change(&e)
		}
		return e
	}
	want(with(1, `{"n":1}`, func(e *event.Event) { e.Confirmed = false }), "nothing")
	want(with(1, `{"n":1}`, func(e *event.Event) { e.Accepted = true }), "nothing")
	want(with(1, `{"n":1}`, nil), `version 1 of 1, post, gone false, known true: {"n":1}`)
	want(with(3, `{"n":3}`, nil), `version 3 of 2, post, gone false, known true: {"n":3}`)
	want(with(2, `{"n":2}`, func(e *event.Event) { e.Late = true }), `version 3 of 2, post, gone false, known true: {"n":3}`)
	want(with(4, `{"gone":true}`, func(e *event.Event) { e.Shows = event.ShowsSame }), `version 4 of 3, post, gone false, known true: {"n":3}`)
	want(with(0, `{}`, func(e *event.Event) { e.Shows, e.Entity.ContentType = event.ShowsNothing, "" }), `version 4 of 3, post, gone false, known false: `)
	want(with(0, `{}`, func(e *event.Event) { e.Shows = event.ShowsSame }), `version 4 of 3, post, gone false, known false: `)
	want(with(5, `{"n":5}`, nil), `version 5 of 4, post, gone false, known true: {"n":5}`)
	want(with(0, `{}`, func(e *event.Event) { e.Gone = true }), `version 0 of 0, post, gone true, known true: `)
	want(with(1, `{"n":"again"}`, nil), `version 1 of 1, post, gone false, known true: {"n":"again"}`)

	// One that is too large is not kept, nor one with an endless id.
	noise := make([]byte, pieceSize)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	large, _ := json.Marshal(noise)
	want(with(2, string(large), nil), `version 2 of 2, post, gone false, known false: `)
	endless := shown(strings.Repeat("x", 70_000), 99, 4, "{}")
	s.commit("i", endless)
	if got, err := s.Recall(t.Context(), []string{endless.Key(), "", "nobody"}, true); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}

	s.drain("a")
	s.must(s.Maintain(s.clock.now().Add(8 * day)))
	if got := s.recall(x); got.Seq != 0 {
		t.Errorf("left: %+v", got)
	}
	if tags := s.tags(); tags["v"] != 0 || tags["e"] != 0 {
		t.Errorf("left: %v", tags)
	}
}

// TestStateOutlivesItsPayload: what an entity was is not known once the event
// that showed it is gone, though a later one is there.
func TestStateOutlivesItsPayload(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	first := shown("x", 1, 1, `{"n":1}`)
	s.commit("i", first)
	s.clock.advance(5 * day)
	later := shown("x", 2, 2, `{}`)
	later.Time, later.Shows = s.clock.now(), event.ShowsSame
	s.commit("i", later)
	if got := s.recall(first); string(got.Payload) != `{"n":1}` {
		t.Errorf("%+v", got)
	}
	s.drain("a")
	s.must(s.Maintain(start.Add(8 * day)))
	s.reopen()
	if got := s.recall(first); got.Payload != nil || got.Known || got.ContentType != "post" || got.Version != 2 {
		t.Errorf("%+v", got)
	}
}

// TestStatesAreBounded: what is kept in memory has a bound, and what is not there
// is read.
func TestStatesAreBounded(t *testing.T) {
	t.Parallel()
	var s states
	for n := range 3000 {
		s.put(known{key: fmt.Sprint(n), payload: make([]byte, 10_000), read: true})
	}
	if s.bytes > maxStates || s.order.Len() != len(s.by) || s.order.Len() < 700 {
		t.Errorf("%d bytes, %d, %d", s.bytes, s.order.Len(), len(s.by))
	}
	if _, there := s.get("0"); there {
		t.Error("the oldest is still there")
	}
	if k, there := s.get("2999"); !there || len(k.payload) != 10_000 {
		t.Error("the youngest is not there")
	}
	s.put(known{key: "2999"}) // read by a Begin, which does not read the payload
	if k, _ := s.get("2999"); !k.read || len(k.payload) != 10_000 {
		t.Error("the payload was forgotten")
	}
}

// TestWriterLeaves: what a commit that nobody waits for any more says of an
// entity is not missed by who asks next.
func TestWriterLeaves(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	old := shown("x", 1, 1, `{"n":1}`)
	s.commit("i", old)
	var running sync.WaitGroup
	held, release := make(chan struct{}), make([]chan struct{}, 2)
	for i := range release {
		release[i] = make(chan struct{})
	}
	hold := func(i int) {
		running.Go(func() {
			_ = s.submit(t.Context(), func(*batch) { held <- struct{}{}; <-release[i] })
		})
	}
	hold(0)
	<-held
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	running.Go(func() {
		left <- s.Commit(ctx, "i", wanted([]event.Event{shown("x", 2, 2, `{"n":2}`)}, "a"), nil, nil)
	})
	queued := func(n int, ended <-chan struct{}) {
		for len(s.writes) < n {
			select {
			case <-ended:
				return
			default:
				runtime.Gosched()
			}
		}
	}
	queued(1, nil)
	hold(1)
	queued(2, nil)
	close(release[0])
	<-held // the commit is on its way
	leave()
	if err := <-left; err == nil {
		t.Fatal("it did not leave")
	}
	recalled := make(chan struct{})
	running.Go(func() { queued(1, recalled); close(release[1]) }) // it waits behind the commit, or does not wait
	found, err := s.Recall(t.Context(), []string{old.Key()}, true)
	close(recalled)
	if got := found[old.Key()]; err != nil || got.Version != 2 || string(got.Payload) != `{"n":2}` {
		t.Errorf("version %d, %s, %v", got.Version, got.Payload, err)
	}
	running.Wait()
}

// TestStateInDoubt: after an event that nobody saw confirmed it is not known what
// the entity is, nor that it is gone. An unpublish, done or not, leaves it as it
// was, and what was only accepted says nothing.
func TestStateInDoubt(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	n := 0
	commit := func(change func(*event.Event)) event.State {
		n++
		e := shown("x", n, 3, `{}`)
		change(&e)
		s.commit("i", e)
		return s.recall(e)
	}
	there, gone := func(*event.Event) {}, func(e *event.Event) { e.Gone = true }
	for _, c := range []struct {
		was, then func(*event.Event)
		known     bool
	}{
		{there, func(e *event.Event) { e.Confirmed = false }, false},
		{there, func(e *event.Event) { e.Confirmed, e.Shows = false, event.ShowsNothing }, false},
		{there, func(e *event.Event) { e.Confirmed, e.Gone = false, true }, false},
		{gone, func(e *event.Event) { e.Confirmed = false }, false},
		{there, func(e *event.Event) { e.Confirmed, e.Shows = false, event.ShowsSame }, true},
		{there, func(e *event.Event) { e.Accepted = true }, true},
	} {
		was := commit(c.was)
		is := commit(c.then)
		if !was.Known || is.Known != c.known || is.Known != (is.Payload != nil) || is.Gone || is.Version != was.Version || (is.Seq > was.Seq) == c.known {
			t.Errorf("%d: %+v, then %+v", n, was, is)
		}
	}
}

// TestBeginAfterRetention: a write is told that it is not known any more what its
// entity was, so that it is read.
func TestBeginAfterRetention(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	first := shown("x", 1, 1, `{"n":1}`)
	s.commit("i", first)
	s.clock.advance(5 * day)
	later := shown("x", 2, 2, `{}`)
	later.Time, later.Shows = s.clock.now(), event.ShowsSame
	s.commit("i", later)
	s.drain("a")
	begin := func(id string) event.Last {
		intent := &event.Intent{ID: id, Time: start, Method: "PUT", Path: "/e", Entity: first.Key()}
		s.must(s.Begin(t.Context(), intent))
		return intent.Last
	}
	if last := begin("1"); !last.Known {
		t.Errorf("%+v", last)
	}
	s.must(s.Maintain(start.Add(8 * day)))
	for _, id := range []string{"2", "3"} {
		if last := begin(id); last.Known || last.Version != 2 {
			t.Errorf("%s: %+v", id, last)
		}
		s.reopen()
	}
}

// TestStateWhileItsEventGoes: a state that is written while its old event is
// being deleted stays.
func TestStateWhileItsEventGoes(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	s.commit("i", shown("x", 1, 1, `{"n":1}`))
	s.drain("a")
	stale := collector{enough: math.MaxInt64}
	s.must(s.view(func(txn *badger.Txn) error { return s.stale(txn, start.Add(8*day), &stale) }))
	x := shown("x", 2, 2, `{"n":2}`)
	s.commit("i", x)
	s.must(s.deleteStale(&stale))
	if got := s.recall(x); got.Version != 2 || string(got.Payload) != `{"n":2}` {
		t.Errorf("%+v", got)
	}
}

// TestRecallIsBounded: of many entities only so much is read.
func TestRecallIsBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	var keys []string
	for n := range 200 {
		e := shown(fmt.Sprint(n), n, 1, `"`+hex.EncodeToString([]byte(random(uint64(n), 100_000)))+`"`)
		s.commit("i", e)
		keys = append(keys, e.Key())
	}
	bytes := 0
	for _, k := range s.newBatch().knownAll(keys, true) {
		if bytes += len(k.payload); !k.Known {
			t.Errorf("%s is not known", k.key)
		}
	}
	if bytes < maxRecall || bytes > maxRecall+pieceSize {
		t.Errorf("%d bytes are read", bytes)
	}
}
