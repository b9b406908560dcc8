package outbox

import (
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
