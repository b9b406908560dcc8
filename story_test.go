package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cmstap/event"

	"github.com/chromedp/chromedp"
)

// outage is a day on which a receiver was down, and a webhook calls it with what it
// does not want.
type outage struct {
	*reloading
	mu   sync.Mutex
	down bool
	got  []string // what the receiver took
}

const (
	storyRule   = `- { name: search, url: "RECEIVER/", topics: "Entry.*", retry: { delays: [], on: [5xx] } }`
	storyMended = `- { name: search, url: "RECEIVER/", topics: Entry.publish, retry: { delays: [], on: [5xx] } }`
)

func newOutage(t *testing.T) *outage {
	t.Helper()
	s := &outage{down: true}
	s.reloading = startReloading(t, storyRule, s.receive)
	s.write(t, "msg=failed", "a/published")
	s.write(t, "msg=failed", "b/published")
	s.mu.Lock()
	s.down = false
	s.mu.Unlock()
	s.write(t, "msg=failed", "c")
	s.write(t, "msg=delivered", "d/published")
	return s
}

func (s *outage) receive(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entity struct{ Sys struct{ ID string } }
	_ = json.NewDecoder(r.Body).Decode(&entity)
	topic := r.Header.Get("X-Contentful-Topic")
	switch {
	case s.down:
		w.WriteHeader(503)
	case topic != "ContentManagement.Entry.publish":
		w.WriteHeader(422)
		_, _ = io.WriteString(w, `{"error":"only what is published belongs into the index"}`)
	default:
		s.got = append(s.got, entity.Sys.ID+r.Header.Get("X-Cmstap-Redelivery"))
	}
}

