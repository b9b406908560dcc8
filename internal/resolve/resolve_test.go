package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/internal/testlog"

	"github.com/google/go-cmp/cmp"
)

// house stands for the rest of the program: it has orders about what to say.
type house struct {
	settle  func(*event.Exchange) error
	askable bool
	verdict func(*event.Exchange) event.Verdict

	mu      sync.Mutex
	start   time.Time
	settled []string // id, outcome and, of what was asked about, the second
	asked   []string // id, second and credentials
}

func (h *house) Settle(_ context.Context, x *event.Exchange) error {
	if h.settle != nil {
		if err := h.settle(x); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	text := x.Intent.ID + " " + x.Outcome.String()
	if h.askable {
		text += " " + h.second()
	}
	h.settled = append(h.settled, text)
	return nil
}

func (h *house) second() string { return time.Since(h.start).Truncate(time.Second).String() }

func (h *house) Askable(*event.Exchange) bool { return h.askable }

func (h *house) Ask(_ context.Context, x *event.Exchange, with event.Credentials) (event.Verdict, *event.Exchange) {
	h.mu.Lock()
	h.asked = append(h.asked, fmt.Sprintf("%s %s %s", x.Intent.ID, h.second(), with["Authorization"]))
	h.mu.Unlock()
	verdict := h.verdict(x)
	done := *x
	if verdict == event.Accepted {
		done.Outcome = event.Done
	}
	return verdict, &done
}

// run runs a resolver until the end of do.
func (h *house) run(t *testing.T, log *testlog.Log, do func(*resolve.Resolver)) {
	h.start = time.Now()
	r := resolve.New(resolve.DefaultConfig(), h, log.Logger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	do(r)
	cancel()
	<-done
}

func doubt(id, entity string) *event.Exchange {
	return &event.Exchange{Intent: &event.Intent{ID: id, Entity: entity}, Credentials: event.Credentials{"Authorization": "of-" + id}}
}

// TestResolve: everything is settled, again until that works, and what can not
// be settled keeps nothing else waiting.
func TestResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		sick := 3
		h := &house{settle: func(x *event.Exchange) error {
			mu.Lock()
			defer mu.Unlock()
			if sick > 0 {
				sick--
				return errors.New("the disk is full")
			}
			if x.Intent.ID == "bad" {
				return errors.New("can not be stored")
			}
			return nil
		}}
		log := &testlog.Log{}
		h.run(t, log, func(r *resolve.Resolver) {
			r.AddOrphans([]event.Intent{{ID: "bad"}, {ID: "a"}, {ID: "b"}}, time.Now())
			synctest.Wait()
			r.Add(&event.Exchange{Intent: &event.Intent{ID: "c"}, Outcome: event.Done})
			<-time.After(time.Minute)
		})
		slices.Sort(h.settled)
		if diff := cmp.Diff([]string{"a unknown", "b unknown", "c done"}, h.settled); diff != "" {
			t.Error(diff)
		}
		if lines := strings.Count(log.String(), "msg=store"); lines != 1 {
			t.Errorf("%d lines about one trouble", lines)
		}
	})
}

// TestAsk: a doubt is asked about three times, with the credentials of who
// wrote; what is applied is done at once, what is not is believed the second
// time, and what stays in doubt goes out after the last.
func TestAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &house{askable: true, verdict: func(x *event.Exchange) event.Verdict {
			return map[string]event.Verdict{"yes": event.Accepted, "no": event.Rejected}[x.Intent.ID]
		}}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			for _, id := range []string{"yes", "no", "who knows"} {
				r.Add(doubt(id, ""))
			}
			<-time.After(10 * time.Minute)
		})
		slices.Sort(h.asked)
		want := []string{
			"no 10s of-no", "no 1m0s of-no",
			"who knows 10s of-who knows", "who knows 1m0s of-who knows", "who knows 5m0s of-who knows", "yes 10s of-yes",
		}
		if diff := cmp.Diff(want, h.asked); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"yes done 10s", "no refused 1m0s", "who knows unknown 5m0s"}, h.settled); diff != "" {
			t.Error(diff)
		}
	})
}

// TestBefore: the next write to the entity settles first what was done, with its
// own credentials; all else is asked about later.
func TestBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &house{askable: true, verdict: func(x *event.Exchange) event.Verdict {
			return map[string]event.Verdict{"yes": event.Accepted, "no": event.Rejected}[x.Intent.ID]
		}}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			for _, id := range []string{"yes", "no", "who knows"} {
				r.Add(doubt(id, "one"))
			}
			r.Add(doubt("else", "two"))
			r.Before(t.Context(), "one", event.Credentials{"Authorization": "next"})
			r.Before(t.Context(), "", event.Credentials{"Authorization": "next"})
			synctest.Wait()
		})
		if diff := cmp.Diff([]string{"yes 0s next", "no 0s next", "who knows 0s next"}, h.asked); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"yes done 0s"}, h.settled); diff != "" {
			t.Error(diff)
		}
	})
}

// TestBeforeRepeats: what can not be stored before the next write is stored soon
// after.
func TestBeforeRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sick := true
		h := &house{askable: true, verdict: func(*event.Exchange) event.Verdict { return event.Accepted }}
		h.settle = func(*event.Exchange) error {
			if sick {
				sick = false
				return errors.New("the disk is full")
			}
			return nil
		}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			r.Add(doubt("yes", "one"))
			r.Before(t.Context(), "one", event.Credentials{"Authorization": "next"})
			<-time.After(2 * time.Second)
		})
		if diff := cmp.Diff([]string{"yes done 0s"}, h.settled); diff != "" {
			t.Error(diff)
		}
	})
}

