package outbox

import (
	"fmt"
	"testing"
	"time"

	"cmstap/event"
)

// TestStoryOfManyCalls: how far a delivery is does not depend on how many calls are
// shown.
func TestStoryOfManyCalls(t *testing.T) {
	t.Parallel()
	var hooks []string
	for n := range 12 {
		hooks = append(hooks, fmt.Sprintf("w%02d", n))
	}
	s := newStore(t, testConfig(t), hooks...)
	s.commit("i", change("e", 1, "{}"))
	for _, hook := range hooks {
		for range 99 {
			s.settle(s.next(hook, 1)[0], event.Retry, s.clock.now())
		}
		s.settle(s.next(hook, 1)[0], event.Delivered, time.Time{})
	}
	story, _, err := s.Story(change("e", 1, "").ID)
	s.must(err)
	if len(story.Calls) != maxCalls || len(story.Deliveries) != len(hooks) {
		t.Errorf("%d calls, %d deliveries", len(story.Calls), len(story.Deliveries))
	}
	for _, p := range story.Deliveries {
		if p.State != "delivered" || p.Attempts != 100 {
			t.Errorf("%s: %s after %d attempts", p.Webhook, p.State, p.Attempts)
		}
	}
}
