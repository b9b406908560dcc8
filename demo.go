package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cmstap/internal/demo"
)

// scene is one request of the demo's story, and what should follow.
type scene struct {
	what    string
	method  string
	path    string
	headers map[string]string
	body    string
	status  int
	topic   string   // "" if no event follows
	wanted  []string // the webhooks that should get it
}

var (
	everyone = []string{"audit", "rebuild-site"}
	audit    = []string{"audit"}
)

// story is a small editorial day. The entry's first publish finds the receiver
// of rebuild-site down, once.
var story = []scene{
	{"create a content type", "PUT", "/spaces/demo/environments/master/content_types/post", nil, `{"name":"Post","fields":[{"id":"title","name":"Title","type":"Symbol"}]}`, 201, "ContentType.create", audit},
	{"publish it", "PUT", "/spaces/demo/environments/master/content_types/post/published", version1, "", 200, "ContentType.publish", audit},
	{"create an entry", "PUT", "/spaces/demo/environments/master/entries/hello", map[string]string{"X-Contentful-Content-Type": "post"}, `{"fields":{"title":{"en-US":"Hello"}}}`, 201, "Entry.create", audit},
	{"save it (no environment in the path: master)", "PUT", "/spaces/demo/entries/hello", version1, `{"fields":{"title":{"en-US":"Hello, world"}}}`, 200, "Entry.save", audit},
	{"save it again with an old version", "PUT", "/spaces/demo/environments/master/entries/hello", version1, `{"fields":{}}`, 409, "", nil},
	{"save something that is not an entry", "PUT", "/spaces/demo/environments/master/entries/hello", map[string]string{"X-Contentful-Version": "2"}, `{"fields":"none"}`, 422, "", nil},
	{"read it", "GET", "/spaces/demo/environments/master/entries/hello", nil, "", 200, "", nil},
	{"publish it", "PUT", "/spaces/demo/environments/master/entries/hello/published", map[string]string{"X-Contentful-Version": "2"}, "", 200, "Entry.publish", everyone},
	{"check whether it could be published", "PUT", "/spaces/demo/environments/master/entries/hello/published", map[string]string{"X-Contentful-Version": "3", "X-Contentful-Validate-Only": "true"}, "", 200, "", nil},
	{"unpublish it", "DELETE", "/spaces/demo/environments/master/entries/hello/published", nil, "", 200, "Entry.unpublish", everyone},
	{"delete it", "DELETE", "/spaces/demo/environments/master/entries/hello", nil, "", 204, "Entry.delete", audit},
	{"create an asset", "POST", "/spaces/demo/environments/master/assets", nil, `{"fields":{"title":{"en-US":"A picture"}}}`, 201, "Asset.create", audit},
}

var version1 = map[string]string{"X-Contentful-Version": "1"}

const demoConfig = `
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "127.0.0.1:0" }
webhooks:
  - name: audit
    url: %[3]s/audit
    topics: ["*.*"]
  - name: rebuild-site
    url: %[3]s/rebuild-site
    topics: [Entry.publish, Entry.unpublish]
    environments: [master]
    filter: payload.sys.contentType.sys.id == "post"
    retry: { delays: [300ms, 1s, 1s] }
`

const unseen = `What a tap can not see: with a hosted CMS (Contentful, DatoCMS, Contentstack) the
vendor's own web app talks to the CMS directly, and so do scheduled publishes.
Changes made in the CMS's database are not seen either.
`

