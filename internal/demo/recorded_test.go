package demo_test

import (
	"encoding/json"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"

	"cmstap/internal/demo"
)

// Each recorded request of the official SDK meets an entity in the state that the request needs.
func TestRecordedRequests(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/sdk-requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Requests []struct {
			Label, Method, Path, Body string
			Headers                   map[string]string
		}
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		t.Fatal(err)
	}
	for _, r := range recorded.Requests {
		t.Run(r.Label, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, demo.ContentAPIOptions{})
			headers := maps.Clone(r.Headers)
			if v := c.prepare(r.Label, r.Method, r.Path); headers["x-contentful-version"] != "" {
				headers["x-contentful-version"] = strconv.Itoa(v)
			}
			var lines []string
			for name, value := range headers {
				lines = append(lines, name+": "+value)
			}
			if got := c.do(r.Method, r.Path, r.Body, lines...); got.status >= 300 {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// prepare makes the entity that a recorded request is about, and returns its version.
func (c *client) prepare(label, method, path string) int {
	c.t.Helper()
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	place, kind := "/"+strings.Join(segments[:4], "/"), segments[4]
	if kind == "entries" {
		c.must(201, "PUT", place+"/content_types/post", postType)
	}
	if method == "POST" || strings.Contains(label, "createWithId") {
		return 0
	}
	one := strings.Join([]string{place, kind, segments[5]}, "/")
	body := map[string]string{"entries": hello, "assets": picture, "content_types": postType}[kind]
	c.must(201, "PUT", one, body)
	if method == "DELETE" && len(segments) > 6 {
		return c.must(200, "PUT", path, "").doc.Sys.Version
	}
	return 1
}
