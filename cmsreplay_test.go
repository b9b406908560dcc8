package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/internal/demo"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// recorded is one exchange with a real server, as rules/testdata has it.
type recorded struct {
	Step    string
	Request struct {
		Method, Path string
		Headers      [][2]string
		Body         recordedBody
	}
	Response struct {
		Status  int
		Headers [][2]string
		Body    recordedBody
	}
}

type recordedBody struct {
	Text   string
	Base64 []byte
}

func (b recordedBody) bytes() []byte {
	if b.Base64 != nil {
		return b.Base64
	}
	return []byte(b.Text)
}

func recording(t *testing.T, cms string) []recorded {
	t.Helper()
	text, err := os.ReadFile("rules/testdata/" + cms + "-traffic.json")
	if err != nil {
		t.Fatal(err)
	}
	var traffic struct{ Exchanges []recorded }
	if err := json.Unmarshal(text, &traffic); err != nil {
		t.Fatal(err)
	}
	return traffic.Exchanges
}

// ofConnection are the headers that each connection has of its own.
var ofConnection = []string{"Content-Length", "Transfer-Encoding", "Host", "Connection"}

// player answers as the server did. What cmstap itself reads was not recorded.
type player struct {
	t     *testing.T
	mu    sync.Mutex
	steps []recorded
}

func (p *player) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.UserAgent() == "cmstap" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if len(p.steps) == 0 {
		p.t.Errorf("%s %s is one request too many", r.Method, r.RequestURI)
		return
	}
	x := p.steps[0]
	p.steps = p.steps[1:]
	if err != nil || r.Method != x.Request.Method || r.RequestURI != x.Request.Path || !bytes.Equal(body, x.Request.Body.bytes()) {
		p.t.Errorf("%s: got %s %s, %v", x.Step, r.Method, r.RequestURI, err)
	}
	for _, header := range x.Response.Headers {
		if !slices.Contains(ofConnection, http.CanonicalHeaderKey(header[0])) {
			w.Header().Add(header[0], header[1])
		}
	}
	w.WriteHeader(x.Response.Status)
	_, _ = w.Write(x.Response.Body.bytes())
}

// resend sends a recorded request and compares the answer with the recorded one.
func resend(t *testing.T, client *http.Client, proxy string, x *recorded) {
	t.Helper()
	response, body := send(t, client, proxy, x)
	if response.StatusCode != x.Response.Status {
		t.Errorf("%s: got %d, want %d", x.Step, response.StatusCode, x.Response.Status)
	}
	if x.Request.Method != http.MethodHead && !bytes.Equal(body, x.Response.Body.bytes()) {
		t.Errorf("%s: got %s, want %s", x.Step, body, x.Response.Body.bytes())
	}
	for _, header := range x.Response.Headers {
		name := http.CanonicalHeaderKey(header[0])
		if !slices.Contains(ofConnection, name) && !slices.Contains(response.Header[name], header[1]) {
			t.Errorf("%s: %s is %q", x.Step, name, response.Header[name])
		}
	}
}

// send sends a recorded request, as it was.
func send(t *testing.T, client *http.Client, base string, x *recorded) (*http.Response, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, x.Request.Method, base, bytes.NewReader(x.Request.Body.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Path, _, _ = strings.Cut(x.Request.Path, "?") // for cookies
	request.URL.Opaque = x.Request.Path                       // its characters as they are
	for _, header := range x.Request.Headers {
		if !slices.Contains(ofConnection, http.CanonicalHeaderKey(header[0])) {
			request.Header.Add(header[0], header[1])
		}
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", x.Step, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", x.Step, err)
	}
	return response, body
}

// plainClient changes neither codings nor redirects.
func plainClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// accepted says which half of the calls a receiver accepts, the same one in every
// run.
func accepted(call demo.Call) bool {
	return rand.New(rand.NewPCG(1, uint64(call.Number))).IntN(2) == 1
}

func newPicky() *demo.Receiver {
	return demo.NewReceiver(demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		return demo.Reply{Status: either(accepted(call), http.StatusOK, http.StatusInternalServerError)}
	}})
}

// taken are the calls that were accepted.
func taken(calls []demo.Call) []demo.Call {
	return slices.DeleteFunc(slices.Clone(calls), func(call demo.Call) bool { return !accepted(call) })
}

// chronicle is what a log says of events: their entities, by a name that is the same
// whatever their ids are.
type chronicle struct {
	names  []string          // in the order in which they came up
	entity map[string]string // by event
	action map[string]string
}

// chronicleOf reads the lines of the log that say which events there are.
func chronicleOf(lines []string) *chronicle {
	s := &chronicle{entity: map[string]string{}, action: map[string]string{}}
	known, count := map[string]string{}, map[string]int{}
	for _, line := range lines {
		if msg := field(line, "msg"); msg != "captured" && msg != "unconfirmed" {
			continue
		}
		typ, action, _ := strings.Cut(field(line, "topic"), ".")
		id := typ + " " + field(line, "entity")
		if known[id] == "" {
			count[typ]++
			known[id] = fmt.Sprint(typ, " ", count[typ])
			s.names = append(s.names, known[id])
		}
		s.entity[field(line, "event")] = known[id]
		s.action[field(line, "event")] = action + either(field(line, "msg") == "captured", "", " ?")
	}
	return s
}

