package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"cmstap/internal/demo"
)

// TestTruncated: what is too large to be kept is delivered all the same, by name.
func TestTruncated(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan string, 10)
	receiver := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- fmt.Sprintf("%s truncated=%q error=%q kept=%v names=%v", r.Header.Get("X-Contentful-Topic"), r.Header.Get("X-Cmstap-Truncated"),
			r.Header.Get("X-Cmstap-Payload-Error"), len(body) > 50<<10, strings.Contains(string(body), `"id":"x"`))
	}))
	api := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{}))
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q, max_payload: 64KiB }
admin: { listen: "" }
webhooks: [{ name: all, url: %q, topics: ["Entry.*"], filter: payload.sys.id == "x" }]
`, api.URL, t.TempDir(), receiver.URL))
	if status, text, err := ask("PUT", "http://"+p.proxy+"/spaces/s/content_types/c", `{"name":"c","fields":[{"id":"text","name":"t","type":"Text"}]}`, nil); err != nil || status != 201 {
		t.Fatal(status, text, err)
	}
	put := func(version, size int, want string) {
		t.Helper()
		body := fmt.Sprintf(`{"fields":{"text":{"en-US":%q}}}`, strings.Repeat("x", size))
		headers := map[string]string{"X-Contentful-Version": fmt.Sprint(version), "X-Contentful-Content-Type": "c"}
		status, text, err := ask("PUT", "http://"+p.proxy+"/spaces/s/environments/master/entries/x", body, headers)
		if err != nil || status > 201 || len(text) < size {
			t.Fatalf("%d %v, %d bytes: %.300s", status, err, len(text), text)
		}
		if got := <-calls; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	put(0, 60<<10, `ContentManagement.Entry.create truncated="" error="" kept=true names=true`)
	put(1, 70<<10, `ContentManagement.Entry.save truncated="true" error="" kept=false names=true`)
	put(2, 2<<20, `ContentManagement.Entry.save truncated="true" error="the answer is larger than 1 MiB" kept=false names=true`)
	put(3, 1000, `ContentManagement.Entry.save truncated="" error="" kept=false names=true`)
}
