package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/rules"
	"cmstap/sender"

	"github.com/google/go-cmp/cmp"
)

// oneDelivery is a store that has a delivery, once.
type oneDelivery struct {
	delivery chan event.Delivery
	settled  chan event.Settlement
}

func (o *oneDelivery) Next(ctx context.Context, _ string, _ int) ([]event.Delivery, error) {
	select {
	case d := <-o.delivery:
		return []event.Delivery{d}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *oneDelivery) SettleAll(_ context.Context, _ []event.Delivery, s event.Settlement) error {
	o.settled <- s
	return nil
}

func (o *oneDelivery) Release(event.Delivery) {}

// delivered sends an event to the only webhook of a config, and returns how
// that ended.
func delivered(t *testing.T, config string, e *event.Event) event.Settlement {
	t.Helper()
	c, err := parseConfig("c.yaml", []byte(config), &runCommand{Upstream: "https://api.contentful.com"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.warnings) > 0 {
		t.Errorf("%v", c.warnings)
	}
	decision := rules.New(c.dialect, c.subscribers()).Match(e, nil)[0]
	if !decision.Wanted || decision.Undecided != "" {
		t.Fatalf("%+v", decision)
	}
	w := c.Webhooks[0]
	store := &oneDelivery{make(chan event.Delivery, 1), make(chan event.Settlement, 1)}
	store.delivery <- event.Delivery{Want: decision.Want, Event: e}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sender.New([]sender.Webhook{{Name: w.Name, Endpoint: w.Endpoint, Bundled: w.Batch != nil}}, store, slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	select {
	case s := <-store.settled:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is settled")
	}
	return event.Settlement{}
}

// standIn is a service that writes down the calls it gets.
func standIn(t *testing.T, status int) (url string, calls chan string) {
	calls = make(chan string, 1)
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var head strings.Builder
		_ = r.Header.Write(&head)
		if r.ContentLength != int64(len(body)) {
			head.WriteString("the length is wrong\n")
		}
		fields := regexp.MustCompile("\r|Content-Length: .*\r\n").ReplaceAllString(head.String(), "")
		calls <- fmt.Sprintf("%s %s\n%s\n%s", r.Method, r.RequestURI, fields, body)
		w.WriteHeader(status)
	}))
	return server.URL, calls
}

// recipeEvent is a publish or an unpublish of a blog post.
func recipeEvent(action string) *event.Event {
	payload := `{"sys":{"type":"DeletedEntry","id":"e1"}}`
	if action == "publish" {
		payload = `{"sys":{"type":"Entry","id":"e1"},"fields":{"title":{"en-US":"A <b> & c"},"slug":{"en-US":"a/b c"},"tags":{"en-US":["x"]}}}`
	}
	return &event.Event{
		ID: strings.Repeat("0f", 32), Time: time.Date(2026, 1, 2, 3, 4, 5, 230e6, time.UTC), Type: "Entry", Action: action, Space: "sp1", Environment: "master",
		Entity: event.Entity{Type: "Entry", ID: "e1", ContentType: "blogPost", Version: 4}, Actor: "u1", Confirmed: true, Payload: []byte(payload),
		Request: event.Request{Method: "PUT", Path: "/spaces/sp1/entries/e1/published"},
		Native:  event.Native{ContentType: "application/vnd.contentful.management.v1+json"},
	}
}

// recipe is a recipe and what it makes of an event.
type recipe struct {
	file, origin string
	action       string
	status       int // that the service answers
	want         string
}

const recipeID = "X-Cmstap-Event: 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f\n"