// table is what was told, a line for each entity.
func (s *chronicle) table(t *testing.T, calls []demo.Call) []string {
	t.Helper()
	lines := map[string][]string{}
	for _, call := range calls {
		id := call.Header.Get("X-Cmstap-Event")
		topic := call.Header.Get("X-Strapi-Event") + call.Header.Get("X-WP-Webhook-Topic")
		if _, action, _ := strings.Cut(topic, "."); action != strings.TrimSuffix(s.action[id], " ?") || !json.Valid(call.Body) {
			t.Errorf("%s is told of %s: %s", topic, s.action[id], call.Body)
		}
		var body struct{ Entry struct{ Locale string } }
		_ = json.Unmarshal(call.Body, &body)
		name := strings.TrimSpace(s.entity[id] + " " + strings.TrimPrefix(body.Entry.Locale, "en"))
		lines[name] = append(lines[name], s.action[id])
	}
	var table []string
	for _, name := range s.names {
		for _, locale := range []string{"", " pl"} {
			if told := lines[name+locale]; told != nil {
				table = append(table, name+locale+" | "+strings.Join(told, ", "))
			}
		}
	}
	return table
}

// TestCMSReplay sends the recorded requests through the proxy to a server that
// answers as the real one did, with a receiver that fails half of the time.
func TestCMSReplay(t *testing.T) {
	t.Parallel()
	for cms := range cmsTables {
		t.Run(cms, func(t *testing.T) {
			t.Parallel()
			server := &player{t: t, steps: recording(t, cms)}
			steps := server.steps
			upstream := serve(t, server)
			client := plainClient()
			throughProxy(t, upstream.URL, strings.TrimSuffix(cms, "-compress"), tableOf(cms, false), func(proxy string) {
				for i := range steps {
					resend(t, client, proxy, &steps[i])
				}
			})
		})
	}
}

// throughProxy drives a CMS through cmstap, and compares what was delivered with
// a table.
func throughProxy(t *testing.T, upstream, dialect string, want []string, drive func(proxy string)) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := newPicky()
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: %s }
outbox: { path: %q }
admin: { listen: "" }
log: { level: debug }
webhooks:
  - { name: all, url: %q, topics: ["*.*"], retry: { delays: [%s10ms] } }
`, upstream, dialect, t.TempDir(), serve(t, receiver).URL, strings.Repeat("10ms, ", 39)))
	drive("http://" + p.proxy)
	total := len(want) + strings.Count(strings.Join(want, ""), ",")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(taken(calls)) >= total }); err != nil {
		t.Error(err)
	}
	lines, err := p.stop()
	if text := strings.Join(lines, "\n"); err != nil || !strings.Contains(text, "msg=waiting deliveries=0") || strings.Contains(text, "msg=failed") {
		t.Errorf("%v: not all was delivered:\n%s", err, text)
	}
	for _, line := range lines {
		if field(line, "msg") == "looked" {
			t.Log(line) // why something is not known
		}
	}
	if diff := cmp.Diff(want, chronicleOf(lines).table(t, taken(receiver.Calls()))); diff != "" {
		t.Error(diff)
	}
}

// cmsTables are what the recordings give: for each entity, in the order in which
// they come up, what is told of it. Of two words with a slash between them the
// first one is told if cmstap can not read what an entity was before, and the
// second one if it can.
var cmsTables = map[string]string{
	"strapi": `
entry 1 | create, publish, update, publish, delete
entry 2 | create, update, update, publish, delete
entry 2 pl | create, publish
entry 3 | create, update, delete
entry 4 | create, delete
media 1 | create, update, delete
media 2 | create, delete
media 3 | create, delete
entry 5 | create, update, update, publish, update, draft-discard, unpublish, publish, unpublish, delete
entry 6 | create, publish, delete
entry 7 | create, publish, unpublish, delete
media 4 | create, delete
content-type 1 | create, update, delete
`,
	"strapi-compress": `
entry 1 | create, publish, update, publish, update, publish, update, publish, update, publish, delete
`,
	"wordpress": `
post 1 | create, update, update, update, publish, update, update, update/unpublish, delete
post 2 | create, publish, update, trash, restore, publish, update, trash, restore, delete
post 3 | create, trash, delete
post 4 | create, delete
post 5 | create, update, delete
post 6 | create, delete
post 7 | create, delete
page 1 | create, publish, delete
book 1 | create, publish, delete
category 1 | create, update, delete
comment 1 | create
attachment 1 | create, update, delete
attachment 2 | create, delete
settings 1 | update
post 8 | update/create, publish, update, unpublish, update, trash, delete
attachment 3 | create, delete
post 9 | create
`,
}

// either word of a table that has both.
var bothWords = regexp.MustCompile(`([\w-]+)/([\w-]+)`)

// tableOf is the table of a CMS where what was before can be read or not.
func tableOf(cms string, readable bool) []string {
	word := either(readable, "$2", "$1")
	return strings.Split(strings.TrimSpace(bothWords.ReplaceAllString(cmsTables[cms], word)), "\n")
}

// TestCMSDocs: the configs and dialects in docs/cms are good ones.
func TestCMSDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("docs/cms/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(block[1], "name:") {
				if _, err := rules.ParseDialect(page, []byte(block[1])); err != nil {
					t.Error(err)
				}
				continue
			}
			config, err := parseConfig(page, []byte(block[1]), &runCommand{})
			if err != nil || len(config.warnings) > 0 || i > 0 {
				t.Errorf("%s: %v %v", page, err, config)
			}
		}
	}
}
