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