var recipes = []recipe{
	{"slack", "https://hooks.slack.com", "publish", 200, "POST /services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX\nContent-Type: application/json\n" +
		recipeID + "\n" + `{"text":"Published: *A &lt;b&gt; &amp; c* in master"}`},
	{"slack", "https://hooks.slack.com", "unpublish", 200, "POST /services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX\nContent-Type: application/json\n" +
		recipeID + "\n" + `{"text":"Taken down: *e1* in master"}`},
	{"netlify", "https://api.netlify.com", "publish", 200, "POST /build_hooks/5f0000000000000000000000?trigger_branch=main&trigger_title=Entry.publish+e1\n" +
		"Content-Type: application/json\n" + recipeID + "\n{}"},
	{"vercel", "https://api.vercel.com", "unpublish", 201, "GET /v1/integrations/deploy/prj_00000000000000000000000000/XXXXXXXXXX\n" + recipeID + "\n"},
	{"github", "https://api.github.com", "publish", 204, "POST /repos/OWNER/REPOSITORY/dispatches\nAccept: application/vnd.github+json\nAuthorization: known-secret-of-24-bytes\n" +
		"Content-Type: application/json\nUser-Agent: cmstap\n" + recipeID + "X-Github-Api-Version: 2022-11-28\n\n" +
		`{"event_type":"cms","client_payload":{"event":"` + strings.Repeat("0f", 32) + `","topic":"Entry.publish","entity":"e1","content_type":"blogPost",` +
		`"fields":{"title":{"en-US":"A <b> & c"},"slug":{"en-US":"a/b c"},"tags":{"en-US":["x"]}}}}`},
	{"algolia", "https://APPLICATION.algolia.net", "publish", 200, "POST /1/indexes/content/batch\nContent-Type: application/json\nX-Algolia-Api-Key: known-secret-of-24-bytes\n" +
		"X-Algolia-Application-Id: APPLICATION\n" + recipeID + "\n" + `{"requests":[{"action":"updateObject","body":{"objectID":"e1","title":"A <b> & c","tags":["x"]}}]}`},
	{"algolia", "https://APPLICATION.algolia.net", "unpublish", 200, "POST /1/indexes/content/batch\nContent-Type: application/json\nX-Algolia-Api-Key: known-secret-of-24-bytes\n" +
		"X-Algolia-Application-Id: APPLICATION\n" + recipeID + "\n" + `{"requests":[{"action":"deleteObject","body":{"objectID":"e1","title":null,"tags":null}}]}`},
	{"cache-purge", "https://api.fastly.com", "publish", 200, "POST /purge/www.example.com/news/a%2Fb%20c\nContent-Type: application/json\n" +
		"Fastly-Key: known-secret-of-24-bytes\nFastly-Soft-Purge: 1\n" + recipeID + "\n{}"},
	{"zapier", "https://hooks.zapier.com", "publish", 200, "POST /hooks/catch/0000000/xxxxxxx/\nContent-Type: application/json\n" + recipeID + "\n" +
		`{"id":"` + strings.Repeat("0f", 32) + `","topic":"Entry.publish","time":"2026-01-02T03:04:05.23Z","entry":"e1","content_type":"blogPost","version":4,"title":"A <b> & c","user":"u1"}`},
	{"aws-lambda", "https://XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX.lambda-url.eu-central-1.on.aws", "publish", 200, "POST /\nContent-Type: application/json\n" +
		"Webhook-Id: " + strings.Repeat("0f", 32) + "\n" + recipeID + "\n" +
		`{"envelope":1,"id":"` + strings.Repeat("0f", 32) + `","time":"2026-01-02T03:04:05.23Z","topic":"Entry.publish","type":"Entry","action":"publish","space":"sp1","environment":"master",` +
		`"entity":{"type":"Entry","id":"e1","content_type":"blogPost","version":4},"actor":"u1","confirmed":true,"accepted":false,"late":false,"truncated":false,` +
		`"request":{"method":"PUT","path":"/spaces/sp1/entries/e1/published"},"payload":{"sys":{"type":"Entry","id":"e1"},"fields":{"title":{"en-US":"A <b> & c"},"slug":{"en-US":"a/b c"},"tags":{"en-US":["x"]}}}}`},
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// recipeConfig is the config of a recipe, with its service somewhere else.
func recipeConfig(t *testing.T, name, origin, url string) string {
	t.Helper()
	text, err := os.ReadFile("docs/recipes/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 1 || strings.Count(blocks[0][1], origin+"/") != 1 {
		t.Fatalf("%s has %d blocks, and %s", name, len(blocks), origin)
	}
	return strings.ReplaceAll(withSecrets(blocks[0][1]), origin, url)
}

// TestRecipes: every recipe makes exactly the request that its service wants.
func TestRecipes(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{"README": true}
	for _, one := range recipes {
		tested[one.file] = true
		url, calls := standIn(t, one.status)
		if s := delivered(t, recipeConfig(t, one.file, one.origin, url), recipeEvent(one.action)); s.Result != event.Delivered {
			t.Errorf("%s: %+v", one.file, s)
			continue
		}
		if diff := cmp.Diff(one.want, unsigned(t, <-calls)); diff != "" {
			t.Errorf("%s, %s: %s", one.file, one.action, diff)
		}
	}
	files, _ := filepath.Glob("docs/recipes/*.md")
	for _, file := range files {
		if !tested[strings.TrimSuffix(filepath.Base(file), ".md")] {
			t.Errorf("%s is not tested", file)
		}
	}
}

var signature = regexp.MustCompile(`Webhook-Signature: v1,(.*)\nWebhook-Timestamp: (.*)\n`)

// unsigned checks the signature of a call, if it has one, and takes it out.
func unsigned(t *testing.T, call string) string {
	t.Helper()
	match := signature.FindStringSubmatch(call)
	if match == nil {
		return call
	}
	_, body, _ := strings.Cut(call, "\n\n")
	mac := hmac.New(sha256.New, []byte("known-secret-of-24-bytes"))
	mac.Write([]byte(strings.Repeat("0f", 32) + "." + match[2] + "." + body))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); match[1] != want {
		t.Errorf("the signature is %s, want %s", match[1], want)
	}
	return signature.ReplaceAllString(call, "")
}

