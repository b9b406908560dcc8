package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"
)

var update = flag.Bool("update", false, "write testdata/sdk/golden from what is delivered")

// operation is one thing that the story did with Contentful's client, and what
// came of it.
type operation struct {
	Op         string
	Result     json.RawMessage // what the client returned
	deliveries []demo.Call
}

// TestSDK drives cmstap with Contentful's own client, unmodified, and looks at
// everything that is delivered.
func TestSDK(t *testing.T) {
	t.Parallel()
	need(t, "node")
	needClient(t, "testdata/sdk", "contentful-management")
	told := tellStory(t)
	t.Run("topics", func(t *testing.T) { checkTopics(t, told) })
	t.Run("golden", func(t *testing.T) { checkGolden(t, told) })
	t.Run("samples", func(t *testing.T) { checkSamples(t, told) })
}

// needClient skips a test that needs a CMS's client where it is not installed; in
// CI that is a failure.
func needClient(t *testing.T, folder, client string) {
	t.Helper()
	hint := client + " is not installed: run npm ci in " + folder
	if _, err := os.Stat(folder + "/node_modules/" + client); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(hint)
	}
	t.Skip(hint)
}

// tellStory runs the story through cmstap and returns its operations with
// their deliveries.
func tellStory(t *testing.T) []operation {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	hooks := serve(t, receiver)
	api := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{Now: steadyClock(), NewID: counter()}))
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: my hook, url: %q, topics: ["*.*"], filter: 'space == "sp1"' }]
`, api.URL, t.TempDir(), hooks.URL))
	told := runStory(t, "testdata/sdk", p.proxy)
	events := eventsOf(t, p, len(told))
	calls := callsOf(t, receiver, "/", events)
	for i := range told {
		for _, id := range events[i] {
			told[i].deliveries = append(told[i].deliveries, calls[id])
		}
	}
	return told
}

// runStory returns what the story of a folder prints.
func runStory(t *testing.T, folder, proxy string) []operation {
	t.Helper()
	story := exec.CommandContext(t.Context(), "node", "story.mjs", proxy)
	story.Dir = folder
	story.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	var complaint strings.Builder
	story.Stderr = &complaint
	out, err := story.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, complaint.String())
	}
	var told []operation
	for line := range strings.Lines(string(out)) {
		var o operation
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		told = append(told, o)
	}
	return told
}

// eventsOf reads from the log which events each operation made: those between
// the marks that the story left. A line is written before the client gets its
// answer, so none is in the wrong place.
func eventsOf(t *testing.T, p *process, operations int) [][]string {
	t.Helper()
	events := make([][]string, operations)
	for i := range events {
		for {
			line := p.waitLine(t, "msg=captured")
			if field(line, "entity") == "mark-"+strconv.Itoa(i) {
				break
			}
			events[i] = append(events[i], field(line, "event"))
		}
	}
	return events
}

// callsOf waits for the deliveries of the events to a webhook, and returns them
// by id.
func callsOf(t *testing.T, receiver *demo.Receiver, at string, events [][]string) map[string]demo.Call {
	t.Helper()
	byID := map[string]demo.Call{}
	total := 0
	for _, ids := range events {
		total += len(ids)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(demo.On(calls, at)) >= total }); err != nil {
		t.Fatal(err)
	}
	for _, call := range demo.On(receiver.Calls(), at) {
		byID[call.Header.Get("X-Cmstap-Event")] = call
	}
	for _, ids := range events {
		for _, id := range ids {
			if _, found := byID[id]; !found {
				t.Fatalf("the event %s was not delivered", id)
			}
		}
	}
	if len(byID) != total {
		t.Fatalf("%d events were captured and %d delivered", total, len(byID))
	}
	return byID
}

// steadyClock is one second further each time it is read, so that the times of
// the content API are the same in every run.
func steadyClock() func() time.Time {
	var seconds atomic.Int64
	return func() time.Time {
		return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(seconds.Add(1)) * time.Second)
	}
}

// counter makes ids: new-1, new-2.
func counter() func() string {
	var made atomic.Int64
	return func() string { return "new-" + strconv.FormatInt(made.Add(1), 10) }
}
