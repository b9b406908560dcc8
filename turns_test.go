package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestTurns: two never have the turn of one entity, nobody waits for ever, and
// nothing is left behind.
func TestTurns(t *testing.T) {
	t.Parallel()
	var all turns
	var mu sync.Mutex
	holds := map[string]bool{}
	mark := func(keys map[string]bool, held bool) {
		mu.Lock()
		defer mu.Unlock()
		for key := range keys {
			if holds[key] == held {
				t.Errorf("%s is held twice", key)
			}
			holds[key] = held
		}
	}
	var running sync.WaitGroup
	for worker := range 8 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 2000 {
				keys, list := map[string]bool{}, []string{}
				for range random.IntN(4) {
					key := fmt.Sprint(random.IntN(5))
					keys[key] = true
					list = append(list, key) // some twice
				}
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(3) == 0 {
					cancel()
				}
				if end, err := all.take(ctx, list); err == nil {
					mark(keys, true)
					mark(keys, false)
					end()
				}
				cancel()
			}
		})
	}
	running.Wait()
	if len(all.taken) != 0 {
		t.Errorf("%d are left", len(all.taken))
	}
}
