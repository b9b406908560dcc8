package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// TestLogToPipe: a pipe that nobody reads would hold up the start.
func TestLogToPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(LogConfig{File: pipe}, nil); err == nil || err.Error() != "log.file: "+pipe+" is not a regular file" {
		t.Error(err)
	}
}

// TestLogFile: a file that was moved away is opened again on SIGHUP, and no
// line is lost.
func TestLogFile(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	api, file := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{})), filepath.Join(t.TempDir(), "cmstap.log")
	listener := strings.TrimPrefix(serveNothing(t), "http://")
	config := filepath.Join(t.TempDir(), "cmstap.yaml")
	text := fmt.Sprintf("proxy: { listen: %q, upstream: %q }\noutbox: { path: %q }\nadmin: { listen: \"\" }\nlog: { file: %q, format: json }\n", listener, api.URL, t.TempDir(), file)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startQuiet(t, program, config)
	waitFile(t, file, `"msg":"started"`)
	moved := file + ".1"
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFile(t, file, "")
	if status, _, err := ask("PUT", "http://"+listener+"/spaces/s/content_types/c", `{"name":"c","fields":[]}`, nil); status != 201 {
		t.Fatalf("%d %v", status, err)
	}
	waitFile(t, file, `"msg":"captured","event":`)
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
	waitFile(t, file, `"msg":"stopped"`)
}

// serveNothing returns the address of a port that was free a moment ago.
func serveNothing(t *testing.T) string {
	t.Helper()
	server := serve(t, nil)
	server.Close()
	return server.URL
}

// startQuiet starts a cmstap that does not log to standard error.
func startQuiet(t *testing.T, program, config string) *process {
	t.Helper()
	p, err := begin(program, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// waitFile waits until a file is there and holds the text.
func waitFile(t *testing.T, file, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		content, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(content), text) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %q in %s: %s", text, file, content)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestLogIsDocumented: docs/log.md names every message that the code logs.
func TestLogIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	message := regexp.MustCompile(`(?:log|logger)\.(?:Debug|Info|Warn|Error)\("(\w+)"`)
	found := 0
	err = filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range message.FindAllStringSubmatch(string(text), -1) {
			found++
			if !strings.Contains(string(page), "`"+match[1]+"`") {
				t.Errorf("docs/log.md does not name %s, which %s logs", match[1], path)
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d messages were found, %v", found, err)
	}
}
