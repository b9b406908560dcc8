package demo_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"testing"

	"cmstap/internal/demo"
)

func TestList(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{}).seed()
	for i := range 5 {
		c.must(201, "PUT", env+"/entries/e"+strconv.Itoa(i), hello)
	}
	check := func(query string, total, skip, limit int, want ...string) {
		t.Helper()
		got := c.must(200, "GET", "/spaces/sp1/entries"+query, "").doc
		ids := []string{}
		for _, item := range got.Items {
			ids = append(ids, item.Sys.ID)
		}
		equal(t, query, append(ids, fmt.Sprint(got.Total, got.Skip, got.Limit)), append(want, fmt.Sprint(total, skip, limit)))
		equal(t, "type", got.Sys.Type, "Array")
	}
	check("", 5, 0, 100, "e0", "e1", "e2", "e3", "e4")
	check("?limit=2", 5, 0, 2, "e0", "e1")
	check("?limit=2&skip=4", 5, 4, 2, "e4")
	check("?skip=9", 5, 9, 100)
	check("?limit=0", 5, 0, 0)
	check("?sys.id[in]=e3,none,e1", 2, 0, 100, "e1", "e3")
	check("?sys.id%5Bin%5D=e3,e1&limit=1", 2, 0, 1, "e1")
	check("?sys.id[in]=", 0, 0, 100)
}

func TestPatch(t *testing.T) {
	t.Parallel()
	const start = `{"fields":{"title":{"en-US":"a","de-DE":"b"},"n":{"en-US":12345678901234567890},"tags":{"en-US":["x","y"]}}}`
	check := func(steps string, status int, want string) {
		t.Helper()
		c := newClient(t, demo.ContentAPIOptions{}).seed()
		c.must(201, "PUT", env+"/entries/e1", start)
		c.must(status, "PATCH", env+"/entries/e1", steps, version(1), "Content-Type: application/json-patch+json")
		var got struct{ Fields json.RawMessage }
		if err := json.Unmarshal(c.must(200, "GET", env+"/entries/e1", "").body, &got); err != nil {
			t.Fatal(err)
		}
		equal(t, steps, string(got.Fields), want)
	}
	const n, tags = `"n":{"en-US":12345678901234567890}`, `"tags":{"en-US":["x","y"]}`
	check(`[{"op":"replace","path":"/fields/title/en-US","value":"<c>"}]`, 200,
		`{`+n+`,`+tags+`,"title":{"de-DE":"b","en-US":"<c>"}}`)
	check(`[{"op":"remove","path":"/fields/title"},{"op":"add","path":"/fields/z","value":{"en-US":1.50}}]`, 200,
		`{`+n+`,`+tags+`,"z":{"en-US":1.50}}`)
	check(`[{"op":"replace","path":"/fields","value":{"a~b/c":{}}},{"op":"add","path":"/fields/a~0b~1c/en-US","value":1}]`, 200,
		`{"a~b/c":{"en-US":1}}`)
	check(`[{"op":"remove","path":"/fields/n"},{"op":"remove","path":"/fields/title"},
		{"op":"add","path":"/fields/tags/en-US/-","value":"z"},{"op":"add","path":"/fields/tags/en-US/0","value":"w"},
		{"op":"replace","path":"/fields/tags/en-US/1","value":"v"},{"op":"remove","path":"/fields/tags/en-US/2"}]`, 200,
		`{"tags":{"en-US":["w","v","z"]}}`)
	for _, refused := range []string{
		`[{"op":"replace","path":"/fields/none/en-US","value":1}]`,
		`[{"op":"remove","path":"/fields/none"}]`,
		`[{"op":"add","path":"/fields/tags/en-US/3","value":1}]`,
		`[{"op":"replace","path":"/fields/tags/en-US/-","value":1}]`,
		`[{"op":"add","path":"/fields/title/en-US/x","value":1}]`,
		`[{"op":"test","path":"/fields/title/en-US","value":"a"}]`,
		`[{"op":"replace","path":"/fields","value":[]}]`,
		`[{"op":"replace","path":"","value":{}}]`,
		`{"op":"replace"}`,
	} {
		check(refused, 422, start[len(`{"fields":`):len(start)-1])
	}
}

func TestPublishLocales(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{}).seed()
	path := env + "/entries/e1"
	c.must(201, "PUT", path, `{"fields":{"title":{"en-US":"a","de-DE":"b"}}}`)
	check := func(body string, headers []string, wantVersion int, want map[string]string) {
		t.Helper()
		got := c.must(200, "PUT", path+"/published", body, headers...).doc
		equal(t, body, got.Sys.FieldStatus["*"], want)
		equal(t, "version after "+body, got.Sys.Version, wantVersion)
	}
	check(`{"add":{"fields":{"*":["de-DE"]}}}`, nil, 2, map[string]string{"en-US": "draft", "de-DE": "published"})
	check("", []string{"X-Contentful-Validate-Only: true"}, 2, map[string]string{"en-US": "draft", "de-DE": "published"})
	check("", nil, 3, map[string]string{"en-US": "published", "de-DE": "published"})
	check(`{"remove":{"fields":{"*":["de-DE"]}}}`, nil, 4, map[string]string{"en-US": "published", "de-DE": "draft"})
	equal(t, "writes", len(c.api.Writes()), 5)
}

func TestProcessAsset(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{})
	c.must(201, "PUT", env+"/assets/a1", picture)
	equal(t, "body", len(c.must(204, "PUT", env+"/assets/a1/files/en-US/process", "", version(1)).body), 0)
	got := c.must(200, "GET", env+"/assets/a1", "").doc
	equal(t, "version", got.Sys.Version, 2)
	equal(t, "fields", got.Fields, any(map[string]any{
		"title": map[string]any{"en-US": "Pic"},
		"file": map[string]any{"en-US": map[string]any{
			"fileName": "y.png", "url": "//images.ctfassets.net/sp1/a1/en-US/y.png", "details": map[string]any{"size": 0.0},
		}},
	}))
}

func TestCompression(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{}).seed()
	plain := c.must(201, "PUT", env+"/entries/e1", hello, "Accept-Encoding: identity")
	check := func(path, accept string, compressed bool) {
		t.Helper()
		// A header of our own keeps net/http from decompressing behind our back.
		response, err := c.http.Do(c.request("GET", path, "", "Accept-Encoding: "+accept))
		if err != nil {
			t.Fatal(err)
		}
		body := c.read(response)
		equal(t, accept, response.Header.Get("Content-Encoding") == "gzip", compressed)
		equal(t, accept+": chunked", response.ContentLength == -1, compressed)
		if !compressed {
			return
		}
		z, err := gzip.NewReader(bytes.NewReader(body.body))
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := io.ReadAll(z)
		equal(t, "error", err, error(nil))
		equal(t, "body", string(unpacked), string(plain.body))
	}
	check(env+"/entries/e1", "gzip, compress, deflate, br", true)
	check(env+"/entries/e1", "br, GZIP;q=0.5", true)
	check(env+"/entries/e1", "br, deflate", false)
	check(env+"/entries/e1", "gzip;q=0", false)
	check("/spaces/none/entries", "gzip", false) // too small
}
