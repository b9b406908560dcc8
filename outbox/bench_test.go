package outbox

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/event"
)

func benchStore(b *testing.B, hooks ...string) *store {
	config := testConfig(b)
	config.Sync = true
	config.MaxOpen = 1 << 30
	s := newStore(b, config, hooks...)
	b.ReportAllocs()
	return s
}

func BenchmarkBegin(b *testing.B) {
	for _, parallel := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			s := benchStore(b)
			var n atomic.Int64
			concurrently(b, parallel, func() error {
				return s.Begin(b.Context(), &event.Intent{ID: fmt.Sprint(n.Add(1)), Path: "/spaces/s/environments/master/entries/e"})
			})
		})
	}
}

func BenchmarkBeginCommit(b *testing.B) {
	payload := fmt.Sprintf("{%q: %q}", "text", strings.Repeat(random(1, 40)+" lorem ", 90))
	for _, parallel := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			s := benchStore(b, "a", "b")
			var n atomic.Int64
			concurrently(b, parallel, func() error {
				i := int(n.Add(1))
				id := fmt.Sprint(i)
				if err := s.Begin(b.Context(), &event.Intent{ID: id}); err != nil {
					return err
				}
				return s.Commit(b.Context(), id, wanted([]event.Event{change(fmt.Sprint(i%1000), i, payload)}, "a", "b"), nil, nil)
			})
		})
	}
}

// A thousand deliveries that fail and are due again at once.
func BenchmarkClaimSettle(b *testing.B) {
	wire := callWire(1)
	for _, parallel := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			s := benchStore(b, "a")
			for n := range 1000 {
				s.commit("i", change(fmt.Sprint(n), 1, "{}"))
			}
			concurrently(b, parallel, func() error {
				deliveries, err := s.Next(b.Context(), "a", 1)
				if err != nil {
					return err
				}
				return s.Settle(b.Context(), deliveries[0], event.Settlement{
					Attempt: event.Attempt{Number: deliveries[0].Attempts + 1, Time: time.Now(), Wire: wire}, Result: event.Retry,
				})
			})
		})
	}
}

// concurrently calls do in so many goroutines.
func concurrently(b *testing.B, parallel int, do func() error) {
	b.Helper()
	work := make(chan struct{})
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for range work {
				if err := do(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
}
