package main

import (
	"sync"

	"cmstap/event"
)

// underWay knows which entities have writes that were begun and whose end is
// not stored. While there are any, what the entity shows may be theirs.
type underWay struct {
	mu       sync.Mutex
	entities map[string]map[string]bool // the ids of the intents, by the key of the entity
}

func (u *underWay) enter(intent *event.Intent) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.entities == nil {
		u.entities = map[string]map[string]bool{}
	}
	if u.entities[intent.Entity] == nil {
		u.entities[intent.Entity] = map[string]bool{}
	}
	u.entities[intent.Entity][intent.ID] = true
}

// leave may be called again.
func (u *underWay) leave(intent *event.Intent) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if delete(u.entities[intent.Entity], intent.ID); len(u.entities[intent.Entity]) == 0 {
		delete(u.entities, intent.Entity)
	}
}

// any tells whether a write to the entity of an intent is under way.
func (u *underWay) any(intent *event.Intent) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.entities[intent.Entity]) > 0
}