// TestImportIsDelivered: an imported transformation makes the vendor's request.
func TestImportIsDelivered(t *testing.T) {
	t.Parallel()
	url, calls := standIn(t, 200)
	file := filepath.Join(t.TempDir(), "definition.json")
	definition := `{"name":"a","url":"` + url + `/{ /payload/sys/id }?by={ /user/sys/id }","topics":["Entry.publish"],"headers":[{"key":"X-T","value":"t { /topic }"}],
		"transformation":{"method":"PUT","contentType":"application/json; charset=utf-8","body":{"id":"{ /payload/sys/id }","all":"{ /payload/sys }","none":"{ /payload/none/x }","text":"a ${b} { /topic }"}}}`
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	_, config, _ := imported(file)
	e := recipeEvent("publish")
	e.Native.Headers = []event.Header{{Name: "X-Contentful-Topic", Value: "ContentManagement.Entry.publish"}}
	if s := delivered(t, config+"\negress: { allow: [127.0.0.1] }\n", e); s.Result != event.Delivered {
		t.Fatal(s)
	}
	if _, err := parseConfig("c.yaml", []byte(config), &runCommand{Upstream: "https://api.contentful.com"}); err == nil || !strings.Contains(err.Error(), "url: 127.0.0.1 is not a public address") {
		t.Errorf("without egress.allow: %v", err)
	}
	const topic = "ContentManagement.Entry.publish"
	want := "PUT /e1?by=u1\nContent-Type: application/json; charset=utf-8\n" + recipeID + "X-Contentful-Topic: " + topic + "\nX-T: t " + topic + "\n\n" +
		`{"id":"e1","all":{"type":"Entry","id":"e1"},"none":null,"text":"a ${b} ` + topic + `"}`
	if diff := cmp.Diff(want, <-calls); diff != "" {
		t.Error(diff)
	}
}
