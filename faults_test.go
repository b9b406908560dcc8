package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// TestCanNotStart: one clear line that names the setting, and exit code 1.
func TestCanNotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(config string, want ...string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "cmstap.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		code := run(context.Background(), nil, []string{"run", "-c", path}, io.Discard, &stderr)
		text := strings.TrimSpace(stderr.String())
		if code != 1 || strings.Count(text, "\n") > 0 {
			t.Errorf("exit code %d, want 1 and one line:\n%s", code, text)
		}
		for _, word := range want {
			if !strings.Contains(text, word) {
				t.Errorf("want %q in %q", word, text)
			}
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	config := func(listen, folder, admin string) string {
		return fmt.Sprintf("proxy: { listen: %q, upstream: http://127.0.0.1:1 }\noutbox: { path: %q }\nadmin: { listen: %q }\n", listen, folder, admin)
	}
	check(config("127.0.0.1:0", file+"/data", ""), "outbox.path", "can not be written", "not a directory")
	check(config("127.0.0.1:0", "/proc/cmstap", ""), "outbox.path", "can not be written")
	check(config(taken.Addr().String(), data, ""), "proxy.listen", "address already in use")
	check(config("127.0.0.1:0", data, taken.Addr().String()), "admin.listen", "address already in use")
	check(config("127.0.0.1:0", data, "")+"log: { file: "+file+"/log }", "log.file", "not a directory")

	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "data")
	start(t, program, config("127.0.0.1:0", locked, ""))
	check(config("127.0.0.1:0", locked, ""), "outbox.path", "in use by another process")
}

// cms answers on a raw socket, as badly as the test wants.
func cms(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestBadUpstream: a CMS that refuses, answers garbage or hangs gets one line
// with the setting, the client an honest answer, and doubts become events.
func TestBadUpstream(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	check := func(upstream string, status int, outcome string, events int) {
		t.Helper()
		receiver := demo.NewReceiver(demo.ReceiverOptions{})
		hooks := serve(t, receiver)
		p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, answer_timeout: 300ms }
recovery: { ask_after: [50ms, 100ms] }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["*.*"] }]
`, upstream, t.TempDir(), hooks.URL))
		got, body, err := ask("PUT", "http://"+p.proxy+"/spaces/s/entries/x/published?token=query-secret", "", nil)
		if err != nil || got != status || !strings.HasPrefix(body, "cmstap: ") {
			t.Errorf("%s: got %d %q %v, want %d", outcome, got, body, err, status)
		}
		line := p.waitLine(t, "msg=upstream")
		if !strings.Contains(line, "proxy.upstream") || field(line, "outcome") != outcome {
			t.Errorf("got %s", line)
		}
		if events > 0 {
			p.waitLine(t, "msg=unconfirmed")
			p.waitLine(t, "msg=delivered")
		}
		lines, err := p.stop()
		if err != nil {
			t.Errorf("%s: %v", outcome, err)
		}
		if calls := receiver.Calls(); len(calls) != events {
			t.Errorf("%s: %d calls, want %d", outcome, len(calls), events)
		}
		if text := strings.Join(lines, "\n") + line; strings.Contains(text, "secret") || strings.Contains(text, "token-of") {
			t.Errorf("a credential is in the log:\n%s", text)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	check("http://"+free.Addr().String(), 502, "not_sent", 0)
	check(cms(t, func(c net.Conn) { fmt.Fprint(c, "NONSENSE\r\n\r\n"); _ = readHead(c); c.Close() }), 502, "unknown", 1)
	check(cms(t, func(c net.Conn) { _ = readHead(c); c.Close() }), 502, "unknown", 1)
	check(cms(t, func(c net.Conn) {
		_ = readHead(c)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
		c.Close()
	}), 502, "unknown", 1)
	check(cms(t, func(c net.Conn) { _ = readHead(c); _ = readHead(c) }), 504, "unknown", 1)
}

func readHead(c net.Conn) error {
	_, err := c.Read(make([]byte, 64<<10))
	return err
}

// TestHealth: ready means that requests can be proxied.
func TestHealth(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "127.0.0.1:0" }
`, serve(t, http.NotFoundHandler()).URL, t.TempDir()))
	for _, path := range []string{"/livez", "/readyz"} {
		if status, body, err := ask("GET", "http://"+p.admin+path, "", nil); err != nil || status != 200 || body != "ok\n" {
			t.Errorf("%s: %d %q %v", path, status, body, err)
		}
	}
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
}

// TestRestart: deliveries, their due times and attempt counts survive SIGKILL.
func TestRestart(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{Respond: func(c demo.Call) demo.Reply {
		if c.Number < 3 {
			return demo.Reply{Status: 500}
		}
		return demo.Reply{}
	}})
	hooks := serve(t, receiver)
	api := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{}))
	config := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["*.*"], retry: { delays: [1s, 2s, 1h] } }]
`, api.URL, t.TempDir(), hooks.URL)
	p := start(t, program, config)
	if status, body, err := ask("PUT", "http://"+p.proxy+"/spaces/s/content_types/c", `{"name":"c","fields":[]}`, nil); status != 201 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	id := field(p.waitLine(t, "msg=captured"), "event")
	first := p.waitLine(t, "msg=retrying", "attempt=1", id)
	p.kill()
	p = start(t, program, config)
	second := p.waitLine(t, "msg=retrying", "attempt=2", id)
	p.kill()
	p = start(t, program, config)
	p.waitLine(t, "msg=delivered", "attempt=3", id)
	calls := receiver.Calls()
	for i, line := range []string{first, second} {
		next, err := time.Parse(time.RFC3339, field(line, "next"))
		if err != nil {
			t.Fatal(err)
		}
		if early := next.Sub(calls[i+1].Time); early > time.Second { // the log has whole seconds
			t.Errorf("attempt %d came %s before it was due", i+2, early)
		}
		if calls[i].Header.Get("X-Contentful-Idempotency-Key") != id {
			t.Errorf("attempt %d has another id", i+1)
		}
	}
	if len(calls) != 3 || calls[2].Header.Get("X-Contentful-Webhook-Request-Attempt") != "3" {
		t.Errorf("%d calls", len(calls))
	}
}

// TestMemory: idle, and with a gibibyte each way. CMSTAP_MEMORY_MIB makes it
// smaller or larger.
func TestMemory(t *testing.T) {
	size := int64(number("CMSTAP_MEMORY_MIB", 1024)) << 20
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	api := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.CopyN(w, zeros{}, size)
			return
		}
		fmt.Fprintf(w, "%d %v", n, err)
	}))
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
`, api.URL, t.TempDir()))
	idle := p.rss(t, "VmRSS")
	for _, path := range []string{"/upload", "/spaces/s/entries/x"} { // one that passes, one that is a write
		request, err := http.NewRequest("PUT", "http://"+p.proxy+path, io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = size
		if got := exchangeBody(t, request, 1<<20); got != fmt.Sprintf("%d <nil>", size) {
			t.Errorf("the CMS got %s", got)
		}
	}
	request, err := http.NewRequest("GET", "http://"+p.proxy+"/download", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); n != size || err != nil {
		t.Errorf("the client got %d bytes, %v", n, err)
	}
	peak := p.rss(t, "VmHWM")
	t.Logf("idle %.1f MB; peak %.1f MB with %d MiB each way", float64(idle)/1e6, float64(peak)/1e6, size>>20)
	if idle > 40e6 || peak > 64e6 {
		t.Errorf("idle %d, peak %d bytes; want at most 40 and 64 MB", idle, peak)
	}
}

func exchangeBody(t *testing.T, request *http.Request, limit int64) string {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, limit))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
