package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the sh blocks of the README in one shell, in a copy of the
// tree. The one that runs the tests is left out: it would run this one.
func TestReadme(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	need(t, "curl")
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "clone")
	if err := os.CopyFS(folder, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	var script []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if block[1] != "go test ./...\n" {
			script = append(script, block[1])
		}
	}
	if len(script) < 5 {
		t.Fatalf("only %d blocks were found", len(script))
	}
	shell := exec.Command("bash", "-euo", "pipefail", "-c", withFreePorts(t, strings.Join(script, "\n")))
	shell.Dir = folder
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"All 10 expected deliveries arrived", "\nok\n", "\n1\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// withFreePorts replaces the ports of the README by free ones; the admin
// listener, whose port is a default, gets it by a line in the config.
func withFreePorts(t *testing.T, script string) string {
	t.Helper()
	free := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		return listener.Addr().String()
	}
	admin := free()
	script = strings.ReplaceAll(script, "127.0.0.1:8080", free())
	script = strings.ReplaceAll(script, "127.0.0.1:8081", admin)
	return strings.ReplaceAll(script, "log: { file: cmstap.log }", "log: { file: cmstap.log }\nadmin: { listen: \""+admin+"\" }")
}