// run plays the story and checks that every expected delivery arrived.
func (c *demoCommand) run(ctx context.Context, out io.Writer) (err error) {
	s, err := newStage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(out, "A sample CMS, cmstap in front of it, and a sample receiver, in one process.\nAt its first call the receiver of rebuild-site is down.\n\n")
	var wrong []string
	for _, scene := range story {
		status, err := s.play(ctx, scene)
		if err != nil {
			return fmt.Errorf("demo: %s: %w", scene.what, err)
		}
		if status != scene.status {
			wrong = append(wrong, fmt.Sprintf("%s: the CMS answered %d instead of %d", scene.what, status, scene.status))
		}
		s.answers = append(s.answers, status)
	}
	wrong = append(wrong, s.missing(ctx)...)
	s.print(out)
	fmt.Fprintf(out, "\n%s\n", unseen)
	if len(wrong) > 0 {
		return fmt.Errorf("demo: %s", strings.Join(wrong, "\ndemo: "))
	}
	fmt.Fprintf(out, "All %d expected deliveries arrived, and no other.\n", len(s.expected()))
	if c.Serve {
		s.invite(out)
		<-ctx.Done()
	}
	return nil
}

// stage is a sample CMS, a sample receiver, and the real cmstap between them.
type stage struct {
	folder   string
	api      *http.Server
	hooks    *http.Server
	receiver *demo.Receiver
	answers  []int // the statuses of the story's answers
	app      *app
	log      *appLog
	stopApp  context.CancelFunc
	running  sync.WaitGroup
	appErr   error
}

func newStage() (*stage, error) {
	folder, err := os.MkdirTemp("", "cmstap-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{folder: folder, stopApp: func() {}}
	s.receiver = demo.NewReceiver(demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		if call.Path == "/rebuild-site" && call.Number == 1 {
			return demo.Reply{Status: http.StatusServiceUnavailable}
		}
		return demo.Reply{}
	}})
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stage) start() (err error) {
	if s.api, err = s.serve(demo.NewContentAPI(demo.ContentAPIOptions{})); err != nil {
		return err
	}
	if s.hooks, err = s.serve(s.receiver); err != nil {
		return err
	}
	text := fmt.Sprintf(demoConfig, "http://"+s.api.Addr, filepath.Join(s.folder, "data"), "http://"+s.hooks.Addr)
	config, err := parseConfig("demo", []byte(text), &runCommand{})
	if err != nil {
		return err
	}
	config.Log.File = filepath.Join(s.folder, "cmstap.log")
	if s.log, err = openLog(config.Log, io.Discard); err != nil {
		return err
	}
	if s.app, err = newApp(config, s.log, func() (*Config, error) { return config, nil }); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopApp = cancel
	s.running.Go(func() { s.appErr = s.app.run(ctx) })
	return nil
}

// serve starts a server on a free loopback port; its Addr tells which.
func (s *stage) serve(handler http.Handler) (*http.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Addr: listener.Addr().String(), Handler: handler, ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.running.Go(func() { _ = server.Serve(listener) })
	return server, nil
}

func (s *stage) close() error {
	s.stopApp()
	for _, server := range []*http.Server{s.api, s.hooks} {
		if server != nil {
			_ = server.Close()
		}
	}
	s.running.Wait()
	if s.log != nil {
		s.log.close()
	}
	return errors.Join(s.appErr, os.RemoveAll(s.folder))
}

