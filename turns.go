package main

import (
	"context"
	"slices"
	"sync"
)

// turns lets one write of an entity at a time go from recall to commit, so that
// none misses what another one is about to store.
type turns struct {
	mu    sync.Mutex
	taken map[string]*turn
}

// turn is held by one, and waited for by others.
type turn struct {
	held   chan struct{} // holds one while it is taken
	wanted int           // by how many; under the mutex of turns
}

// take waits for the turns of entities, until ctx ends. End gives them back.
func (t *turns) take(ctx context.Context, keys []string) (end func(), err error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys))) // in one order, so that no two wait for each other
	for i, key := range keys {
		select {
		case t.want(key).held <- struct{}{}:
		case <-ctx.Done():
			t.leave(key, false)
			t.giveBack(keys[:i])
			return nil, context.Cause(ctx)
		}
	}
	return func() { t.giveBack(keys) }, nil
}

func (t *turns) giveBack(keys []string) {
	for _, key := range keys {
		t.leave(key, true)
	}
}

func (t *turns) want(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.taken[key]
	if one == nil {
		if t.taken == nil {
			t.taken = map[string]*turn{}
		}
		one = &turn{held: make(chan struct{}, 1)}
		t.taken[key] = one
	}
	one.wanted++
	return one
}

// leave gives up a turn that is held, or was only waited for.
func (t *turns) leave(key string, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.taken[key]
	if held {
		<-one.held
	}
	if one.wanted--; one.wanted == 0 {
		delete(t.taken, key)
	}
}
