package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNginxFallback: while cmstap is away the request that notices gets 502 and
// those after it reach the CMS; then they go through cmstap again. Nothing
// reaches the CMS twice.
func TestNginxFallback(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	reached := map[string]int{}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		reached[r.URL.Path]++
		if r.Header.Get("X-Forwarded-Host") != "" {
			_, _ = io.WriteString(w, "tapped")
		}
	}))
	config := "proxy: { listen: '%s', upstream: '" + cms.URL + "' }\nadmin: { listen: '' }\noutbox: { path: " + filepath.Join(t.TempDir(), "data") + " }\n"
	p := start(t, program, fmt.Sprintf(config, "127.0.0.1:0"))
	front := runNginx(t, p.proxy, cms.URL)

	sent := 0
	send := func() string {
		t.Helper()
		path := fmt.Sprint("/request", sent)
		sent++
		status, body, err := ask("PUT", front+path, "{}", nil)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if want := map[int]int{200: 1, 502: 0}; reached[path] != want[status] || status != 200 && status != 502 {
			t.Errorf("request %d got %d and reached the CMS %d times", sent, status, reached[path])
		}
		return fmt.Sprint(status, body)
	}
	if got := send(); got != "200tapped" {
		t.Fatal(got)
	}
	p.kill()
	if got := send(); !strings.HasPrefix(got, "502") {
		t.Errorf("the first request without cmstap: %s", got)
	}
	for range 9 {
		if got := send(); got != "200" {
			t.Errorf("a later request without cmstap: %s", got)
		}
	}
	start(t, program, fmt.Sprintf(config, p.proxy))
	begun := time.Now()
	for send() != "200tapped" {
		if time.Since(begun) > time.Minute {
			t.Fatal("nginx does not come back")
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("back after %v", time.Since(begun))
}

// runNginx runs nginx with the config of deploy, and returns where clients go.
func runNginx(t *testing.T, tap, cms string) string {
	t.Helper()
	folder := t.TempDir()
	address := func() string { return strings.TrimPrefix(serveNothing(t), "http://") }
	front, past := address(), address()
	site := strings.NewReplacer("127.0.0.1:8080", tap, "listen 8000", "listen "+front, "127.0.0.1:8079", past, "https://api.contentful.com", cms,
		"/var/log/nginx", folder).Replace(deployFile(t, "nginx-fallback.conf"))
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, folder, kind)
	}
	text := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n%[2]s%[3]s}\n", folder, temp, site)
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	nginx := exec.Command("nginx", "-p", folder, "-c", file)
	nginx.Stderr = &log
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nginx.Process.Kill(); _ = nginx.Wait() })
	for begun := time.Now(); ; <-time.After(10 * time.Millisecond) {
		if _, _, err := ask("GET", "http://"+front+"/", "", nil); err == nil {
			return "http://" + front
		}
		if time.Since(begun) > 20*time.Second {
			_ = nginx.Process.Kill()
			_ = nginx.Wait()
			t.Fatalf("nginx does not answer: %s", log.String())
		}
	}
}
