package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDeployCommands: what the unit, the image and the compose file start is a
// command line that check accepts, with the config beside them.
func TestDeployCommands(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	unit := regexp.MustCompile(`(?m)^ExecStart=\S+/cmstap (.+)$`).FindStringSubmatch(deployFile(t, "cmstap.service"))
	if unit == nil {
		t.Fatal("the unit has no ExecStart")
	}
	image := regexp.MustCompile(`(?m)^CMD (\[.+\])$`).FindStringSubmatch(deployFile(t, "Dockerfile"))
	if image == nil {
		t.Fatal("the image has no CMD")
	}
	var args []string
	if err := json.Unmarshal([]byte(image[1]), &args); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"unit": strings.Fields(unit[1]), "image": args} {
		if args[0] != "run" {
			t.Fatalf("%s: %q", name, args)
		}
		for i, arg := range args {
			switch arg {
			case "run":
				args[i] = "check"
			case "/etc/cmstap/cmstap.yaml":
				args[i] = filepath.Join("deploy", "cmstap.yaml")
			case "/data/outbox", "/var/lib/cmstap":
				args[i] = t.TempDir()
			}
		}
		command := exec.Command(program, args...)
		command.Env = append(os.Environ(), "CMS_TOKEN=example", "HOOK_SECRET=whsec_ZXhhbXBsZS1leGFtcGxlLWV4YW1wbGUt")
		if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "run would accept it") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestDeployUnit: systemd finds nothing wrong with the unit.
func TestDeployUnit(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "cmstap.service")
	text := strings.ReplaceAll(deployFile(t, "cmstap.service"), "/usr/local/bin/cmstap", program)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDeployDocs runs the commands of docs/deploy.md under a root of their own:
// install, check, backup.
func TestDeployDocs(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	text, err := os.ReadFile("docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, folder := range []string{"usr/local/bin", "etc/systemd/system", "var/lib", "backup", "stubs"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, does := range map[string]string{
		"useradd": "", "journalctl": "", "runuser": `shift 3; exec "$@"`,
		"systemctl": "if [ $1 = enable ]; then echo x > " + root + "/var/lib/cmstap/file; fi",
	} {
		if err := os.WriteFile(filepath.Join(root, "stubs", name), []byte("#!/bin/sh\n"+does+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var script string
	for _, section := range strings.Split(string(text), "\n## ") {
		if title, _, _ := strings.Cut(section, "\n"); title == "systemd" || title == "Backup" {
			for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
				script += block[1]
			}
		}
	}
	script = strings.NewReplacer(" /dev/stdin", " /dev/stdin", " /", " "+root+"/", "-o cmstap", "-o $(id -un)",
		"whsec_...", "whsec_ZXhhbXBsZS1leGFtcGxlLWV4YW1wbGUt").Replace(script)
	shell := exec.Command("bash", "-euo", "pipefail", "-c", script)
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(root, "stubs")+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "run would accept it") {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	if saved, _ := filepath.Glob(filepath.Join(root, "backup", "cmstap-*", "file")); len(saved) != 1 {
		t.Errorf("the backup has %v", saved)
	}
}

func deployFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBackup: a copy of a stopped folder goes on elsewhere, and the log says
// when nothing waits any more.
func TestBackup(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cms := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"sys":{"id":"c","type":"ContentType","version":1}}`))
	}))
	delivered := make(chan string, 10)
	up := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { delivered <- r.Header.Get("X-Cmstap-Event") }))
	config := func(folder, receiver string) string {
		return "proxy: { listen: '127.0.0.1:0', upstream: '" + cms.URL + "' }\nadmin: { listen: '' }\noutbox: { path: " + folder + " }\n" +
			"webhooks: [{ name: a, url: '" + receiver + "', topics: ['*.*'], retry: { delays: [100ms, 100ms, 100ms, 1s, 1s, 1s, 1s, 1s] } }]\n"
	}
	original, copied := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "data")

	p := start(t, program, config(original, serveNothing(t)))
	if status, _, err := ask("PUT", "http://"+p.proxy+"/spaces/s/content_types/c", `{}`, nil); status != http.StatusCreated {
		t.Fatal(status, err)
	}
	p.stopped(t, "msg=waiting deliveries=1 writes=0")
	if err := os.CopyFS(copied, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	p = start(t, program, config(copied, up.URL))
	if id := <-delivered; len(id) != 64 {
		t.Errorf("event id %q", id)
	}
	p.waitLine(t, "msg=delivered")
	p.stopped(t, "msg=waiting deliveries=0 writes=0")
}

// stopped stops cmstap, which must log a line.
func (p *process) stopped(t *testing.T, line string) {
	t.Helper()
	lines, err := p.stop()
	if text := strings.Join(lines, "\n"); err != nil || !strings.Contains(text, line) {
		t.Errorf("%v: no %q in\n%s", err, line, text)
	}
}
