package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// TestCrash kills cmstap with SIGKILL at random moments under load, starts it
// again, and compares what the CMS executed with what the webhooks got.
// CMSTAP_CRASH_TRIALS and CMSTAP_CRASH_SEED choose how many and which.
func TestCrash(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	runTrials(t, "CMSTAP_CRASH", 5, func(seed uint64) *crash { return newCrash(t, program, seed) })
}

// TestCrashResolved does the same with a recovery token: then no event may stay
// unconfirmed, but for creates whose id nobody saw.
func TestCrashResolved(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	runTrials(t, "CMSTAP_CRASH", 5, func(seed uint64) *crash {
		c := newCrash(t, program, seed)
		c.recover(t)
		return c
	})
}

// runTrials runs as many trials as the variables say that begin with a name.
func runTrials(t *testing.T, name string, usual int, prepare func(seed uint64) *crash) {
	t.Helper()
	trials, seed := number(name+"_TRIALS", usual), number(name+"_SEED", 1)
	var total tally
	for i := range trials {
		c := prepare(uint64(seed + i))
		for _, violation := range c.run(t) {
			t.Errorf("seed %d: %s", seed+i, violation)
		}
		total.add(c.tally)
	}
	t.Logf("%d trials from seed %d: %s", trials, seed, total)
}

// TestCrashControls shows that the trials can fail: they must when an intent
// is stored only after the forward, when it is removed before the commit, when
// a delivery is taken for done too early, when an event is invented, and when a job
// is not stored.
func TestCrashControls(t *testing.T) {
	trials := number("CMSTAP_CONTROL_TRIALS", 0)
	if trials == 0 {
		t.Skip("set CMSTAP_CONTROL_TRIALS=20 to run the controls; each builds a broken cmstap")
	}
	control := func(name string, prepare func(*testing.T, string, uint64) *crash, edits ...string) {
		t.Helper()
		program := buildBroken(t, edits)
		for seed := 1; seed <= trials; seed++ {
			if violations := prepare(t, program, uint64(seed)).run(t); len(violations) > 0 {
				t.Logf("%s: seed %d fails as it should: %s", name, seed, violations[0])
				return
			}
		}
		t.Errorf("%s: %d trials found nothing", name, trials)
	}
	control("begin after the forward", newCrash,
		"tap.go", "if err = t.outbox.Begin(ctx, intent); err == nil {", "if _ = ctx; err == nil {",
		"tap.go", "func (t *tap) Finish(x *event.Exchange) {\n", "func (t *tap) Finish(x *event.Exchange) {\n\t_ = t.outbox.Begin(context.Background(), x.Intent)\n")
	control("an answer of 500 counts as delivered", newCrash,
		"sender/judge.go", "a.attempt.Status >= 200 && a.attempt.Status < 300", "a.attempt.Status >= 200 && a.attempt.Status < 600")
	control("a refused write becomes an event", newCrash,
		"tap.go", "return t.outbox.Drop(ctx, x.Intent.ID)", "x.Outcome = event.Done\n\t\treturn t.commit(ctx, x)")
	control("a job is not stored", newJobCrash,
		"tap.go", "t.now().Learn(x), job); err", "t.now().Learn(x), nil); err")
	control("intent removed before the commit", newCrash,
		"tap.go", "if err := t.outbox.Commit(ctx, ", "_ = t.outbox.Drop(ctx, x.Intent.ID)\n\tif err := t.outbox.Commit(ctx, ")
}

// buildBroken builds a copy of cmstap in which texts of files are replaced.
func buildBroken(t *testing.T, edits []string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	for edit := range slices.Chunk(edits, 3) {
		file := filepath.Join(folder, edit[0])
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(edit[1])) {
			t.Fatalf("%s has no %q any more; mend this control (%v)", edit[0], edit[1], err)
		}
		text = bytes.ReplaceAll(text, []byte(edit[1]), []byte(edit[2]))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(folder, "cmstap-broken")
	if err := build(folder, program); err != nil {
		t.Fatal(err)
	}
	return program
}

func number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return otherwise
}

// tally is what a trial did.
type tally struct{ kills, accepted, refused, calls, duplicates, unconfirmed, inFlight int }

func (t *tally) add(o tally) {
	t.kills += o.kills
	t.accepted += o.accepted
	t.refused += o.refused
	t.calls += o.calls
	t.duplicates += o.duplicates
	t.unconfirmed += o.unconfirmed
	t.inFlight += o.inFlight
}

