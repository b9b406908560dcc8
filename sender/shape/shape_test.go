package shape_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/sender/shape"

	"github.com/google/go-cmp/cmp"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 230e6, time.UTC)

func call(change func(*shape.Call)) shape.Call {
	c := shape.Call{
		Delivery: event.Delivery{
			Want:  event.Want{Webhook: "my hook"},
			Event: &event.Event{ID: "event1", Confirmed: true, Payload: []byte(`{"a": 1}`)},
		},
		Attempt: 1, Time: at,
	}
	if change != nil {
		change(&c)
	}
	return c
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	check := func(change func(*shape.Call), name, want string) {
		t.Helper()
		r := shape.Build(call(change))
		if got := strings.Join(r.Header.Values(name), "|"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	native := func(headers ...event.Header) func(*shape.Call) {
		return func(c *shape.Call) { c.Delivery.Event.Native = event.Native{ContentType: "x/y", Headers: headers} }
	}
	check(nil, "Content-Type", "application/json")
	check(nil, "User-Agent", "")
	check(nil, "X-Cmstap-Event", "event1")
	check(nil, "X-Cmstap-Confirmed", "")
	check(nil, "X-Cmstap-Accepted", "")
	check(nil, "X-Cmstap-Late", "")
	check(func(c *shape.Call) { c.Delivery.Event.Late = true }, "X-Cmstap-Late", "true")
	check(func(c *shape.Call) { c.Delivery.Event.Accepted = true }, "X-Cmstap-Accepted", "true")
	check(nil, "X-Cmstap-Undecided", "")
	check(nil, "X-Cmstap-Redelivery", "")
	check(func(c *shape.Call) { c.Redelivery = event.Replay }, "X-Cmstap-Redelivery", "replay")
	check(func(c *shape.Call) { c.Redelivery, c.Bundle = event.Resend, "b" }, "X-Cmstap-Redelivery", "resend")
	check(nil, "Authorization", "")
	check(nil, "Webhook-Id", "")
	check(native(), "Content-Type", "x/y")
	check(native(event.Header{Name: "X-A", Value: "v"}), "X-A", "v")
	check(native(event.Header{Name: "X-A", Value: "a\r\nX-B: c"}), "X-A", "a%0D%0AX-B: c")
	check(native(event.Header{Name: "X-A", Value: "\x00\t\x7f"}), "X-A", "%00%09%7F")
	check(native(event.Header{Name: "X-A", Value: "über"}), "X-A", "%C3%BCber")
	check(native(event.Header{Name: "X-A", Value: "a\xffb"}), "X-A", "a%EF%BF%BDb")
	check(native(event.Header{Name: "X-A", PerCall: event.CallWebhook}), "X-A", "my hook")
	check(native(event.Header{Name: "X-A", PerCall: event.CallAttempt}), "X-A", "1")
	check(func(c *shape.Call) {
		c.Attempt = 7
		native(event.Header{Name: "X-A", PerCall: event.CallAttempt})(c)
	}, "X-A", "7")
	check(func(c *shape.Call) { c.Delivery.Event.Confirmed = false }, "X-Cmstap-Confirmed", "false")
	check(func(c *shape.Call) { c.Delivery.Undecided = "not\nseen" }, "X-Cmstap-Undecided", "not%0Aseen")
	check(func(c *shape.Call) { c.Delivery.Event.PayloadError = "é" }, "X-Cmstap-Payload-Error", "%C3%A9")
	check(func(c *shape.Call) { c.Headers = map[string]string{"x-team": "web"} }, "X-Team", "web")
	check(func(c *shape.Call) { c.Headers = map[string]string{"user-agent": "own"} }, "User-Agent", "own")
	check(func(c *shape.Call) { c.Headers = map[string]string{"content-type": "own"} }, "Content-Type", "own")
	check(func(c *shape.Call) { c.Headers = map[string]string{"Authorization": "Bearer t"} }, "Authorization", "Bearer t")
	check(func(c *shape.Call) { c.Username, c.Password = "cms", "p:ä" }, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("cms:p:ä")))
}

func TestBuildIsPure(t *testing.T) {
	t.Parallel()
	c := call(func(c *shape.Call) {
		c.Signing, c.Headers = shape.Signing{Scheme: shape.Standard, Secret: "k"}, map[string]string{"X-A": "b"}
	})
	first := shape.Build(c)
	if diff := cmp.Diff(first, shape.Build(c)); diff != "" {
		t.Error(diff)
	}
	if first.Method != "POST" || string(first.Body) != `{"a": 1}` {
		t.Errorf("%s %s", first.Method, first.Body)
	}
}

// The signature, computed here by the text of Standard Webhooks 1.0:
// base64(HMAC-SHA256(key, id "." timestamp "." body)).
func TestSignature(t *testing.T) {
	t.Parallel()
	check := func(secret string, key []byte) {
		t.Helper()
		h := shape.Build(call(func(c *shape.Call) { c.Signing = shape.Signing{Scheme: shape.Standard, Secret: secret} })).Header
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", "event1", 1767323045, `{"a": 1}`)
		want := []string{"event1", "1767323045", "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
		got := []string{h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	check("plain", []byte("plain"))
	check("whsec_AAECAwQFBgcICQ==", []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	for text, want := range map[string]int{"plain": 5, "": 0, "whsec_AAEC": 3, "whsec_%": -1, "whsec_": -1} {
		if key, err := shape.Key(text); (err != nil) != (want < 0) || len(key) != max(want, 0) {
			t.Errorf("%q: %v, %v", text, key, err)
		}
	}
}

// sample is a call of the CMS's own webhooks. Its marks say which parts are
// verified.
type sample struct {
	Request struct {
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"request"`
	Marks struct {
		Verified []string `json:"verified"`
	} `json:"marks"`
}

// The values are the sample's; what is tested is that native data of an event
// reaches the call complete and unchanged.
func TestContentfulSamples(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/contentful.*.json")
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s sample
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		r := shape.Build(call(func(c *shape.Call) {
			c.Delivery.Event.Native = nativeOf(s)
			c.Delivery.Event.Payload = s.Request.Body
		}))
		if r.Method != s.Request.Method || string(r.Body) != string(s.Request.Body) {
			t.Errorf("%s: method or body differ", file)
		}
		verified := 0
		for _, mark := range s.Marks.Verified {
			if path, _, _ := strings.Cut(mark, " "); strings.HasPrefix(path, "headers.") {
				verified++
				name := strings.TrimPrefix(path, "headers.")
				if got, want := r.Header.Get(name), s.Request.Headers[name]; got != want || want == "" {
					t.Errorf("%s: %s: got %q, want %q", file, name, got, want)
				}
			}
		}
		if verified < 5 {
			t.Errorf("%s: only %d verified headers", file, verified)
		}
	}
}

// nativeOf is the native data that the dialect makes for a sample.
func nativeOf(s sample) event.Native {
	var n event.Native
	for name, value := range s.Request.Headers {
		switch name {
		case "Content-Type":
			n.ContentType = value
		case "X-Contentful-Webhook-Name":
			n.Headers = append(n.Headers, event.Header{Name: name, PerCall: event.CallWebhook})
		case "X-Contentful-Webhook-Request-Attempt":
			n.Headers = append(n.Headers, event.Header{Name: name, PerCall: event.CallAttempt})
		default:
			n.Headers = append(n.Headers, event.Header{Name: name, Value: value})
		}
	}
	return n
}

// Whatever a stranger's request put into an event, the call can be sent.
func FuzzHeaderValue(f *testing.F) {
	f.Add("plain")
	f.Add("a\r\nb: c")
	f.Add("\xff\x00é")
	f.Fuzz(func(t *testing.T, value string) {
		r := shape.Build(call(func(c *shape.Call) {
			c.Delivery.Undecided = value
			c.Delivery.Event.Native.Headers = []event.Header{{Name: "X-A", Value: value}}
		}))
		for _, got := range []string{r.Header.Get("X-A"), r.Header.Get("X-Cmstap-Undecided")} {
			if strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%q became %q", value, got)
			}
		}
	})
}
