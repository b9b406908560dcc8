package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// aliased is a cmstap in front of a sample CMS, with a webhook for the
// environment or alias master, one for live and one for everything. A filter
// hands over what events say of environments.
type aliased struct {
	receiver *demo.Receiver
	api      *demo.ContentAPI
	config   string
	process  *process
	sent     int
}

func newAliased(t *testing.T, program, settings string, respond func(demo.Call) demo.Reply) *aliased {
	t.Helper()
	a := &aliased{receiver: demo.NewReceiver(demo.ReceiverOptions{Respond: respond}), api: demo.NewContentAPI(demo.ContentAPIOptions{})}
	a.config = fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks:
  - { name: master, url: %[3]s/master, topics: ["Entry.*"], environments: [master] }
  - { name: live, url: %[3]s/live, topics: ["Entry.*"], environments: [live] }
  - { name: to-live, url: %[3]s/to-live, topics: ["Entry.*"], filter: alias == "master" and target == "live" }
  - { name: to-next, url: %[3]s/to-next, topics: ["Entry.*"], filter: alias == "master" and target == "next" }
  - { name: moved, url: %[3]s/moved, topics: [EnvironmentAlias.change_target], filter: alias == "master" and target == "next" }
  - { name: all, url: %[3]s/all, topics: ["*.*"], retry: { delays: [100ms, 100ms, 100ms, 100ms, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s] } }
%[4]s
`, serve(t, a.api).URL, t.TempDir(), serve(t, a.receiver).URL, settings)
	a.process = start(t, program, a.config)
	return a
}

func (a *aliased) ask(t *testing.T, method, path, body, version string, want int) {
	t.Helper()
	status, text, err := ask(method, "http://"+a.process.proxy+"/spaces/s"+path, body,
		map[string]string{"X-Contentful-Content-Type": "post", "X-Contentful-Version": version})
	if err != nil || status != want {
		t.Fatalf("%s %s: %d %s %v, want %d", method, path, status, text, err, want)
	}
}

// link points the alias master at an environment.
func (a *aliased) link(t *testing.T, to, version string, want int) {
	t.Helper()
	a.ask(t, http.MethodPut, "/environment_aliases/master", `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"`+to+`"}}}`, version, want)
}

// save creates an entry at an address, and returns which webhooks got it.
func (a *aliased) save(t *testing.T, address string) string {
	t.Helper()
	a.sent++
	id := fmt.Sprint("entry", a.sent)
	a.ask(t, http.MethodPut, address+"/entries/"+id, `{"fields":{}}`, "", 201)
	return a.reached(t, id)
}

// reached waits until an entry's event was delivered to all, and returns who
// got it.
func (a *aliased) reached(t *testing.T, id string) string {
	t.Helper()
	captured := a.process.waitLine(t, "msg=captured", "entity="+id+" ")
	for range strings.Split(field(captured, "webhooks"), ",") {
		a.process.waitLine(t, "msg=delivered", "entity="+id+" ")
	}
	return field(captured, "webhooks")
}

// TestAliases: a webhook for an environment fires for what is addressed by
// that name, the alias's or the environment's. An alias that is retargeted
// changes nothing that waits already, and what was learned survives.
func TestAliases(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a := newAliased(t, program, "", nil)
	check := func(address, want string) {
		t.Helper()
		if got := a.save(t, address); got != want {
			t.Errorf("%s reached %s, want %s", address, got, want)
		}
	}
	a.ask(t, http.MethodPut, "/environments/live/content_types/post", `{"name":"x","fields":[]}`, "", 201)
	a.ask(t, http.MethodPut, "/environments/next/content_types/post", `{"name":"x","fields":[]}`, "", 201)
	a.link(t, "live", "", 201)
	a.process.waitLine(t, "msg=alias", "alias=master target=live")
	a.process.waitLine(t, "msg=delivered", "topic=EnvironmentAlias.create")

	// The three examples of the vendor's page on aliases and webhooks.
	check("", "master,to-live,all")
	check("/environments/master", "master,to-live,all")
	check("/environments/live", "live,all")

	if _, err := a.process.stop(); err != nil {
		t.Fatal(err)
	}
	a.process = start(t, program, a.config)
	check("", "master,to-live,all")

	a.link(t, "next", "1", 200)
	a.process.waitLine(t, "msg=delivered", "webhook=moved", "topic=EnvironmentAlias.change_target")
	check("", "master,to-next,all")
	check("/environments/live", "live,all")

	a.ask(t, http.MethodDelete, "/environment_aliases/master", "", "2", 204)
	a.process.waitLine(t, "msg=alias", `target=""`)
	a.process.waitLine(t, "msg=delivered", "topic=EnvironmentAlias.delete")
	a.ask(t, http.MethodPut, "/content_types/post", `{"name":"x","fields":[]}`, "", 201)
	check("", "master,all")
}

// TestAliasesAreObserved: links are learned from lists that pass, and from the
// config until then.
func TestAliasesAreObserved(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a := newAliased(t, program, "aliases: { s: { master: next } }", nil)
	direct := func(method, path, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, serve(t, a.api).URL+"/spaces/s"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer x")
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.StatusCode != 201 {
			t.Fatal(response, err)
		}
		response.Body.Close()
	}
	direct("PUT", "/environments/live/content_types/post", `{"name":"x","fields":[]}`)
	direct("PUT", "/environment_aliases/master", `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"live"}}}`)
	if got := a.save(t, ""); got != "master,to-next,all" {
		t.Errorf("the config's alias reached %s", got)
	}
	a.ask(t, http.MethodGet, "/environments", "", "", 200)
	a.process.waitLine(t, "msg=alias", "alias=master target=live")
	if got := a.save(t, ""); got != "master,to-live,all" {
		t.Errorf("the observed alias reached %s", got)
	}
}

// TestRetargetWhileQueued: the alias moves while a receiver fails. What waits
// for it keeps its target, its id, its content and its order, and holds back
// nothing of the new target, where the same id is another entity.
func TestRetargetWhileQueued(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var first, moved atomic.Value // ids of events
	failing := make(chan bool, 100)
	a := newAliased(t, program, "", func(c demo.Call) demo.Reply {
		id := c.Header.Get("X-Contentful-Idempotency-Key")
		switch {
		case c.Path != "/all" || !strings.HasPrefix(c.Header.Get("X-Contentful-Topic"), "ContentManagement.Entry."):
		case first.CompareAndSwap(nil, id), id == first.Load() && moved.Load() == nil:
			failing <- true
			return demo.Reply{Status: http.StatusServiceUnavailable}
		case id != first.Load():
			moved.CompareAndSwap(nil, id)
		}
		return demo.Reply{}
	})
	for _, environment := range []string{"live", "next"} {
		a.ask(t, http.MethodPut, "/environments/"+environment+"/content_types/post", `{"name":"x","fields":[]}`, "", 201)
	}
	a.link(t, "live", "", 201)
	a.ask(t, http.MethodPut, "/entries/x", `{"fields":{"n":1}}`, "", 201)
	a.ask(t, http.MethodPut, "/entries/x", `{"fields":{"n":2}}`, "1", 200)
	<-failing
	a.link(t, "next", "1", 200)
	a.ask(t, http.MethodPut, "/entries/x", `{"fields":{"n":3}}`, "", 201)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = a.receiver.Wait(ctx, func(calls []demo.Call) bool {
		return strings.HasSuffix(versions(t, calls), "2") && len(demo.On(calls, "/to-live")) == 2 && len(demo.On(calls, "/to-next")) == 1
	})
	calls := a.receiver.Calls()
	if got := versions(t, calls); err != nil || !regexp.MustCompile(`^(1 )+3 (1 )?2$`).MatchString(got) {
		t.Fatalf("%v: the calls were %s", err, got)
	}
	ids := map[string]bool{}
	for _, call := range entries(calls) {
		ids[call.Header.Get("X-Contentful-Idempotency-Key")] = true
	}
	if len(ids) != 3 {
		t.Errorf("three events have %d ids", len(ids))
	}
}

// versions lists what the calls say of entries, by the field n.
func versions(t *testing.T, calls []demo.Call) string {
	t.Helper()
	var found []string
	for _, call := range entries(calls) {
		var body struct{ Fields struct{ N json.Number } }
		if err := json.Unmarshal(call.Body, &body); err != nil {
			t.Error(err)
		}
		found = append(found, body.Fields.N.String())
	}
	return strings.Join(found, " ")
}

// entries are the calls to the webhook for everything that are about entries.
func entries(calls []demo.Call) (found []demo.Call) {
	for _, call := range demo.On(calls, "/all") {
		if strings.HasPrefix(call.Header.Get("X-Contentful-Topic"), "ContentManagement.Entry.") {
			found = append(found, call)
		}
	}
	return found
}
