package outbox

import (
	"fmt"
	"sync"
	"testing"
)

// However many configs come at a time, no two webhooks ever have the same number, and
// those of the last one are in force.
func TestReplaceNumbersOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if err := s.Replace(map[string]Queue{"a": {}, fmt.Sprint("b", i): {}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.must(s.Replace(map[string]Queue{"a": {}, "last": {Order: "none"}}))
	check := func() {
		t.Helper()
		numbers := map[uint32]string{}
		for name, q := range s.Outbox.hooks() {
			if other, taken := numbers[q.id]; taken {
				t.Errorf("%s and %s have the number %d", name, other, q.id)
			}
			numbers[q.id] = name
			if given := name == "a" || name == "last"; given != q.given.Load() {
				t.Errorf("%s is given: %v", name, q.given.Load())
			}
		}
		if len(numbers) != 32 || !s.Outbox.hooks()["last"].unordered() {
			t.Errorf("%d webhooks, the last of order %q", len(numbers), s.Outbox.hooks()["last"].Order)
		}
	}
	check()
	if names := s.Unlike(map[string]Queue{"a": {Order: "entity", Superseded: "deliver"}, "last": {}, "new": {Order: "none"}}); fmt.Sprint(names) != "[last]" {
		t.Error(names)
	}
}
