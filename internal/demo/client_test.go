package demo_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

const (
	env      = "/spaces/sp1/environments/master"
	postType = `{"name":"Post","displayField":"title","fields":[{"id":"title","name":"Title","type":"Symbol"}]}`
	hello    = `{"fields":{"title":{"en-US":"Hello"}}}`
	picture  = `{"fields":{"title":{"en-US":"Pic"},"file":{"en-US":{"fileName":"y.png","upload":"http://127.0.0.1/y.png"}}}}`
)

// client talks to a content API over a real socket.
type client struct {
	t    *testing.T
	api  *demo.ContentAPI
	url  string
	http *http.Client
}

func newClient(t *testing.T, o demo.ContentAPIOptions) *client {
	t.Helper()
	api := demo.NewContentAPI(o)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return &client{t: t, api: api, url: server.URL, http: server.Client()}
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	body   []byte
	doc    document
}

type document struct {
	Sys struct {
		ID, Type                                    string
		Version, PublishedVersion, PublishedCounter int
		ArchivedVersion                             int
		PublishedAt, FirstPublishedAt, ArchivedAt   string
		PublishedBy, ArchivedBy                     map[string]any
		Environment                                 struct{ Sys struct{ ID string } }
		FieldStatus                                 map[string]map[string]string
		URN                                         string
	}
	Message, RequestID string
	Fields             any
	Total, Skip, Limit int
	Items              []document
}

func (c *client) request(method, path, body string, headers ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("X-Contentful-Content-Type", "post")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return r
}

func (c *client) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	response, err := c.http.Do(c.request(method, path, body, headers...))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.read(response)
}

func (c *client) read(response *http.Response) reply {
	c.t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	got := reply{status: response.StatusCode, header: response.Header, body: body}
	if len(body) > 0 && response.Header.Get("Content-Encoding") == "" {
		if err := json.Unmarshal(body, &got.doc); err != nil {
			c.t.Fatalf("%s: %v", body, err)
		}
	}
	return got
}

func (c *client) must(status int, method, path, body string, headers ...string) reply {
	c.t.Helper()
	got := c.do(method, path, body, headers...)
	if got.status != status {
		c.t.Fatalf("%s %s: got %d %s, want %d", method, path, got.status, got.body, status)
	}
	return got
}

// seed makes a content type, so that entries can be made.
func (c *client) seed() *client {
	c.t.Helper()
	c.must(201, "PUT", env+"/content_types/post", postType)
	return c
}

func version(v int) string { return "X-Contentful-Version: " + strconv.Itoa(v) }

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
