package demo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// The walk of PHP's recording e2e_entry_create_update_publish, see contentful.md 3.1.
func TestVersionWalk(t *testing.T) {
	t.Parallel()
	for _, path := range []string{env + "/entries/e1", "/spaces/sp1/assets/e1"} {
		c := newClient(t, demo.ContentAPIOptions{}).seed()
		step := func(method, suffix, body string, seen, status, want int) document {
			t.Helper()
			got := c.must(status, method, path+suffix, body, version(seen))
			equal(t, "version", got.doc.Sys.Version, want)
			return got.doc
		}
		step("PUT", "", hello, 0, 201, 1)
		step("PUT", "", hello, 1, 200, 2)
		equal(t, "archivedVersion", step("PUT", "/archived", "", 2, 200, 3).Sys.ArchivedVersion, 2)
		unarchived := step("DELETE", "/archived", "", 3, 200, 4)
		equal(t, "archivedVersion", unarchived.Sys.ArchivedVersion, 0)
		equal(t, "archivedAt", unarchived.Sys.ArchivedAt, "")
		equal(t, "archivedBy", len(unarchived.Sys.ArchivedBy), 0)
		was := step("PUT", "/published", "", 4, 200, 5)
		equal(t, "publishedVersion", was.Sys.PublishedVersion, 4)
		equal(t, "publishedCounter", was.Sys.PublishedCounter, 1)
		equal(t, "status", was.Sys.FieldStatus["*"]["en-US"], "published")
		changed := step("PUT", "", hello, 5, 200, 6)
		equal(t, "publishedVersion", changed.Sys.PublishedVersion, 4)
		equal(t, "status", changed.Sys.FieldStatus["*"]["en-US"], "changed")
		draft := step("DELETE", "/published", "", 6, 200, 7)
		equal(t, "publishedVersion", draft.Sys.PublishedVersion, 0)
		equal(t, "publishedAt", draft.Sys.PublishedAt, "")
		equal(t, "publishedBy", len(draft.Sys.PublishedBy), 0)
		equal(t, "publishedCounter", draft.Sys.PublishedCounter, 1)
		equal(t, "firstPublishedAt", draft.Sys.FirstPublishedAt, was.Sys.FirstPublishedAt)
		equal(t, "status", draft.Sys.FieldStatus["*"]["en-US"], "draft")
		equal(t, "deleted", len(c.must(204, "DELETE", path, "", version(7)).body), 0)
		c.must(404, "GET", path, "")
		equal(t, "created again", c.must(201, "PUT", path, hello).doc.Sys.Version, 1)
	}
}

