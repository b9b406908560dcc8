package main

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	t.Parallel()
	const said = "Running 5s test\n  1000 requests\n\nresult 1000 5000000 150 2500 errors 0 0 0 0 0\n"
	got, err := parseWrk(said)
	if want := (result{requests: 1000, took: 5 * time.Second, p50: 150 * time.Microsecond, p99: 2500 * time.Microsecond}); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	for name, text := range map[string]string{
		"a connection": strings.Replace(said, "errors 0", "errors 1", 1),
		"a timeout":    strings.Replace(said, "0 0\n", "0 1\n", 1),
		"a status":     strings.Replace(said, "0 0\n", "1 0\n", 1),
		"no request":   strings.Replace(said, "result 1000", "result 0", 1),
		"no result":    "unable to connect",
	} {
		if _, err := parseWrk(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	reader := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 502 Bad Gateway\r\n"))
	if err := readAnswer(reader); err != nil {
		t.Error(err)
	}
	if err := readAnswer(reader); err == nil {
		t.Error("502 is an answer like any other")
	}
	if err := readAnswer(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"))); err == nil {
		t.Error("an answer that breaks off is whole")
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	b := &bench{results: map[string]map[string][]result{"l": {
		"cmstap": {{requests: 10, took: time.Second}, {requests: 30, took: time.Second}, {requests: 20, took: time.Second}},
		"nginx":  {{requests: 10, took: time.Second}, {requests: 20, took: time.Second}, {requests: 40, took: time.Second}},
	}}}
	if got := b.ratio("l", "nginx", result.rate).String(); got != "1.00 (0.50 to 1.50)" {
		t.Error(got)
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	for _, size := range []int{smallSize, writeSize, largeSize} {
		if text := entry(size, "x"); len(text) != size || !json.Valid([]byte(text)) {
			t.Errorf("%d: %d bytes: %s", size, len(text), text)
		}
	}
	for line := range strings.Lines(setParts(entry(writeSize, "$id"))) {
		if len(line) > 2000 || strings.Count(line, "'")%2 != 0 {
			t.Errorf("nginx takes no such line: %s", line)
		}
	}
}
