package outbox

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"cmstap/event"
)

// fillCalls stores n calls of ten webhooks, a thousandth of them failed, of an
// event each tenth has.
func fillCalls(s *store, n int) {
	s.t.Helper()
	names := make([]*queue, 0, len(s.hooks))
	for _, name := range s.hooks {
		names = append(names, s.Outbox.hooks()[name])
	}
	for from := 0; from < n; from += 1000 {
		s.must(s.submit(s.t.Context(), func(b *batch) {
			for i := from; i < from+1000; i++ {
				e := change(fmt.Sprint("entity", i/10%1000), i/10, "")
				e.Seq = uint64(i/10 + 1)
				result := event.Delivered
				if i%1000 == 0 {
					result = event.GiveUp
				}
				settled := event.Settlement{Result: result, Attempt: event.Attempt{Number: 1, Time: start.Add(time.Duration(i) * time.Millisecond), Status: 200}}
				b.logCall(attemptKey(names[i%len(names)].id, settled.Attempt.Time, e.Seq, 1), &e, settled, 0)
			}
		}))
	}
}

// BenchmarkCalls is the first page of filters that find much, little and nothing,
// of ten thousand calls and of a million.
func BenchmarkCalls(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		s := newStore(b, testConfig(b), "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
		fillCalls(s, size)
		middle := hex.EncodeToString(be.AppendUint64(nil, milli(start.Add(time.Duration(size/2)*time.Millisecond)))) + "ffffffffffffffffffffffffffffffff"
		for name, query := range map[string]event.Query{
			"all":     {},
			"webhook": {Webhook: "c"},
			"failed":  {Result: "failed"},
			"entity":  {Entity: "entity7"},
			"nothing": {Text: "nowhere"},
			"since":   {Since: start.Add(time.Duration(size) * time.Millisecond), Text: "nowhere"},
			"until":   {Until: start.Add(time.Duration(size/2) * time.Millisecond)},
			"cursor":  {Cursor: middle},
		} {
			query.Limit = 50
			b.Run(fmt.Sprint(name, "/", size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Calls(query); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
