package outbox

import (
	"fmt"
	"testing"

	"cmstap/event"
)

// TestTailKeepsNoPayloads: what a reader has not read yet takes little memory.
func TestTailKeepsNoPayloads(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	tail, err := s.Tail(event.Query{}, "")
	s.must(err)
	defer tail.Stop()
	e := change("e", 1, `{"x":1}`)
	e.Before = []byte(`{"x":0}`)
	s.commit("i", e)
	if news := <-tail.News; news.Event == nil || news.Event.ID != e.ID || news.Event.Payload != nil || news.Event.Before != nil {
		t.Errorf("%+v", news.Event)
	}
	if d := s.next("a", 1); len(d) != 1 || string(d[0].Event.Payload) != `{"x":1}` {
		t.Errorf("%+v", d)
	}
}

// TestMissedIsSelected: who was away has missed only what was too much of what its
// query selects.
func TestMissedIsSelected(t *testing.T) {
	t.Parallel()
	s := newStore(t, testConfig(t), "a")
	commit := func(entity, kind string, n int) {
		t.Helper()
		var list []event.Event
		for i := range n {
			e := change(fmt.Sprint(entity, i), 1, "{}")
			e.Type = kind
			e.ID = event.NewID(entity, e.Topic(), e.Key(), i)
			list = append(list, e)
		}
		s.must(s.Commit(t.Context(), entity, wanted(list), nil, nil))
	}
	earlier := func() []event.News {
		t.Helper()
		tail, err := s.Tail(event.Query{Topic: "Asset.publish"}, "0-0")
		s.must(err)
		defer tail.Stop()
		return tail.Earlier
	}
	commit("e", "Entry", 100)
	commit("f", "Asset", maxEarlier)
	commit("g", "Entry", 100)
	if got := earlier(); len(got) != maxEarlier || got[0].Missed != 0 {
		t.Errorf("%d came, %d were missed", len(got), got[0].Missed)
	}
	commit("h", "Asset", 10)
	if got := earlier(); len(got) != maxEarlier || got[0].Missed != 10 {
		t.Errorf("%d came, %d were missed", len(got), got[0].Missed)
	}
}
