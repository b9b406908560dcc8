package resolve_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/internal/testlog"

	"github.com/google/go-cmp/cmp"
)

// TestResolve: everything is settled, again until that works, and what can not
// be settled keeps nothing else waiting.
func TestResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var settled []string
		sick := 3
		log := &testlog.Log{}
		r := resolve.New(func(_ context.Context, x *event.Exchange) error {
			if sick > 0 {
				sick--
				return errors.New("the disk is full")
			}
			if x.Intent.ID == "bad" {
				return errors.New("can not be stored")
			}
			settled = append(settled, x.Intent.ID+" "+x.Outcome.String())
			return nil
		}, log.Logger())
		r.AddOrphans([]event.Intent{{ID: "bad"}, {ID: "a"}, {ID: "b"}}, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		synctest.Wait()
		r.Add(&event.Exchange{Intent: &event.Intent{ID: "c"}, Outcome: event.Done})
		<-time.After(time.Minute)
		cancel()
		<-done
		slices.Sort(settled)
		if diff := cmp.Diff([]string{"a unknown", "b unknown", "c done"}, settled); diff != "" {
			t.Error(diff)
		}
		if lines := strings.Count(log.String(), "msg=store"); lines != 1 {
			t.Errorf("%d lines about one trouble", lines)
		}
	})
}

// TestBounds: a long trouble does not fill the memory.
func TestBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held, count := 0, 0
		r := resolve.New(func(_ context.Context, x *event.Exchange) error {
			held += len(x.Answer.Bytes)
			count++
			return nil
		}, (&testlog.Log{}).Logger())
		answer := make([]byte, 1<<20)
		for range 200 {
			r.Add(&event.Exchange{Intent: &event.Intent{}, Outcome: event.Done, Answer: event.Copy{Bytes: answer}})
		}
		for range 50_000 {
			r.Add(&event.Exchange{Intent: &event.Intent{}, Outcome: event.NotSent})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		if held > 64<<20 || count != 20_000 {
			t.Errorf("%d bytes of answers and %d exchanges were kept", held, count)
		}
	})
}