// play sends one request through cmstap and returns the status of the answer.
func (s *stage) play(ctx context.Context, scene scene) (int, error) {
	request, err := http.NewRequestWithContext(ctx, scene.method, "http://"+s.app.proxy.Addr()+scene.path, strings.NewReader(scene.body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer demo")
	request.Header.Set("Content-Type", "application/vnd.contentful.management.v1+json")
	for name, value := range scene.headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// delivery is a webhook call of the demo, by what it is about.
type delivery struct{ webhook, topic string }

// expected lists the deliveries that the story should make, in order.
func (s *stage) expected() []delivery {
	var list []delivery
	for _, scene := range story {
		for _, webhook := range scene.wanted {
			list = append(list, delivery{webhook, scene.topic})
		}
	}
	return list
}

// arrived lists the calls that the receiver accepted.
func arrived(calls []demo.Call) []delivery {
	var list []delivery
	for _, call := range calls {
		if call.Path == "/rebuild-site" && call.Number == 1 {
			continue // the one that was refused
		}
		topic := strings.TrimPrefix(call.Header.Get("X-Contentful-Topic"), "ContentManagement.")
		list = append(list, delivery{strings.TrimPrefix(call.Path, "/"), topic})
	}
	return list
}

// missing waits for the deliveries and names what did not come, or came
// uncalled for.
func (s *stage) missing(ctx context.Context) []string {
	want := s.expected()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = s.receiver.Wait(ctx, func(calls []demo.Call) bool { return len(arrived(calls)) >= len(want) })
	more, stop := context.WithTimeout(ctx, 200*time.Millisecond) // is there any that nobody expects?
	defer stop()
	_ = s.receiver.Wait(more, func(calls []demo.Call) bool { return len(arrived(calls)) > len(want) })
	got := arrived(s.receiver.Calls())
	var wrong []string
	for _, d := range want {
		i := slices.Index(got, d)
		if i < 0 {
			wrong = append(wrong, fmt.Sprintf("missing: %s for %s", d.topic, d.webhook))
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	for _, d := range got {
		wrong = append(wrong, fmt.Sprintf("not expected: %s for %s", d.topic, d.webhook))
	}
	return wrong
}

// print shows each request beside the calls that followed from it.
func (s *stage) print(out io.Writer) {
	calls := s.receiver.Calls()
	fmt.Fprintf(out, "%-46s %-8s %s\n", "ASKED OF THE CMS", "ANSWER", "WHAT THE RECEIVER GOT")
	for i, scene := range story {
		fmt.Fprintf(out, "%-46s %-8d", scene.what, s.answers[i])
		lines := 0
		for _, call := range calls {
			if scene.topic == "" || call.Header.Get("X-Contentful-Topic") != "ContentManagement."+scene.topic {
				continue
			}
			if lines > 0 {
				fmt.Fprintf(out, "\n%-46s %-8s", "", "")
			}
			fmt.Fprintf(out, " %s", describe(call))
			lines++
		}
		if lines == 0 {
			fmt.Fprint(out, " -")
		}
		fmt.Fprintln(out)
	}
}

// describe is a call in a few words.
func describe(call demo.Call) string {
	var body struct {
		Sys struct{ Type, ID string } `json:"sys"`
	}
	_ = json.Unmarshal(call.Body, &body)
	text := fmt.Sprintf("%-13s %-20s %s %s", strings.TrimPrefix(call.Path, "/"),
		strings.TrimPrefix(call.Header.Get("X-Contentful-Topic"), "ContentManagement."), body.Sys.Type, body.Sys.ID)
	attempt := call.Header.Get("X-Contentful-Webhook-Request-Attempt")
	switch {
	case call.Path == "/rebuild-site" && call.Number == 1:
		return text + "  (attempt 1, answered 503)"
	case attempt != "1":
		return text + "  (attempt " + attempt + ")"
	default:
		return text
	}
}

// invite says where everything runs and how to try it.
func (s *stage) invite(out io.Writer) {
	fmt.Fprintf(out, `
Everything keeps running until Ctrl-C.
  cmstap    http://%[1]s   (this is what you talk to)
  CMS       http://%[2]s
  receiver  http://%[3]s
  log       %[4]s   (tail -f it)
  pages     http://%[5]s/   (what happened, and why)

Try:
  curl -X PUT http://%[1]s/spaces/demo/entries/mine -H 'Authorization: Bearer demo' -H 'X-Contentful-Content-Type: post' -d '{"fields":{"title":{"en-US":"Mine"}}}'
  curl -X PUT http://%[1]s/spaces/demo/entries/mine/published -H 'Authorization: Bearer demo' -H 'X-Contentful-Version: 1'
  curl -X DELETE http://%[1]s/spaces/demo/entries/mine/published -H 'Authorization: Bearer demo'
`, s.app.proxy.Addr(), s.api.Addr, s.hooks.Addr, s.log.out.path, s.app.admin.Addr())
}