func TestEntryLooksAsRecorded(t *testing.T) {
	t.Parallel()
	clock := make(chan string, 4)
	now := func() time.Time {
		at, _ := time.Parse(time.RFC3339, "2026-01-02T"+<-clock+"+02:00")
		return at
	}
	c := newClient(t, demo.ContentAPIOptions{Now: now})
	for _, at := range []string{"05:00:00", "05:00:00", "05:04:05", "05:06:00"} {
		clock <- at
	}
	c.seed().must(201, "PUT", env+"/entries/e1", hello)
	c.must(200, "PUT", env+"/entries/e1/published", "")
	got := c.must(200, "PUT", env+"/entries/e1", `{"sys":{"id":"x"},"fields":{"title":{"en-US":"Hello 2"}}}`, version(2))
	sample, err := os.ReadFile("testdata/entry-saved.json")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, sample); err != nil {
		t.Fatal(err)
	}
	equal(t, "entry", string(got.body), strings.TrimSpace(want.String()))
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	check := func(status int, method, path, body string, headers ...string) {
		t.Helper()
		c := newClient(t, demo.ContentAPIOptions{}).seed()
		c.must(201, "PUT", env+"/entries/draft", hello)
		c.must(201, "PUT", env+"/entries/live", hello)
		c.must(200, "PUT", env+"/entries/live/published", "")
		c.must(201, "PUT", env+"/entries/old", hello)
		c.must(200, "PUT", env+"/entries/old/archived", "")
		c.must(201, "PUT", env+"/assets/a1", picture)
		before := len(c.api.Writes())
		got := c.do(method, path, body, headers...)
		if got.status != status {
			t.Errorf("%s %s: got %d %s, want %d", method, path, got.status, got.body, status)
		}
		if status < 400 {
			return
		}
		equal(t, "type of "+string(got.body), got.doc.Sys.Type, "Error")
		equal(t, "request id", got.doc.RequestID, got.header.Get("X-Contentful-Request-Id"))
		equal(t, "writes after a refusal", len(c.api.Writes()), before)
	}
	check(200, "GET", "/spaces/sp1/entries/draft", "")
	check(200, "GET", env+"/entries", "")
	check(200, "PUT", env+"/entries/draft", `{}`, version(1))
	check(201, "POST", env+"/entries", hello)
	check(201, "POST", env+"/assets", picture)
	check(201, "POST", env+"/content_types", postType)
	check(201, "PUT", env+"/entries/new", hello, version(0))
	check(201, "PUT", env+"/entries/new", hello)
	check(200, "DELETE", env+"/entries/live/published", "")
	check(204, "DELETE", env+"/entries/old", "")
	check(204, "DELETE", env+"/content_types/post", "")
	check(204, "PUT", env+"/assets/a1/files/en-US/process", "", version(1))

	check(400, "POST", env+"/entries", `{"fields":`)
	check(400, "PUT", env+"/entries/draft", ``, version(1))
	check(400, "PATCH", env+"/entries/draft", `[`, version(1))
	check(400, "PUT", env+"/entries/draft", hello, "X-Contentful-Version: one")
	check(400, "PUT", env+"/entries/draft/published", `{"add":`)
	check(400, "DELETE", env+"/entries/live", "")
	check(400, "DELETE", env+"/entries/draft/published", "")
	check(400, "DELETE", env+"/entries/draft/archived", "")
	check(400, "PUT", env+"/entries/live/archived", "")
	check(400, "PUT", env+"/entries/old/archived", "")
	check(400, "PUT", env+"/entries/old/published", "")
	check(400, "PUT", env+"/entries/old", hello, version(2))
	check(400, "GET", env+"/entries?limit=many", "")
	check(400, "GET", env+"/entries?limit=1001", "")
	check(400, "GET", env+"/entries?skip=-1", "")

	check(401, "GET", env+"/entries", "", "Authorization: ")
	check(401, "POST", env+"/entries", hello, "Authorization: Basic abc")
	check(401, "POST", env+"/entries", hello, "Authorization: Bearer ")

	check(404, "GET", env+"/entries/none", "")
	check(404, "PATCH", env+"/entries/none", `[]`, version(1))
	check(404, "PUT", env+"/entries/none/published", "")
	check(404, "DELETE", env+"/entries/none", "")
	check(404, "GET", env+"/entries/draft/published", "")
	check(404, "GET", "/spaces/sp1/environments/other/entries/draft", "")
	check(404, "GET", "/spaces/sp2/entries/draft", "")
	check(404, "PUT", env+"/content_types/post/archived", "")
	check(404, "PUT", env+"/entries/draft/files/en-US/process", "")
	check(404, "POST", env+"/extensions", "{}")
	check(404, "POST", env+"/entries/draft", hello)
	check(404, "GET", "/spaces/sp1", "")
	check(404, "GET", "/spaces//entries", "")
	check(404, "GET", "/", "")

	check(409, "PUT", env+"/entries/draft", hello)
	check(409, "PUT", env+"/entries/draft", hello, version(0))
	check(409, "PUT", env+"/entries/draft", hello, version(2))
	check(409, "PUT", env+"/entries/new", hello, version(1))
	check(409, "PATCH", env+"/entries/draft", `[]`)
	check(409, "PUT", env+"/entries/draft/published", "", version(2))
	check(409, "DELETE", env+"/entries/live/published", "", version(1))
	check(409, "PUT", env+"/entries/draft/archived", "", version(2))
	check(409, "DELETE", env+"/entries/draft", "", version(2))

	check(413, "POST", env+"/assets", `{"fields":{"x":"`+strings.Repeat("x", 8<<20)+`"}}`)

	check(422, "POST", env+"/entries", hello, "X-Contentful-Content-Type: none")
	check(422, "POST", env+"/entries", hello, "X-Contentful-Content-Type: ")
	check(422, "POST", "/spaces/sp1/environments/other/entries", hello)
	check(422, "POST", env+"/entries", `{"fields":[]}`)
	check(422, "POST", env+"/entries", `{"fields":null}`)
	check(422, "POST", env+"/entries", `[]`)
	check(422, "PUT", env+"/assets/a1", `{"fields":"x"}`, version(1))
	check(422, "PUT", env+"/content_types/post", `{"fields":{}}`, version(1))
	check(422, "PUT", env+"/assets/a1/files/de-DE/process", "")
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{})
	for _, path := range []string{"/spaces/sp1/assets/a1", "/spaces/sp1/environments/dev/assets/a1", "/spaces/sp2/assets/a1"} {
		c.must(201, "PUT", path, picture)
	}
	short := c.must(200, "GET", "/spaces/sp1/assets/a1", "")
	equal(t, "environment", short.doc.Sys.Environment.Sys.ID, "master")
	equal(t, "route", short.header.Get("X-Contentful-Route"), "/spaces/:space/assets/:id")
	long := c.must(200, "GET", "/spaces/sp1/environments/dev/assets/a1", "")
	equal(t, "environment", long.doc.Sys.Environment.Sys.ID, "dev")
	equal(t, "urn", long.doc.Sys.URN, "crn:contentful:::content:spaces/sp1/environments/dev/assets/a1")
	equal(t, "route", long.header.Get("X-Contentful-Route"), "/spaces/:space/environments/:environment/assets/:id")
	equal(t, "type", long.header.Get("Content-Type"), "application/vnd.contentful.management.v1+json")
	if tag := long.header.Get("ETag"); tag == "" || tag == short.header.Get("ETag") {
		t.Errorf("ETag %q does not tell the bodies apart", tag)
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{NewID: func() string { return "made" }})
	c.must(201, "PUT", "/spaces/sp1/content_types/post", postType)
	c.must(201, "POST", env+"/entries", hello, "X-Test-Id: t1")
	c.must(409, "POST", env+"/entries", hello) // the generated id is taken
	c.must(200, "PUT", env+"/entries/made", hello, version(1))
	c.must(409, "PUT", env+"/entries/made", hello, version(1))
	c.must(200, "PATCH", env+"/entries/made", `[]`, version(2), "X-Contentful-UI-Content-Auto-Save: true")
	c.must(200, "PUT", env+"/entries/made/published", "", "X-Contentful-Validate-Only: true")
	c.must(200, "PUT", env+"/entries/made/published", "")
	c.must(200, "DELETE", env+"/entries/made/published", "")
	c.must(200, "PUT", env+"/entries/made/archived", "")
	c.must(200, "DELETE", env+"/entries/made/archived", "")
	c.must(204, "DELETE", env+"/entries/made", "")
	c.must(201, "POST", "/spaces/sp1/environments/dev/assets", picture)
	c.must(204, "PUT", "/spaces/sp1/environments/dev/assets/made/files/en-US/process", "")
	write := func(method, path string, status int, action string, version int) demo.Write {
		return demo.Write{
			Method: method, Path: path, Status: status, Type: "Entry", Action: action,
			Space: "sp1", Environment: "master", ID: "made", Version: version,
		}
	}
	entry := env + "/entries/made"
	want := []demo.Write{
		{"PUT", "/spaces/sp1/content_types/post", 201, "ContentType", "create", "sp1", "master", "post", 1, ""},
		{"POST", env + "/entries", 201, "Entry", "create", "sp1", "master", "made", 1, "t1"},
		write("PUT", entry, 200, "save", 2),
		write("PATCH", entry, 200, "auto_save", 3),
		write("PUT", entry+"/published", 200, "publish", 4),
		write("DELETE", entry+"/published", 200, "unpublish", 5),
		write("PUT", entry+"/archived", 200, "archive", 6),
		write("DELETE", entry+"/archived", 200, "unarchive", 7),
		write("DELETE", entry, 204, "delete", 7),
		{"POST", "/spaces/sp1/environments/dev/assets", 201, "Asset", "create", "sp1", "dev", "made", 1, ""},
		{"PUT", "/spaces/sp1/environments/dev/assets/made/files/en-US/process", 204, "Asset", "process", "sp1", "dev", "made", 2, ""},
	}
	equal(t, "writes", c.api.Writes(), want)
	equal(t, "requests", c.api.Requests(), 14)
}

func TestConcurrentSaves(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{}).seed()
	c.must(201, "PUT", env+"/entries/e1", hello)
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, method := range []string{"GET", "PUT"} {
				response, err := c.http.Do(c.request(method, env+"/entries/e1", hello, version(1)))
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				mu.Lock()
				statuses[response.StatusCode]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	equal(t, "statuses", statuses, map[int]int{200: 9, 409: 7})
	equal(t, "writes", len(c.api.Writes()), 3)
	equal(t, "requests", c.api.Requests(), 18)
}