func (t tally) String() string {
	return fmt.Sprintf("%d kills, %d writes accepted, %d refused or cut, %d calls, %d of them duplicates, %d unconfirmed events with %d requests in flight at the kills",
		t.kills, t.accepted, t.refused, t.calls, t.duplicates, t.unconfirmed, t.inFlight)
}

// crash is one trial: a sample CMS and receiver that live through it, and a
// cmstap that does not.
type crash struct {
	seed     uint64
	program  string
	config   string
	api      *demo.ContentAPI
	writers  int
	write    func(ctx context.Context, n int) // what one writer does until ctx ends
	verify   func() []string                  // every broken promise
	receiver *demo.Receiver
	address  atomic.Pointer[string] // of the cmstap that runs
	recovers bool                   // it has a recovery token
	quiet    time.Duration          // after which nothing more is to come
	flying   atomic.Int64           // requests in flight
	begun    atomic.Int64           // requests ever begun
	tally    tally

	mu       sync.Mutex
	accepted []demo.Call   // the calls that got 200
	more     chan struct{} // closed and replaced with every one
}

// delivered records a call that is answered with 200.
func (c *crash) delivered(call demo.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted = append(c.accepted, call)
	c.wake()
}

// wake has settled look again; c.mu is held.
func (c *crash) wake() {
	close(c.more)
	c.more = make(chan struct{})
}

func (c *crash) calls() (accepted []demo.Call, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.accepted), c.more
}

// settled waits until nothing is missing, and then until no call came for a
// while: what is invented may come late.
func (c *crash) settled(missing func([]demo.Call) []string) []demo.Call {
	end := time.After(30 * time.Second)
	for {
		calls, more := c.calls()
		quiet := time.After(c.quiet)
		if len(missing(calls)) > 0 {
			quiet = nil
		}
		select {
		case <-more:
		case <-quiet:
			return calls
		case <-end:
			return calls
		}
	}
}

// crashDelays are the waits between the attempts of a delivery.
const crashDelays = "[10ms, 20ms, 50ms, 100ms, 200ms, 500ms, 1s, 1s]"

// newTrial is a trial with a receiver that fails now and then, without a CMS.
func newTrial(program string, seed uint64) (*crash, *lockedRand) {
	c := &crash{seed: seed, program: program, more: make(chan struct{}), quiet: 500 * time.Millisecond}
	random := &lockedRand{r: rand.New(rand.NewPCG(seed, 1))}
	c.receiver = demo.NewReceiver(demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		random.nap(time.Millisecond)
		if random.below(20) == 0 {
			return demo.Reply{Status: http.StatusInternalServerError}
		}
		c.delivered(call)
		return demo.Reply{}
	}})
	return c, random
}

