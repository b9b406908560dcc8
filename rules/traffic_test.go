package rules_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// recorded is one exchange with a real server.
type recorded struct {
	Step    string
	Event   *string // a reading of what the request means; none: nothing
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
	Own []ownReport `json:"cms_own_webhooks"`
}

// ownReport is what the CMS itself said of it.
type ownReport struct {
	Label   string
	Headers map[string]string
	Body    json.RawMessage
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

// recording reads the exchanges of a file in testdata.
func recording(t *testing.T, file string) []recorded {
	t.Helper()
	var traffic struct{ Exchanges []recorded }
	readJSON(t, file, &traffic)
	return traffic.Exchanges
}

func headersOf(list [][2]string) textproto.MIMEHeader {
	found := textproto.MIMEHeader{}
	for _, header := range list {
		found.Add(header[0], header[1])
	}
	return found
}

// answer is the body of the answer, its content coding undone.
func (r *recorded) answer(t *testing.T) []byte {
	t.Helper()
	body := r.Response.Body.bytes()
	if headersOf(r.Response.Headers).Get("Content-Encoding") != "gzip" {
		return body
	}
	plain, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	body, err = io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// replay lets a dialect see exchanges in order.
type replay struct{ memory }

func newReplay(t *testing.T, dialect string) *replay {
	t.Helper()
	d, err := rules.LoadDialect(dialect)
	if err != nil {
		t.Fatal(err)
	}
	return &replay{memory{t: t, r: rules.New(d, nil), states: map[string]event.State{}}}
}

// alone returns the events of a request of which nothing is known. Status 0 means
// that no answer was seen.
func (p *replay) alone(request, body string, status int, answer string, more ...[2]string) []event.Event {
	p.t.Helper()
	var x recorded
	x.Step = request
	x.Request.Method, x.Request.Path, _ = strings.Cut(request, " ")
	x.Request.Body.Text, x.Response.Body.Text = body, answer
	x.Request.Headers, x.Response.Headers = more, more
	x.Response.Status = status
	clear(p.states)
	return p.see(&x)
}

// see returns the events of an exchange.
func (p *replay) see(x *recorded) []event.Event {
	p.t.Helper()
	path, query, _ := strings.Cut(x.Request.Path, "?")
	head := event.Head{Method: x.Request.Method, Path: path, Query: query, Headers: headersOf(x.Request.Headers)}
	plan := p.r.Classify(head, nil)
	if plan.Body {
		plan = p.r.Identify(head, event.Copy{Bytes: x.Request.Body.bytes()}, nil)
	}
	if plan.Class != event.Write {
		return nil
	}
	checkIntent(p.t, x, plan.Intent)
	plan.Intent.ID, plan.Intent.Last = "intent", p.states[plan.Intent.Entity].Last
	done := &event.Exchange{
		Intent: plan.Intent, Status: x.Response.Status, Time: at, Answer: event.Copy{Bytes: x.answer(p.t)},
		Location: headersOf(x.Response.Headers).Get("Location"),
	}
	switch plan.Judge.Judge(x.Response.Status) {
	case event.Rejected:
		return nil
	case event.Accepted:
		done.Outcome = event.Done
	case event.Doubt:
	}
	return p.derive(done)
}

// checkIntent looks for credentials in what is kept of a request.
func checkIntent(t *testing.T, x *recorded, intent *event.Intent) {
	t.Helper()
	text, err := json.Marshal(intent)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"LAB_", "nonce", "wrong", "Basic", "Bearer", "password", "pwd"} {
		if bytes.Contains(text, []byte(word)) {
			t.Errorf("%s: the intent has %q in it: %s", x.Step, word, text)
		}
	}
}

// meant is what a step gives although the CMS itself says something else, and why.
type meant struct{ events, why string }

// leftOut tells whether a step changes something that nobody wants to hear of.
func leftOut(x *recorded) bool {
	return x.Event != nil && slices.Contains([]string{"(folder)", "(auto-draft)", "(autosave)"}, *x.Event)
}

// compareTraffic compares what the steps give with what the CMS itself said.
func compareTraffic(t *testing.T, file string, p *replay, own func(*recorded) []string, differences map[string]meant) {
	t.Helper()
	used := map[string]bool{}
	for _, x := range recording(t, file) {
		got, want := short(p.see(&x)), own(&x)
		if d, found := differences[x.Step]; found {
			used[x.Step] = true
			if slices.Equal(got, want) {
				t.Errorf("%s: no difference; take it off the list", x.Step)
			}
			if want = nil; d.events != "" {
				want = strings.Split(d.events, ", ")
			}
		}
		if meantNothing := x.Event == nil && len(x.Own) == 0; meantNothing == (len(got) > 0) && !leftOut(&x) {
			t.Errorf("%s: %q", x.Step, got)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s: %s", x.Step, diff)
		}
	}
	for step := range differences {
		if !used[step] {
			t.Errorf("no step %s", step)
		}
	}
}
