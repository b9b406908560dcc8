package main

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/internal/testlog"
	"cmstap/outbox"
	"cmstap/rules"
)

// newTap is a tap over a store of its own.
func newTap(t *testing.T, dialect string) (*tap, *testlog.Log) {
	t.Helper()
	d, err := rules.ParseDialect("test.yaml", []byte(dialect))
	if err != nil {
		t.Fatal(err)
	}
	config := outbox.DefaultConfig()
	config.Path = filepath.Join(t.TempDir(), "data")
	lines := &testlog.Log{}
	store, err := outbox.Open(config, nil, lines.Logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	one := &tap{outbox: store, metrics: newMetrics(), log: lines.Logger()}
	one.ruling.Store(&ruling{Rules: rules.New(d, nil)})
	one.resolver = resolve.New(resolve.DefaultConfig(), one, slog.New(slog.DiscardHandler))
	return one, lines
}

// TestRepeatedCommit: to store once more how a write ended, because nobody waited
// to see that it was stored, makes no event that would follow from its own.
func TestRepeatedCommit(t *testing.T) {
	t.Parallel()
	one, lines := newTap(t, fieldDialect)
	for range 2 {
		plan := one.Classify(event.Head{Method: http.MethodPut, Path: "/posts/1", Headers: http.Header{}})
		x := &event.Exchange{Intent: plan.Intent, Time: time.Now()}
		if err := one.Begin(x); err != nil {
			t.Fatal(err)
		}
		x.Outcome, x.Status, x.Answer = event.Done, 200, event.Copy{Bytes: []byte(`{"id":"1","state":"live","version":1}`)}
		x.Before = &event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(`{"id":"1","state":"draft"}`)}}
		one.Finish(x)
		for range 2 {
			if err := one.Settle(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
	}
	text := lines.String()
	if strings.Count(text, "topic=Post.publish") != 1 || strings.Count(text, "topic=Post.update") != 1 {
		t.Error(text)
	}
}
