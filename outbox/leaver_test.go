package outbox

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// leaver is a context that ends when the committer has looked at it, which then
// makes the write that nobody waits for any more.
type leaver struct {
	context.Context
	left  chan struct{}
	asked atomic.Bool
}

func newLeaver(t *testing.T) *leaver {
	return &leaver{Context: t.Context(), left: make(chan struct{})}
}

func (l *leaver) Done() <-chan struct{} { return l.left }

func (l *leaver) Value(any) any { return nil }

func (l *leaver) Err() error {
	if l.asked.CompareAndSwap(false, true) {
		close(l.left)
		return nil
	}
	return context.Canceled
}

// TestResendLeaves: who leaves while a delivery is made due does not read what the
// committer writes. The race detector sees it.
func TestResendLeaves(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	e := change("e", 1, "{}")
	s.commit("i", e)
	for range 20 {
		if err := s.Resend(newLeaver(t), e.ID, "a"); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
