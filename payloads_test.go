package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cmstap/internal/demo"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// envelopeSchema is the published schema, with no room for what it does not name.
func envelopeSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("docs/envelope.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	properties := document.(map[string]any)["properties"].(map[string]any)
	for _, object := range []any{document, properties["entity"], properties["request"]} {
		object.(map[string]any)["additionalProperties"] = false
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("envelope.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("envelope.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// payloadsOf runs writes through cmstap and returns what each payload's webhook
// got of each event.
func payloadsOf(t *testing.T) map[string]map[string]demo.Call {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	receiver := demo.NewReceiver(demo.ReceiverOptions{})
	api := demo.NewContentAPI(demo.ContentAPIOptions{})
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q, max_payload: 64KiB }
admin: { listen: "" }
webhooks:
  - { name: native, url: %[3]s/native, topics: ["*.*"] }
  - { name: envelope, url: %[3]s/envelope, topics: ["*.*"], payload: envelope }
  - { name: cloudevents, url: %[3]s/cloudevents, topics: ["*.*"], payload: cloudevents }
  - { name: own, url: %[3]s/own, topics: ["*.*"], body: { changes: "${changes}" } }
`, serve(t, api).URL, t.TempDir(), serve(t, receiver).URL))
	large, _ := json.Marshal(string(bytes.Repeat([]byte("x"), 100<<10)))
	for _, write := range [][4]string{
		{"PUT", "/content_types/post", `{"name":"x","fields":[]}`, ""},
		{"PUT", "/environments/other/content_types/post", `{"name":"x","fields":[]}`, ""},
		{"PUT", "/entries/e1", `{"fields":{"title":{"en-US":"<A> & ü"}}}`, ""},
		{"PUT", "/entries/e1", `{"fields":{"title":{"en-US":"B"}}}`, "1"},
		{"PUT", "/entries/e1/published", "", "2"},
		{"DELETE", "/entries/e1/published", "", "3"},
		{"DELETE", "/entries/e1", "", "4"},
		{"PUT", "/environments/other/entries/e_x", `{"fields":{}}`, ""},
		{"PUT", "/entries/large", `{"fields":{"title":{"en-US":` + string(large) + `}}}`, ""},
	} {
		status, text, err := ask(write[0], "http://"+p.proxy+"/spaces/s"+write[1], write[2],
			map[string]string{"X-Contentful-Content-Type": "post", "X-Contentful-Version": write[3]})
		if err != nil || status > 299 {
			t.Fatalf("%v: %d %s %v", write, status, text, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const webhooks, events = 4, 9
	if err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(calls) == webhooks*events }); err != nil {
		t.Fatalf("%v: %d calls", err, len(receiver.Calls()))
	}
	payloads := map[string]map[string]demo.Call{}
	for _, call := range receiver.Calls() {
		if payloads[call.Path] == nil {
			payloads[call.Path] = map[string]demo.Call{}
		}
		payloads[call.Path][call.Header.Get("X-Cmstap-Event")] = call
	}
	return payloads
}

// TestPayloads: envelopes are what their schema says, CloudEvents what the
// specification's own library takes, and both say of an event what the native
// form says.
func TestPayloads(t *testing.T) {
	t.Parallel()
	payloads := payloadsOf(t)
	schema := envelopeSchema(t)
	seen := map[string]bool{}
	for id, native := range payloads["/native"] {
		e := envelopeIn(t, schema, payloads["/envelope"][id])
		if e["id"] != id || e["request"].(map[string]any)["path"] == "" {
			t.Errorf("%v", e)
		}
		if call := payloads["/envelope"][id]; call.Header.Get("Content-Type") != "application/json" || call.Header.Get("X-Contentful-Topic") != "" {
			t.Errorf("%v", call.Header)
		}
		sameJSON(t, native.Body, e["payload"])
		checkCloudEvent(t, payloads["/cloudevents"][id], id, e, native.Body)
		var own struct{ Changes any }
		if err := json.Unmarshal(payloads["/own"][id].Body, &own); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(own.Changes) != fmt.Sprint(e["changes"]) {
			t.Errorf("%v differ from %v", own.Changes, e["changes"])
		}
		seen[fmt.Sprintf("%v %v %v %v", e["topic"], e["entity"].(map[string]any)["id"], e["changes"], e["truncated"])] = true
	}
	for _, want := range []string{"Entry.save e1 [fields.title.en-US sys.updatedAt sys.version] false", "Entry.unpublish e1 [] false", "Entry.create large <nil> true", "Entry.create e_x"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(one string) bool { return strings.HasPrefix(one, want) }) {
			t.Errorf("no %s in %v", want, seen)
		}
	}
}

func envelopeIn(t *testing.T, schema *jsonschema.Schema, call demo.Call) map[string]any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(call.Body))
	if err != nil {
		t.Fatalf("%v in %.300s", err, call.Body)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%v in %.300s", err, call.Body)
	}
	return value.(map[string]any)
}

// checkCloudEvent reads a call as a receiver with the SDK does, and compares it
// with the envelope and the payload of the same event.
func checkCloudEvent(t *testing.T, call demo.Call, id string, e map[string]any, payload []byte) {
	t.Helper()
	message := cehttp.NewMessageFromHttpRequest(&http.Request{Header: call.Header, Body: io.NopCloser(bytes.NewReader(call.Body))})
	if message.ReadEncoding() != binding.EncodingStructured {
		t.Errorf("%v is not the structured mode", message.ReadEncoding())
	}
	ce, err := binding.ToEvent(t.Context(), message)
	if err != nil {
		t.Fatalf("%v in %.300s", err, call.Body)
	}
	if err := ce.Validate(); err != nil {
		t.Errorf("%v in %.300s", err, call.Body)
	}
	if _, err := url.Parse(ce.Source()); err != nil {
		t.Error(err)
	}
	at, _ := time.Parse(time.RFC3339Nano, e["time"].(string))
	if ce.SpecVersion() != "1.0" || ce.ID() != id || ce.Type() != e["topic"] || ce.Subject() != e["entity"].(map[string]any)["id"] ||
		!ce.Time().Equal(at) || ce.DataContentType() != "application/json" || len(ce.Extensions()) > 0 {
		t.Errorf("%v", ce)
	}
	var data any
	if err := ce.DataAs(&data); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, payload, data)
}

func sameJSON(t *testing.T, text []byte, value any) {
	t.Helper()
	var want any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	one, _ := json.Marshal(want)
	other, _ := json.Marshal(value)
	if !bytes.Equal(one, other) {
		t.Errorf("%.300s differs from %.300s", other, one)
	}
}

// TestPayloadsDoc: the examples of docs/payloads.md hold.
func TestPayloadsDoc(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/payloads.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(json|yaml)\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) != 3 || string(blocks[0][1]) != "json" {
		t.Fatalf("%d blocks", len(blocks))
	}
	envelopeIn(t, envelopeSchema(t), demo.Call{Body: blocks[0][2]})
	for _, block := range blocks[1:] {
		if _, err := parseConfig("payloads.md", block[2], &runCommand{Upstream: "https://api.contentful.com"}); err != nil {
			t.Error(err)
		}
	}
}