// TestHungCMS: doubts about a CMS that hangs keep nothing else waiting.
func TestHungCMS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &house{askable: true, verdict: func(*event.Exchange) event.Verdict {
			<-time.After(3 * time.Second)
			return event.Doubt
		}}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			for i := range 1000 {
				r.Add(doubt(fmt.Sprint(i), ""))
			}
			<-time.After(time.Minute)
			r.Add(&event.Exchange{Intent: &event.Intent{ID: "done"}, Outcome: event.Done})
			<-time.After(time.Second)
		})
		if diff := cmp.Diff([]string{"done done 1m0s"}, h.settled); diff != "" {
			t.Error(diff)
		}
	})
}

// TestCredentialsAreForgotten: after ten minutes, whatever became of the write.
func TestCredentialsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		kept := map[string]time.Duration{} // how long, by id
		start := time.Now()
		see := func(x *event.Exchange) {
			mu.Lock()
			defer mu.Unlock()
			if x.Credentials != nil {
				kept[x.Intent.ID] = time.Since(start).Round(time.Minute)
			}
		}
		h := &house{
			askable: true,
			settle:  func(x *event.Exchange) error { see(x); return errors.New("the disk is full") },
			verdict: func(x *event.Exchange) event.Verdict { see(x); return event.Doubt },
		}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			done, job := doubt("done", ""), doubt("job", "")
			done.Outcome, job.Intent.Job = event.Done, &event.Job{Until: start.Add(time.Hour)}
			late := doubt("late", "") // a job whose promise could not be stored for a while
			late.Time, late.Intent.Job = start.Add(-4*time.Minute), job.Intent.Job
			r.Add(done)
			r.Add(job)
			r.Add(late)
			<-time.After(30 * time.Minute)
		})
		if diff := cmp.Diff(map[string]time.Duration{"done": 10 * time.Minute, "job": 10 * time.Minute, "late": 6 * time.Minute}, kept); diff != "" {
			t.Error(diff)
		}
	})
}

// TestBeforeIsBounded: a write does not wait for a CMS that hangs, nor for
// somebody else who asks it.
func TestBeforeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := &house{askable: true, verdict: func(*event.Exchange) event.Verdict { <-release; return event.Doubt }}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			r.Add(doubt("a", "one"))
			<-time.After(11 * time.Second) // Run asks now
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r.Before(ctx, "one", event.Credentials{"Authorization": "next"})
			if took := h.second(); took != "12s" {
				t.Errorf("a write waited until %s", took)
			}
			close(release)
		})
	})
}

// TestBounds: a long trouble does not fill the memory, and an outage of the CMS
// does not keep intents open without end.
func TestBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := 0
		h := &house{settle: func(x *event.Exchange) error { held += len(x.Answer.Bytes); return nil }}
		r := resolve.New(resolve.DefaultConfig(), h, (&testlog.Log{}).Logger())
		answer := make([]byte, 1<<20)
		for range 200 {
			r.Add(&event.Exchange{Intent: &event.Intent{}, Outcome: event.Done, Answer: event.Copy{Bytes: answer}})
		}
		for range 50_000 {
			r.Add(&event.Exchange{Intent: &event.Intent{}, Outcome: event.NotSent})
		}
		var mu sync.Mutex
		h.settle = func(x *event.Exchange) error {
			mu.Lock()
			defer mu.Unlock()
			held += len(x.Answer.Bytes)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		if held > 64<<20 || len(h.settled) != 20_000 {
			t.Errorf("%d bytes of answers and %d exchanges were kept", held, len(h.settled))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := &house{askable: true}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			for i := range 1500 {
				r.Add(doubt(fmt.Sprint(i), ""))
			}
			synctest.Wait()
		})
		if len(h.settled) != 500 {
			t.Errorf("%d of 1500 doubts were not kept", len(h.settled))
		}
	})
}

// TestResultsAreBounded: while nothing can be stored, the results of jobs do not
// fill the memory. They are asked for again later.
func TestResultsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		full, kept, whole := true, map[string]int{}, 0
		h := &house{askable: true, verdict: func(x *event.Exchange) event.Verdict {
			x.Answer.Bytes, x.Read = make([]byte, 1<<20), map[string]event.Copy{"/a": {Bytes: make([]byte, 1<<20)}}
			return event.Accepted
		}}
		h.settle = func(x *event.Exchange) error {
			mu.Lock()
			defer mu.Unlock()
			bytes := len(x.Answer.Bytes) + len(x.Read["/a"].Bytes)
			if kept[x.Intent.ID] = bytes; full {
				return errors.New("the disk is full")
			}
			if bytes == 2<<20 {
				whole++
			}
			return nil
		}
		h.run(t, &testlog.Log{}, func(r *resolve.Resolver) {
			for i := range 200 {
				job := doubt(fmt.Sprint(i), "")
				job.Intent.Job = &event.Job{Poll: "/" + job.Intent.ID, Until: h.start.Add(time.Hour)}
				r.Add(job)
			}
			<-time.After(30 * time.Minute)
			mu.Lock()
			held := 0
			for _, bytes := range kept {
				held += bytes
			}
			if full = false; held > 64<<20 {
				t.Errorf("%d bytes were kept", held)
			}
			mu.Unlock()
			<-time.After(29 * time.Minute)
		})
		if whole != 200 {
			t.Errorf("%d of 200 results were whole", whole)
		}
	})
}