func newCrash(t *testing.T, program string, seed uint64) *crash {
	t.Helper()
	c, random := newTrial(program, seed)
	c.writers, c.write, c.verify = 8, c.writeEntries, c.verifyEntries
	c.api = demo.NewContentAPI(demo.ContentAPIOptions{
		Before: func(*http.Request) demo.Fault { random.nap(time.Millisecond); return demo.NoFault },
		After:  func(demo.Write) demo.Fault { random.nap(2 * time.Millisecond); return demo.NoFault },
	})
	api, hooks := serve(t, c.api), serve(t, c.receiver)
	for _, kind := range []string{"post", "page"} {
		request := httptest.NewRequest("PUT", "/spaces/s/environments/master/content_types/"+kind, strings.NewReader(`{"name":"x","fields":[]}`))
		request.Header.Set("Authorization", "Bearer x")
		c.api.ServeHTTP(httptest.NewRecorder(), request)
	}
	c.configure(t, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
webhooks:
  - { name: all, url: %[3]s/all, topics: ["*.*"], retry: { delays: %[4]s } }
  - name: posts
    url: %[3]s/posts
    topics: ["Entry.*"]
    filter: payload.sys.contentType.sys.id == "post"
    retry: { delays: %[4]s }
`, api.URL, t.TempDir(), hooks.URL, crashDelays))
	return c
}

func (c *crash) configure(t *testing.T, text string) {
	t.Helper()
	c.config = filepath.Join(t.TempDir(), "cmstap.yaml")
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// recover gives the trial's config a recovery token.
func (c *crash) recover(t *testing.T) {
	t.Helper()
	c.recovers, c.quiet = true, 1500*time.Millisecond
	text, err := os.ReadFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "recovery: { token: { value: x }, ask_after: [100ms, 300ms, 900ms] }\n"...)
	if err := os.WriteFile(c.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run is the trial; it returns every broken promise.
func (c *crash) run(t *testing.T) []string {
	t.Helper()
	random := rand.New(rand.NewPCG(c.seed, 2))
	p, err := launch(c.program, c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.address.Store(&p.proxy)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var writers sync.WaitGroup
	for n := range c.writers {
		writers.Go(func() { c.write(ctx, n) })
	}
	for range 1 + random.IntN(3) {
		<-time.After(time.Duration(random.IntN(150_000)) * time.Microsecond)
		flying, begun := c.flying.Load(), c.begun.Load()
		p.kill()
		c.tally.inFlight += int(flying + c.begun.Load() - begun) // those that began while it died, too
		c.tally.kills++
		if p, err = launch(c.program, c.config); err != nil {
			t.Fatal(err)
		}
		c.address.Store(&p.proxy)
	}
	<-time.After(time.Duration(random.IntN(50)) * time.Millisecond)
	cancel()
	writers.Wait()
	violations := c.verify()
	p.kill()
	return violations
}

// writeEntries is one client: it works on entries of its own until ctx ends.
func (c *crash) writeEntries(ctx context.Context, n int) {
	random := rand.New(rand.NewPCG(c.seed, uint64(100+n)))
	kinds := []string{"post", "page"}
	for i := 0; ctx.Err() == nil; i++ {
		kind := kinds[random.IntN(2)]
		id := fmt.Sprintf("%s-%d-%d", kind, n, i)
		path := "/spaces/s/environments/master/entries/" + id
		body := fmt.Sprintf(`{"fields":{"text":{"en-US":%q}}}`, strings.Repeat("x", random.IntN(3000)))
		steps := []func() bool{
			func() bool { return c.ask(ctx, "PUT", path, body, "X-Contentful-Content-Type", kind) },
			func() bool { return c.ask(ctx, "PUT", path, body, "X-Contentful-Version", "1") },
			func() bool { return c.ask(ctx, "PUT", path+"/published", "", "X-Contentful-Version", "2") },
			func() bool { return c.ask(ctx, "DELETE", path+"/published", "") },
			func() bool { return c.ask(ctx, "DELETE", path, "") },
		}
		for i, step := range steps[:1+random.IntN(len(steps))] {
			// Nobody can tell afterwards whether an entity was deleted that
			// may never have been there.
			if answered := step(); i == 0 && c.recovers && !answered {
				break
			}
		}
		switch random.IntN(6) {
		case 0:
			c.ask(ctx, "PUT", "/spaces/s/environments/master/entries/refused-"+id, body, "X-Contentful-Version", "7")
		case 1:
			c.ask(ctx, "POST", "/spaces/s/environments/master/entries", `{"fields":"no"}`, "X-Contentful-Content-Type", kind)
		case 2:
			c.cut(ctx, "/spaces/s/environments/master/entries/cut-"+id)
		case 3:
			c.ask(ctx, "POST", "/spaces/s/environments/master/assets", `{"fields":{}}`)
		}
	}
}

// ask sends one request and tells whether there was an answer. What it says
// does not matter here, the CMS counts.
func (c *crash) ask(ctx context.Context, method, path, body string, header ...string) (answered bool) {
	_, answered = c.send(ctx, method, path, body, header...)
	return answered
}

// send sends one request and returns the answer's body.
func (c *crash) send(ctx context.Context, method, path, body string, header ...string) (answer string, answered bool) {
	request, err := http.NewRequest(method, "http://"+*c.address.Load()+path, strings.NewReader(body))
	if err != nil || ctx.Err() != nil {
		return "", false
	}
	request.Header.Set("Authorization", "Bearer x")
	if len(header) == 2 {
		request.Header.Set(header[0], header[1])
	}
	c.begun.Add(1)
	c.flying.Add(1)
	defer c.flying.Add(-1)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		select { // cmstap is down: do not spin
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
		return "", false
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err == nil
}

// cut starts a large upload and leaves in the middle.
func (c *crash) cut(ctx context.Context, path string) {
	c.begun.Add(1)
	c.flying.Add(1)
	defer c.flying.Add(-1)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", *c.address.Load())
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 200000\r\n\r\n%s", path, strings.Repeat(" ", 100_000))
	_ = conn.SetDeadline(time.Now().Add(3 * time.Millisecond))
	_, _ = conn.Read(make([]byte, 1))
	// Wait for the answer to the half, so that this counts as in flight as
	// long as cmstap works on it.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Read(make([]byte, 1))
}

// about is what a call or a write is about.
type about struct{ topic, entity string }

// seen is what the calls to one webhook show.
type seen struct {
	confirmed   map[about]map[string]bool // the ids of confirmed events
	unconfirmed map[about]map[string]bool
	calls       int
}

func readCalls(calls []demo.Call, aboutOf func(demo.Call) about) seen {
	s := seen{confirmed: map[about]map[string]bool{}, unconfirmed: map[about]map[string]bool{}, calls: len(calls)}
	for _, call := range calls {
		key := aboutOf(call)
		into := s.confirmed
		if call.Header.Get("X-Cmstap-Confirmed") == "false" {
			into = s.unconfirmed
		}
		if into[key] == nil {
			into[key] = map[string]bool{}
		}
		into[key][call.Header.Get("X-Cmstap-Event")] = true
	}
	return s
}

// entryOf is what a call in Contentful's form is about.
func entryOf(call demo.Call) about {
	var body struct {
		Sys struct{ ID string } `json:"sys"`
	}
	_ = json.Unmarshal(call.Body, &body)
	return about{strings.TrimPrefix(call.Header.Get("X-Contentful-Topic"), "ContentManagement."), body.Sys.ID}
}

func events(by map[about]map[string]bool) int {
	n := 0
	for _, ids := range by {
		n += len(ids)
	}
	return n
}

// verifyEntries waits until every accepted write has its event at every webhook that
// should get it, and then names what is missing or invented.
func (c *crash) verifyEntries() []string {
	accepted := map[about]int{}
	writes := c.api.Writes()[2:] // without the content types
	for _, w := range writes {
		accepted[about{w.Type + "." + w.Action, w.ID}]++
	}
	c.tally.accepted = len(writes)
	c.tally.refused = c.api.Requests() - 2 - len(writes)
	calls := c.settled(func(calls []demo.Call) []string { return c.missing(accepted, calls) })
	violations := c.missing(accepted, calls)
	all, posts := readCalls(demo.On(calls, "/all"), entryOf), readCalls(demo.On(calls, "/posts"), entryOf)
	violations = append(violations, invented(accepted, all)...)
	violations = append(violations, invented(accepted, posts)...)
	for key := range posts.confirmed {
		if strings.HasPrefix(key.entity, "page") && key.topic != "Entry.delete" {
			violations = append(violations, fmt.Sprintf("%v went to posts", key))
		}
	}
	c.tally.calls = len(calls)
	c.tally.unconfirmed = events(all.unconfirmed)
	c.tally.duplicates = all.calls - events(all.confirmed) - events(all.unconfirmed)
	for key := range all.unconfirmed {
		if c.recovers && key.entity != "" {
			violations = append(violations, fmt.Sprintf("%v stays unconfirmed", key))
		}
	}
	if c.tally.unconfirmed > c.tally.inFlight {
		violations = append(violations, fmt.Sprintf("%d unconfirmed events, but only %d requests were in flight: %v", c.tally.unconfirmed, c.tally.inFlight, all.unconfirmed))
	}
	return violations
}

// missing names accepted writes without an event.
func (c *crash) missing(accepted map[about]int, calls []demo.Call) []string {
	all, posts := readCalls(demo.On(calls, "/all"), entryOf), readCalls(demo.On(calls, "/posts"), entryOf)
	var violations []string
	nameless := len(all.unconfirmed[about{"Asset.create", ""}]) // creates whose id nobody saw
	for key, n := range accepted {
		got := len(all.confirmed[key]) + len(all.unconfirmed[key])
		for ; got < n && key.topic == "Asset.create" && nameless > 0; nameless-- {
			got++
		}
		if got < n {
			violations = append(violations, fmt.Sprintf("all: %v was accepted %d times and has %d events", key, n, got))
		}
		if strings.HasPrefix(key.entity, "post") && len(posts.confirmed[key])+len(posts.unconfirmed[key]) < n {
			violations = append(violations, fmt.Sprintf("posts: %v was accepted %d times and has %d events", key, n, len(posts.confirmed[key])+len(posts.unconfirmed[key])))
		}
	}
	return violations
}

// invented names confirmed events that no accepted write explains: also what
// duplicates with unequal ids would be.
func invented(accepted map[about]int, s seen) []string {
	var violations []string
	for key, ids := range s.confirmed {
		if len(ids) > accepted[key] {
			violations = append(violations, fmt.Sprintf("%v was accepted %d times and has %d confirmed events", key, accepted[key], len(ids)))
		}
	}
	return violations
}

// lockedRand is a seeded source for handlers that run beside each other.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (l *lockedRand) below(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

// nap waits a random time, so that a kill finds requests at every hop.
func (l *lockedRand) nap(longest time.Duration) {
	<-time.After(time.Duration(l.below(int(longest))))
}
