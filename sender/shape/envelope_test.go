package shape_test

import (
	"bytes"
	"strings"
	"testing"

	"cmstap/event"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestEnvelopesOfDoubt: the forms hold for an event of which all is known, and
// for one of which nearly nothing is.
func TestEnvelopesOfDoubt(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../../docs/envelope.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(d event.Delivery, want, source, subject string) {
		t.Helper()
		d.Event.ID = strings.Repeat("0f", 32)
		fill := func(payload string) []byte {
			templates, err := load("url: http://x.example\npayload: " + payload)
			if err != nil {
				t.Fatal(err)
			}
			f, err := templates.Fill(d)
			if err != nil || f.Content.Native {
				t.Fatal(f, err)
			}
			return f.Content.Body
		}
		text := fill("envelope")
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = schema.Validate(value)
		}
		if diff := cmp.Diff(want, string(text)); err != nil || diff != "" {
			t.Error(err, diff)
		}
		var ce cloudevents.Event
		if err := ce.UnmarshalJSON(fill("cloudevents")); err != nil {
			t.Fatal(err)
		}
		if err := ce.Validate(); err != nil || ce.Source() != source || ce.Subject() != subject || (len(ce.Data()) == 0) != (d.Event.Payload == nil) {
			t.Errorf("%v, %v", err, ce)
		}
	}
	check(event.Delivery{Event: &event.Event{Time: at, Action: "delete"}},
		`{"envelope":1,"id":"`+strings.Repeat("0f", 32)+`","time":"2026-01-02T03:04:05.23Z","topic":".delete","type":"","action":"delete","entity":{"type":""},`+
			`"confirmed":false,"accepted":false,"late":false,"truncated":false,"request":{"method":"","path":""},"payload":null}`, "/cmstap", "")
	check(event.Delivery{Want: event.Want{Undecided: "who knows"}, Event: &event.Event{
		Time: at, Type: "T", Action: "a", Space: "s/p ce", Environment: "e", Alias: "e", Target: "t", Actor: "u", Cause: "bulk", Confirmed: true, Accepted: true, Late: true, Truncated: true,
		Entity: event.Entity{Type: "T", ID: "i", Within: "w", ContentType: "c", Locale: "l", Version: 7}, Partial: "no answer was seen", PayloadError: "broken",
		Changes: []string{}, Payload: []byte(` {"a": "<&>"}`), Request: event.Request{Method: "PUT", Path: "/x", ID: "secret", UserAgent: "ua"},
	}}, `{"envelope":1,"id":"`+strings.Repeat("0f", 32)+`","time":"2026-01-02T03:04:05.23Z","topic":"T.a","type":"T","action":"a","space":"s/p ce","environment":"e","alias":"e","target":"t",`+
		`"entity":{"type":"T","id":"i","within":"w","content_type":"c","locale":"l","version":7},"actor":"u","cause":"bulk","confirmed":true,"accepted":true,"late":true,"truncated":true,`+
		`"undecided":"who knows","partial":"broken","changes":[],"request":{"method":"PUT","path":"/x","user_agent":"ua"},"payload":{"a":"<&>"}}`, "/cmstap/s%2Fp%20ce/e", "i")
}
