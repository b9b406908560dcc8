package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

// checkGolden compares every delivery with a file of testdata/sdk/golden.
func checkGolden(t *testing.T, told []operation) {
	t.Helper()
	const folder = "testdata/sdk/golden"
	got := map[string]string{}
	for _, o := range told {
		name := strings.Trim(regexp.MustCompile(`[^A-Za-z0-9.]+`).ReplaceAllString(o.Op, "-"), "-") + ".json"
		for _, call := range o.deliveries {
			got[name] += golden(t, call)
		}
	}
	if *update {
		writeGolden(t, folder, got)
	}
	want := map[string]string{}
	files, _ := filepath.Glob(folder + "/*.json")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(file)] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("if this is meant to be, run: go test -run TestSDK -update .\n%s", diff)
	}
}

func writeGolden(t *testing.T, folder string, texts map[string]string) {
	t.Helper()
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// golden is a delivery as text, with names in place of what is different in
// each run: cmstap's time of the event, its id, and the versions of the
// client's platform.
func golden(t *testing.T, call demo.Call) string {
	t.Helper()
	id, time := call.Header.Get("X-Contentful-Idempotency-Key"), call.Header.Get("X-Contentful-Event-Datetime")
	var body map[string]any
	if err := json.Unmarshal(call.Body, &body); err != nil {
		t.Fatalf("%v in %s", err, call.Body)
	}
	if _, has := body["userAgent"].(string); has {
		body["userAgent"] = "USER-AGENT"
	}
	header := call.Header.Clone()
	header.Set("Content-Length", "LENGTH")
	text, err := json.MarshalIndent(struct {
		Method, Path string
		Header       http.Header
		Body         any
	}{call.Method, call.Path, header, body}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(id, "EVENT-ID", time, "EVENT-TIME").Replace(string(text)) + "\n"
}
