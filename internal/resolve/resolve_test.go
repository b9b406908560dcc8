package resolve_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"

	"github.com/google/go-cmp/cmp"
)

// TestResolve: doubts are committed in order, and again until that works.
func TestResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var committed []string
		fail := 3
		r := resolve.New(func(_ context.Context, x *event.Exchange) error {
			if fail > 0 {
				fail--
				return errors.New("the disk is full")
			}
			if x.Outcome != event.Unknown {
				t.Errorf("%s: the outcome is %s", x.Intent.ID, x.Outcome)
			}
			committed = append(committed, x.Intent.ID)
			return nil
		}, slog.New(slog.DiscardHandler))
		r.AddOrphans([]event.Intent{{ID: "a"}, {ID: "b"}}, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		synctest.Wait()
		r.Add(&event.Exchange{Intent: &event.Intent{ID: "c"}})
		<-time.After(5 * time.Second)
		if diff := cmp.Diff([]string{"a", "b", "c"}, committed); diff != "" {
			t.Error(diff)
		}
		cancel()
		<-done
	})
}
