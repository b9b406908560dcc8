package outbox

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/event"
)

// inOneGo has calls hand their writes to the committer in that order, which stores
// them in one transaction, and waits for the calls.
func (s *store) inOneGo(calls ...func()) {
	s.t.Helper()
	var running sync.WaitGroup
	held, release := make(chan struct{}), make(chan struct{})
	running.Go(func() { _ = s.submit(s.t.Context(), func(*batch) { close(held); <-release }) })
	<-held
	for i, call := range calls {
		running.Go(call)
		for len(s.writes) <= i {
			runtime.Gosched()
		}
	}
	close(release)
	running.Wait()
}

// TestExpireOfRegiven: nothing more is given up once a reload has given the webhook
// back.
func TestExpireOfRegiven(t *testing.T) {
	t.Parallel()
	check := func(want int64, first bool) {
		t.Helper()
		s := newStore(t, testConfig(t), "a", "b")
		for n := range 5 * buriedAtOnce {
			s.commit(fmt.Sprint(n), change(fmt.Sprint(n), 1, "{}"))
		}
		s.must(s.Replace(map[string]Queue{"a": {}}))
		s.clock.advance(7*day + time.Hour)
		expire := func() {
			if err := s.expire(s.clock.now()); err != nil {
				t.Error(err)
			}
		}
		back := func() {
			if err := s.Replace(map[string]Queue{"a": {}, "b": {}}); err != nil {
				t.Error(err)
			}
		}
		if first {
			s.inOneGo(expire, back)
		} else {
			s.inOneGo(back, expire)
		}
		q := s.Outbox.hooks()["b"]
		if dead, waiting := q.dead.Load(), q.waiting.Load(); dead != want || dead+waiting != 5*buriedAtOnce {
			t.Errorf("%d given up, want %d; %d wait", dead, want, waiting)
		}
	}
	check(buriedAtOnce, true) // what was begun before
	check(0, false)
}

// TestExpireSparesCalls: what is being delivered yet of a webhook that is gone does
// not keep the rest, nor whoever gives that up.
func TestExpireSparesCalls(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a", "b")
	s.commit("i", many(250, 10)...)
	held := s.next("b", 120)
	s.must(s.Replace(map[string]Queue{"a": {}}))
	s.clock.advance(7*day + time.Hour)
	s.must(s.expire(s.clock.now()))
	q := s.Outbox.hooks()["b"]
	if dead, waiting := q.dead.Load(), q.waiting.Load(); dead != int64(250-len(held)) || waiting != int64(len(held)) {
		t.Errorf("%d given up, %d wait, %d are being delivered", dead, waiting, len(held))
	}
}

// TestParkedLate: what a commit by the rules of before brings for a webhook that is
// gone is parked, too.
func TestParkedLate(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		s := newStore(t, testConfig(t), "a", "b")
		s.must(s.Replace(map[string]Queue{"a": {}}))
		s.commit("i", change("e", 1, "{}"), change("f", 1, "{}"))
		if strings.Count(s.log.String(), "msg=parked webhook=b waiting=") != 1 {
			t.Error(s.log)
		}
		s.clock.advance(7*day - time.Second)
		if s.hooks = []string{"a"}; restart {
			s.reopen()
		}
		s.must(s.Maintain(s.clock.now()))
		if got := s.Outbox.hooks()["b"].waiting.Load(); got != 2 {
			t.Errorf("%d wait", got)
		}
		s.clock.advance(2 * time.Second)
		s.must(s.Maintain(s.clock.now()))
		if got := s.Outbox.hooks()["b"].waiting.Load(); got != 0 {
			t.Errorf("%d wait for a webhook that nobody has", got)
		}
		s.must(s.Replace(map[string]Queue{"a": {}, "b": {}}))
		s.must(s.Commit(t.Context(), "j", wanted([]event.Event{change("g", 1, "{}")}, "b"), nil, nil))
		s.clock.advance(8 * day)
		s.must(s.Maintain(s.clock.now()))
		if got := s.names("b", 10); len(got) != 1 {
			t.Errorf("b, which is back, gets %v", got)
		}
	}
}
