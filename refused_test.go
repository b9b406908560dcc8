package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// TestRefusedWrites: writes that the CMS refuses cost nothing that stays: no
// event, no open intent, no disk; reads pass beside them.
// CMSTAP_REFUSED_WRITES=100000 makes it the full run, with 256 connections.
func TestRefusedWrites(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	writes, connections := number("CMSTAP_REFUSED_WRITES", 2000), 256
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q, max_open: %d }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["*.*"] }]
`, serve(t, demo.NewContentAPI(demo.ContentAPIOptions{})).URL, data, connections+1, serve(t, receiver).URL))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections + 1, MaxConnsPerHost: connections + 1}}
	send := func(method, path, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.proxy+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Error(err)
			return 0
		}
		request.Header.Set("Authorization", "Bearer x")
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if status := send("PUT", "/spaces/s/content_types/c", `{"name":"c","fields":[]}`); status != 201 {
		t.Fatal(status)
	}
	p.waitLine(t, "msg=delivered")
	// load sends requests over all connections, and a read beside them, one
	// after the other; it returns how long the median read took.
	load := func(count int, one func(n int)) time.Duration {
		var next, running atomic.Int64
		var all sync.WaitGroup
		for range connections {
			running.Add(1)
			all.Go(func() {
				defer running.Add(-1)
				for n := next.Add(1); n <= int64(count); n = next.Add(1) {
					one(int(n))
				}
			})
		}
		var took []time.Duration
		for running.Load() > 0 {
			begun := time.Now()
			if status := send("GET", "/spaces/s/content_types/c", ""); status != 200 {
				t.Errorf("a read got %d", status)
			}
			took = append(took, time.Since(begun))
		}
		all.Wait()
		slices.Sort(took)
		return took[len(took)/2]
	}
	refuse := func(method, body string, want int) func(int) {
		return func(n int) {
			if status := send(method, "/spaces/s/entries/e"+strconv.Itoa(n), body); status != want {
				t.Errorf("%s got %d, want %d", method, status, want)
			}
		}
	}
	beside := load(writes, refuse("GET", "", 404))
	before := diskUse(t, data)
	median := load(writes, refuse("PUT", `{"fields":{}}`, 422))
	after := diskUse(t, data)
	t.Logf("%d writes refused: the folder went from %d to %d KiB; the median read took %s, %s beside as many refused reads",
		writes, before>>10, after>>10, median, beside)
	flat := int64(4 << 20)
	if writes > 10_000 { // what the store has not tidied up yet
		flat = 16 << 20
	}
	if after-before > flat {
		t.Errorf("the disk is not flat: more than %d KiB", flat>>10)
	}
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
	if calls := receiver.Calls(); len(calls) != 1 {
		t.Errorf("%d calls, want the content type's alone", len(calls))
	}
}

// diskUse is what the files of a folder take on disk, in bytes.
func diskUse(t *testing.T, folder string) (bytes int64) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil { // it may have gone
			bytes += blocks(info)
		}
	}
	return bytes
}

func blocks(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}
