package main

import (
	"net"
	"net/http"
	"testing"
	"time"
)

// TestFewFiles: whoever opens many connections to the admin port, or to the proxy's,
// ends nothing; the CMS's clients are served as soon as there are files.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	need(t, "prlimit")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	api := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	p := start(t, program, `
proxy: { listen: "127.0.0.1:0", upstream: "`+api.URL+`" }
outbox: { path: `+t.TempDir()+` }
admin: { listen: "127.0.0.1:0" }
`, "prlimit", "--nofile=400:400")
	passes := func(what string) {
		t.Helper()
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + p.proxy + "/x")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_ = answer.Body.Close()
	}
	flood := func(address string, n int) (end func()) {
		var open []net.Conn
		for range n {
			if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
				open = append(open, c)
			}
		}
		return func() {
			for _, c := range open {
				_ = c.Close()
			}
		}
	}
	defer flood(p.admin, 450)()
	passes("with the admin port flooded")
	end := flood(p.proxy, 450)
	p.waitLine(t, "msg=busy", "too many open files")
	end()
	passes("after a flood of the proxy's port")
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
}
