package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/outbox"
)

func TestDrop(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	data := filepath.Join(folder, "data")
	drop := func(code int, want string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		got := run(context.Background(), nil, append([]string{"drop", "-c", filepath.Join(folder, "c.yaml"), "--data", data}, args...), &out, &out)
		if text := out.String(); got != code || !strings.Contains(text, want) {
			t.Errorf("%v: exit code %d, %s", args, got, text)
		}
	}
	config := "proxy: { upstream: https://cms.example }\noutbox: { sync: false }\nwebhooks: [{ name: kept, url: https://x.example, topics: '*.*' }]\n"
	if err := os.WriteFile(filepath.Join(folder, "c.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	drop(1, "there is no folder "+data, "old")
	open := func(names ...string) *outbox.Outbox {
		t.Helper()
		c := outbox.DefaultConfig()
		c.Path, c.Sync = data, false
		o, err := outbox.Open(c, names, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	closed := func(o *outbox.Outbox, deliveries int) {
		t.Helper()
		if got, _, err := o.Waiting(); got != deliveries || err != nil {
			t.Errorf("%d wait, want %d: %v", got, deliveries, err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	o := open("kept", "old")
	var captured []event.Captured
	for n := range 250 {
		e := event.Event{Type: "Entry", Action: "save", Entity: event.Entity{ID: fmt.Sprint(n % 7)}, Confirmed: true, Payload: []byte("{}")}
		e.ID = event.NewID("i", e.Topic(), e.Key(), n)
		captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "kept"}, {Webhook: "old"}}})
	}
	if err := o.Commit(t.Context(), "i", captured, nil, nil); err != nil {
		t.Fatal(err)
	}
	drop(1, "is in use: stop cmstap first", "old")
	closed(o, 500)
	drop(1, `the config still has the webhook "kept"`, "kept")
	drop(1, "the outbox knows no webhook never", "never")
	drop(0, "dropped 250 deliveries of old\n", "old")
	drop(0, "dropped 0 deliveries of old\n", "old")
	o = open("kept", "old")
	next, err := o.Next(t.Context(), "kept", 10)
	if err != nil || len(next) != 7 {
		t.Errorf("%d of the other webhook's are due: %v", len(next), err)
	}
	closed(o, 250)
}

// TestDropLeavesTheOthers: what waits for a webhook with a batch stays as it is, and
// is due when it was.
func TestDropLeavesTheOthers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	config, data := filepath.Join(folder, "c.yaml"), filepath.Join(folder, "data")
	text := "proxy: { upstream: https://cms.example }\noutbox: { sync: false }\n" +
		"webhooks: [{ name: kept, url: https://x.example, topics: '*.*', batch: { max_wait: 1h } }]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := outbox.DefaultConfig()
	c.Path, c.Sync = data, false
	c.Queues = map[string]outbox.Queue{"kept": {Batch: &outbox.Batch{MaxEvents: 1, By: "webhook"}}}
	open := func() *outbox.Outbox {
		t.Helper()
		o, err := outbox.Open(c, []string{"kept", "old"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := open()
	e := event.Event{ID: event.NewID("i", "Entry.save", "e", 0), Type: "Entry", Action: "save", Confirmed: true, Payload: []byte("{}")}
	must(o.Commit(t.Context(), "i", []event.Captured{{Event: e, Want: []event.Want{{Webhook: "kept"}, {Webhook: "old"}}}}, nil, nil))
	next, err := o.Next(t.Context(), "kept", 1)
	must(err)
	again := event.Settlement{Attempt: event.Attempt{Number: 1, Time: time.Now()}, Result: event.Retry, Wait: 10 * time.Hour}
	must(o.SettleAll(t.Context(), next, again))
	must(o.Close())
	var out bytes.Buffer
	if code := run(t.Context(), nil, []string{"drop", "-c", config, "--data", data, "old"}, &out, &out); code != 0 || out.String() != "dropped 1 deliveries of old\n" {
		t.Fatalf("%d: %s", code, &out)
	}
	o = open()
	defer func() { must(o.Close()) }()
	list, err := o.Backlogs()
	must(err)
	for _, b := range list {
		if b.Webhook == "kept" && time.Until(b.NextRetry) < 9*time.Hour {
			t.Errorf("%d wait, until %v", b.Waiting, b.NextRetry)
		}
	}
}
