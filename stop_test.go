package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStopIsShort: a stop takes less than ten seconds and is no failure, also
// if everything hangs: a write in the CMS, a receiver, and a client of the
// admin listener.
func TestStopIsShort(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan bool, 10)
	hang := func(r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else nobody notices that the caller left
		hung <- true
		<-r.Context().Done()
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/hangs") {
			hang(r)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"sys":{"id":"c","type":"ContentType","version":1}}`))
	}))
	receiver := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hang(r) }))
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "127.0.0.1:0" }
webhooks: [{ name: all, url: %q, topics: ["*.*"] }]
`, cms.URL, t.TempDir(), receiver.URL))

	put := func(id string) (int, error) {
		status, _, err := ask("PUT", "http://"+p.proxy+"/spaces/s/content_types/"+id, `{}`, nil)
		return status, err
	}
	if status, err := put("c"); status != http.StatusCreated {
		t.Fatal(status, err)
	}
	answered := make(chan bool)
	go func() { defer close(answered); _, _ = put("hangs") }()
	<-hung
	<-hung
	go func() { // probes that never end their request keep coming
		for range time.Tick(200 * time.Millisecond) {
			probe, err := net.Dial("tcp", p.admin)
			if err != nil {
				return
			}
			t.Cleanup(func() { probe.Close() })
			_, _ = probe.Write([]byte("GET /livez HTTP/1.1\r\n"))
		}
	}()

	begun := time.Now()
	lines, err := p.stop()
	took := time.Since(begun)
	<-answered
	text := strings.Join(lines, "\n")
	t.Logf("the stop took %v", took)
	if err != nil || took > 10*time.Second || !strings.Contains(text, "msg=stopped") {
		t.Errorf("%v after %v\n%s", err, took, text)
	}
	if strings.Contains(text, "msg=upstream") || !strings.Contains(text, "outcome=unknown method=PUT path=/spaces/s/content_types/hangs") {
		t.Error(text)
	}
}
