package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmstap/internal/testlog"
)

// reloading is a cmstap whose config a test changes while it runs.
type reloading struct {
	*process
	t      *testing.T
	file   string
	values []any // of what every version of the config begins with
	hooks  chan string
}

const reloadToken = "a-token-of-a-test"

// newReloading starts it with a receiver that notes its calls and fails at /broken.
func newReloading(t *testing.T, webhooks string) *reloading {
	t.Helper()
	hooks := make(chan string, 100)
	r := startReloading(t, webhooks, func(w http.ResponseWriter, h *http.Request) {
		hooks <- h.URL.Path + " " + h.Header.Get("Traceparent")
		if h.URL.Path == "/broken" {
			w.WriteHeader(500)
		}
	})
	r.hooks = hooks
	return r
}

func startReloading(t *testing.T, webhooks string, hooks http.HandlerFunc) *reloading {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"sys":{"type":"Entry","id":%q,"version":1},"fields":{}}`, strings.Split(r.URL.Path, "/")[6])
	}))
	r := &reloading{t: t, file: filepath.Join(t.TempDir(), "cmstap.yaml")}
	receiver := serve(t, hooks)
	r.values = []any{cms.URL, t.TempDir(), reloadToken, receiver.URL}
	r.write("", webhooks)
	if r.process, err = launch(program, r.file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

// write writes a config; RECEIVER stands for the receiver's address.
func (r *reloading) write(more, webhooks string) {
	r.t.Helper()
	text := fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "127.0.0.1:0", token: { value: %q } }
x-receiver: %q
`, r.values...) + more + "\nwebhooks:\n" + strings.ReplaceAll(webhooks, "RECEIVER", r.values[3].(string))
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloading) save(headers map[string]string) {
	r.t.Helper()
	if status, body, err := ask("PUT", "http://"+r.proxy+"/spaces/s/environments/master/entries/hello", "{}", headers); err != nil || status != 200 {
		r.t.Fatalf("%d %s %v", status, body, err)
	}
}

func (r *reloading) called(want string) {
	r.t.Helper()
	if got := <-r.hooks; !strings.HasPrefix(got, want) {
		r.t.Errorf("called %q, want %q", got, want)
	}
}

func (r *reloading) admin(method, path, body string) (status int, answer string) {
	r.t.Helper()
	status, answer, err := ask(method, "http://"+r.process.admin+path, body, map[string]string{"Authorization": "Bearer " + reloadToken})
	if err != nil {
		r.t.Fatal(err)
	}
	return status, answer
}

