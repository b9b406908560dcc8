package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cmstap/internal/demo"
)

// TestSyncs watches the system calls of 100 writes, one after the other: a sync
// has ended before the first byte goes to the CMS, and another before the first
// byte of the answer. SIGKILL can not see that: what was written survives it
// without a sync. The same check must fail with syncs switched off.
func TestSyncs(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	const writes = 100
	requests, answers, violations := traceWrites(t, writes, true)
	if requests != writes || answers != writes || len(violations) > 0 {
		t.Errorf("%d requests and %d answers were seen, %d violations: %v", requests, answers, len(violations), violations)
	}
	requests, answers, violations = traceWrites(t, writes, false)
	if requests != writes || answers != writes || len(violations) < 2*writes-2 { // opening the store syncs, too
		t.Errorf("without syncs: %d requests were seen, %d violations; want about %d", requests, len(violations), 2*writes)
	}
}

// traceWrites runs cmstap under strace and makes writes through it.
func traceWrites(t *testing.T, writes int, sync bool) (requests, answers int, violations []string) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	api := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{}))
	trace := filepath.Join(t.TempDir(), "trace")
	config := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q, sync: %v }
admin: { listen: "" }
`, api.URL, filepath.Join(t.TempDir(), "data"), sync)
	p := start(t, program, config, "strace", "-f", "-yy", "-s", "12", "-o", trace,
		"-e", "trace=msync,fsync,fdatasync,write,writev,sendto,sendmsg")
	for i := range writes {
		status, body, err := ask("PUT", fmt.Sprintf("http://%s/spaces/s/content_types/c%d", p.proxy, i), `{"name":"c","fields":[]}`, nil)
		if err != nil || status != 201 {
			t.Fatalf("the CMS answered %d %s %v", status, body, err)
		}
	}
	p.kill()
	return readTrace(t, trace, strings.TrimPrefix(api.URL, "http://"), p.proxy)
}

var (
	syncEnd  = regexp.MustCompile(`(msync|fsync|fdatasync)(\(.*\)| resumed>.*)\s+= 0$`)
	sendCall = regexp.MustCompile(`(?:write|writev|sendto|sendmsg)\(\d+<TCP:\[([^\]]+)->([^\]]+)\]>, .*"(PUT /spaces/|HTTP/1.1 201)`)
)

// readTrace counts the syncs that ended between the requests to the CMS and the
// answers to the client.
func readTrace(t *testing.T, file, cms, listener string) (requests, answers int, violations []string) {
	t.Helper()
	trace, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Close()
	syncs := 0
	expect := func(what string) {
		if syncs == 0 {
			violations = append(violations, fmt.Sprintf("request %d: no sync before %s", requests, what))
		}
		syncs = 0
	}
	for lines := bufio.NewScanner(trace); lines.Scan(); {
		line := lines.Text()
		if syncEnd.MatchString(line) {
			syncs++
		}
		sent := sendCall.FindStringSubmatch(line)
		switch {
		case sent == nil:
		case sent[2] == cms && strings.HasPrefix(sent[3], "PUT"):
			requests++
			expect("the request to the CMS")
		case sent[1] == listener && strings.HasPrefix(sent[3], "HTTP"):
			answers++
			expect("the answer to the client")
		}
	}
	return requests, answers, violations
}