// write saves or publishes an entry and waits for what becomes of that.
func (s *outage) write(t *testing.T, line, entry string) {
	t.Helper()
	if status, body, err := ask("PUT", "http://"+s.proxy+"/spaces/s/environments/master/entries/"+entry, "{}", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	id, _, _ := strings.Cut(entry, "/")
	s.waitLine(t, line, "webhook=search", "entity="+id)
}

// ends checks how the day ends: what was missing was sent again, and what nobody
// wants is not sent any more.
func (s *outage) ends(t *testing.T) {
	t.Helper()
	s.waitLine(t, "msg=delivered", "entity=a")
	s.waitLine(t, "msg=delivered", "entity=b")
	if status, body, err := ask("PUT", "http://"+s.proxy+"/spaces/s/environments/master/entries/e", "{}", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	s.waitLine(t, "msg=captured", "topic=Entry.save", "entity=e")
	s.write(t, "msg=delivered", "f/published")
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.got, " "); got != "d aresend bresend f" {
		t.Errorf("the receiver took %q", got)
	}
}

// TestStoryByCommands: the operator finds what failed, sees why, mends the rule,
// tries it on what is recorded, reloads, and has the rest sent again.
func TestStoryByCommands(t *testing.T) {
	t.Parallel()
	s := newOutage(t)
	o := newOperator(t, s.process.admin, reloadToken)
	ask := func(code int, args ...string) string {
		t.Helper()
		got, out, stderr := o.run(args...)
		if got != code {
			t.Fatalf("%q: %d %s%s", args, got, out, stderr)
		}
		return out
	}
	if out := steady(ask(0, "webhooks")); !strings.Contains(out, "search") {
		t.Error(out)
	}
	var failed event.Page[event.Call]
	if err := json.Unmarshal([]byte(ask(0, "calls", "--result", "failed", "--since", "1h", "--json")), &failed); err != nil || len(failed.Items) != 3 {
		t.Fatalf("%v: %+v", err, failed)
	}
	last := failed.Items[0]
	if out := ask(0, "show", last.ID); last.Status != 422 || !strings.Contains(out, "only what is published belongs into the index") {
		t.Error(out)
	}
	if out := ask(0, "explain", last.Event); !strings.Contains(out, "search") || !strings.Contains(out, "yes") {
		t.Error(out)
	}

	mended := filepath.Join(t.TempDir(), "new.yaml")
	if err := os.WriteFile(mended, []byte("proxy: { upstream: https://cms.example }\nwebhooks:\n"+strings.ReplaceAll(storyMended, "RECEIVER", "https://x.example")), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := runCommandLine(t, "replay", "-c", mended, "--at", o.config, "--since", "7d", "--diff")
	if code != 2 || !strings.Contains(out, "4 events: 3 deliveries are the same, 0 appear, 1 disappear") || !strings.Contains(steady(out), "~ disappears search Entry.save c ~") {
		t.Errorf("%d %s%s", code, out, stderr)
	}

	s.reloading.write("", storyMended)
	if out := ask(0, "reload"); !strings.Contains(out, "changed: webhooks[0].topics[0]") {
		t.Error(out)
	}
	if out := ask(0, "explain", last.Event); !strings.Contains(out, "no") {
		t.Error(out)
	}
	if out := ask(0, "resend", "--failed", "--topic", "Entry.publish", "--since", "1h", "--yes"); !strings.Contains(out, "2") {
		t.Error(out)
	}
	s.ends(t)
}

// TestStoryByPages: the same in a browser.
func TestStoryByPages(t *testing.T) {
	t.Parallel()
	browser := newBrowser(t)
	s := newOutage(t)
	b := newTab(t, browser, "http://"+s.process.admin)
	b.login()
	b.see("tbody", "search")
	b.leads(chromedp.Click(chromedp.CSS(`nav a[href="/calls"]`)))
	b.do(chromedp.SetValue(chromedp.CSS("[name=result]"), "failed"))
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	if rows := eval[int](b, `document.querySelectorAll("tbody tr").length`); rows != 3 {
		t.Fatalf("%d calls: %s", rows, b.text("main"))
	}
	b.leads(chromedp.Click(chromedp.CSS("tbody tr a")))
	b.see("main", "only what is published belongs into the index")
	b.leads(chromedp.Click(chromedp.CSS(`main a[href^="/events/"]`)))
	address := b.path()
	b.leads(chromedp.Click(chromedp.CSS(`main a[href$="/why"]`)))
	b.see("main", "yes")

	b.leads(chromedp.Click(chromedp.CSS(`nav a[href="/try"]`)))
	b.do(chromedp.SetValue(chromedp.CSS("[name=config]"), "webhooks:\n- { name: search, topics: Entry.publishh }\nx"))
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	b.see(".wrong", "config:")
	b.do(chromedp.SetValue(chromedp.CSS("[name=config]"), "proxy: { upstream: https://cms.example }\nwebhooks:\n"+strings.ReplaceAll(storyMended, "RECEIVER", "https://x.example")))
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	b.see("main", "Of 4 events: 0 deliveries appear, 1 disappear, 3 stay.")
	b.see("tbody", "Entry.save")
	b.shoot("try")

	s.reloading.write("", storyMended)
	b.leads(chromedp.Click(chromedp.CSS(`nav a[href="/settings"]`)))
	b.see("tbody", "Entry.*")
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	b.see("[role=status]", "The config file was read")
	b.see("tbody", "Entry.publish")
	b.shoot("settings")
	b.open(address + "/why")
	b.see("main", "no")

	b.leads(chromedp.Click(chromedp.CSS(`nav a[href="/dead"]`)))
	b.do(chromedp.SetValue(chromedp.CSS("[name=topic]"), "Entry.publish"))
	b.leads(chromedp.Click(chromedp.CSS(".filter button")))
	if text := b.text(".act button"); text != "Send 2 again" {
		t.Fatal(text)
	}
	b.leads(chromedp.Click(chromedp.CSS(".act button")))
	b.see("[role=status]", "2 deliveries are sent again.")
	s.ends(t)
	_ = b.take() // a config with a mistake is answered with 400, which the console says
}

func runCommandLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), nil, args, &out, &errs)
	return code, out.String(), errs.String()
}