// A failing webhook is mended by a reload: what waits goes where the new settings
// say, and so does what comes.
func TestReload(t *testing.T) {
	t.Parallel()
	const broken = `- { name: a, url: "RECEIVER/broken", topics: "*.*", retry: { delays: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s] } }`
	r := newReloading(t, broken)
	r.save(map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	r.called("/broken 00-4bf92f3577b34da6a3ce929d0e0e4736-")
	r.waitLine(t, "msg=retrying", "webhook=a")

	r.write("log: { level: debug }", strings.ReplaceAll(broken, "broken", "mended")+"\n"+`- { name: b, url: "RECEIVER/b", topics: "*.*", order: none }`)
	status, answer := r.admin("POST", "/api/reload", "")
	if want := `{"webhooks":2,"changed":["log.level","webhooks[0].url",`; status != 200 || !strings.HasPrefix(answer, want) {
		t.Errorf("%d %s", status, answer)
	}
	for path := ""; !strings.HasPrefix(path, "/mended"); { // one more of the old may have been on its way
		path = <-r.hooks
	}
	r.waitLine(t, "msg=delivered", "webhook=a")
	r.save(nil)
	r.waitLine(t, "msg=delivered", "webhook=b")
	if _, level := r.admin("GET", "/api/log-level", ""); level != `{"level":"debug"}`+"\n" {
		t.Error(level)
	}
	if _, text := r.admin("GET", "/api/settings", ""); strings.Contains(text, reloadToken) || strings.Contains(text, "/mended") || !strings.Contains(text, `{"setting":"webhooks[1].order","value":"none"}`) {
		t.Error(text)
	}
	if status, text := r.admin("PUT", "/api/log-level", `{"level":"loud"}`); status != 400 || !strings.Contains(text, "debug") {
		t.Errorf("%d %s", status, text)
	}

	// A webhook that goes leaves what waits for it behind, and finds it again.
	r.write("log: { level: debug }", `- { name: c, url: "RECEIVER/c", topics: "*.*" }`)
	if err := r.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.waitLine(t, "msg=reloaded", "webhooks=1")
	r.save(nil)
	r.waitLine(t, "msg=delivered", "webhook=c")
}

// A config with a mistake, and one that asks for what only a restart can do, change
// nothing, and it is said.
func TestReloadIsRefused(t *testing.T) {
	t.Parallel()
	const hook = `- { name: a, url: "RECEIVER/a", topics: "*.*" }`
	r := newReloading(t, hook)
	for _, c := range []struct{ more, webhooks, want string }{
		{"", `- { name: a, url: "RECEIVER/other", topics: "*.*", timeout: 1x }`, "webhooks[0].timeout: want a time span"},
		{"", `- { name: a, url: "RECEIVER/other", topics: "*.*", headers: { X: { env: CMSTAP_NOT_SET } } }`, "CMSTAP_NOT_SET is not set"},
		{"log: { format: json }\nrecovery: { ask_after: [1s] }", `- { name: a, url: "RECEIVER/other", topics: "*.*" }`, "log.format, recovery.ask_after"},
		{"", `- { name: a, url: "RECEIVER/other", topics: "*.*", order: none }`, "of the webhook a can be changed by a restart only"},
		{"", `- { name: a, url: "RECEIVER/other", topics: "*.*", batch: { max_events: 5 } }`, "of the webhook a can be changed by a restart only"},
	} {
		r.write(c.more, c.webhooks)
		if status, answer := r.admin("POST", "/api/reload", ""); status != 422 || !strings.Contains(answer, c.want) {
			t.Errorf("%s: %d %s", c.webhooks, status, answer)
		}
		if line := r.waitLine(t, "level=ERROR", "msg=reload"); !strings.Contains(line, "nothing was changed") {
			t.Error(line)
		}
		r.save(nil)
		r.called("/a ")
		if _, text := r.admin("GET", "/metrics", ""); !strings.Contains(text, "\ncmstap_config_in_force 0\n") {
			t.Error("the gauge does not tell of it")
		}
	}
	r.write("", hook)
	if status, answer := r.admin("POST", "/api/reload", ""); status != 200 || answer != `{"webhooks":1,"changed":[]}`+"\n" {
		t.Errorf("%d %s", status, answer)
	}
	if _, text := r.admin("GET", "/metrics", ""); !strings.Contains(text, "\ncmstap_config_in_force 1\n") || !strings.Contains(text, `cmstap_reloads_total{result="refused"} 5`) {
		t.Error(text)
	}
}

// What has waited for a while is said, and only that.
func TestBacklogIsSaid(t *testing.T) {
	t.Parallel()
	r := newReloading(t, `
- { name: a, url: "RECEIVER/broken", topics: "*.*", retry: { delays: [1h] } }
- { name: b, url: "RECEIVER/b", topics: "*.*" }`)
	config, err := loadConfig(r.file, &runCommand{})
	if err != nil {
		t.Fatal(err)
	}
	r.save(nil)
	r.waitLine(t, "msg=retrying", "webhook=a")
	r.waitLine(t, "msg=delivered", "webhook=b")
	if _, err := r.stop(); err != nil {
		t.Fatal(err)
	}
	log := &appLog{}
	lines := &testlog.Log{}
	log.logger = lines.Logger()
	a, err := newApp(config, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.proxy.Shutdown(t.Context()); _ = a.admin.Close(); _ = a.outbox.Close() }()
	now := time.Now()
	a.sayBacklog(now)
	if text := lines.String(); strings.Contains(text, "msg=backlog") {
		t.Error(text)
	}
	a.sayBacklog(now.Add(2 * tooLong))
	if text := lines.String(); !strings.Contains(text, "level=WARN msg=backlog webhook=a waiting=1 oldest=1m") || strings.Count(text, "msg=backlog") != 1 {
		t.Error(text)
	}
}

func TestReloadCommand(t *testing.T) {
	t.Parallel()
	r := newReloading(t, `- { name: a, url: "RECEIVER/a", topics: "*.*" }`)
	o := newOperator(t, r.process.admin, reloadToken)
	r.write("", `- { name: a, url: "RECEIVER/b", topics: "*.*" }`)
	if code, out, stderr := o.run("reload"); code != 0 || out != "webhooks in force: 1\nchanged: webhooks[0].url\n" {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	if code, out, stderr := o.run("reload", "--json"); code != 0 || out != "{\n  \"webhooks\": 1,\n  \"changed\": []\n}\n" {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	r.write("lookup: never", `- { name: a, url: "RECEIVER/b", topics: "*.*" }`)
	if code, _, stderr := o.run("reload"); code != 1 || !strings.Contains(stderr, "answered 422") || !strings.Contains(stderr, "lookup: must be needed or off") {
		t.Errorf("%d %s", code, stderr)
	}
}

// A signal opens the log file again, also if the reload is refused.
func TestSignalOpensTheLogAgain(t *testing.T) {
	t.Parallel()
	const hook = `- { name: a, url: "RECEIVER/a", topics: "*.*" }`
	r := newReloading(t, hook)
	file := filepath.Join(t.TempDir(), "cmstap.log")
	r.write("log: { file: "+file+" }", hook)
	config, err := loadConfig(r.file, &runCommand{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.stop(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	hangup, ended := make(chan os.Signal), make(chan error, 1)
	go func() { ended <- (&runCommand{Config: r.file}).run(ctx, hangup, io.Discard) }()
	waitFile(t, config.Log.File, "msg=started")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.write("log: { file: "+file+" }\nlookup: never", hook)
	hangup <- syscall.SIGHUP
	waitFile(t, file, "msg=reload error=")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
