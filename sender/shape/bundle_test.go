package shape_test

import (
	"encoding/json"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/sender/shape"

	"github.com/google/go-cmp/cmp"
)

func bundled(ids ...string) (deliveries []event.Delivery) {
	for _, id := range ids {
		deliveries = append(deliveries, event.Delivery{
			Want: event.Want{Webhook: "w"},
			Event: &event.Event{
				ID: id, Type: "Entry", Action: "publish", Time: time.Unix(0, 0), Confirmed: true,
				Entity: event.Entity{Type: "Entry", ID: "e" + id}, Payload: []byte(`{"n":` + id + `}`),
				Native: event.Native{Headers: []event.Header{{Name: "X-Contentful-Topic", Value: "t"}}},
			},
		})
	}
	return deliveries
}

func TestBundles(t *testing.T) {
	t.Parallel()
	check := func(settings, contentType, want string) {
		t.Helper()
		f, err := compiled(t, settings).FillBundle(bundled("1", "2"))
		var got, wanted any
		if err != nil || json.Unmarshal(f.Content.Body, &got) != nil || json.Unmarshal([]byte(want), &wanted) != nil {
			t.Fatalf("%v, %s", err, f.Content.Body)
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s: %s", settings, diff)
		}
		if f.Content.ContentType != contentType || f.Content.Native && f.Content.Body == nil {
			t.Errorf("%+v", f.Content)
		}
	}
	envelope := func(id string) string {
		return `{"envelope":1,"id":"` + id + `","time":"1970-01-01T00:00:00Z","topic":"Entry.publish","type":"Entry","action":"publish","entity":{"type":"Entry","id":"e` + id +
			`"},"confirmed":true,"accepted":false,"late":false,"truncated":false,"request":{"method":"","path":""},"payload":{"n":` + id + `}}`
	}
	// The SHA-256 of "12".
	const id = "6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"
	check("", "application/json", `{"envelope":1,"batch":"`+id+`","events":[`+envelope("1")+`,`+envelope("2")+`]}`)
	check("payload: envelope", "application/json", `{"envelope":1,"batch":"`+id+`","events":[`+envelope("1")+`,`+envelope("2")+`]}`)
	check("payload: cloudevents", "application/cloudevents-batch+json", `[
		{"specversion":"1.0","id":"1","source":"/cmstap","type":"Entry.publish","subject":"e1","time":"1970-01-01T00:00:00Z","datacontenttype":"application/json","data":{"n":1}},
		{"specversion":"1.0","id":"2","source":"/cmstap","type":"Entry.publish","subject":"e2","time":"1970-01-01T00:00:00Z","datacontenttype":"application/json","data":{"n":2}}]`)
	check("body: { text: '${len(events)} changes, the first of ${entity.id}', last: '${events[-1].payload.n}' }", "application/json",
		`{"text":"2 changes, the first of e1","last":2}`)
	check("body: { ids: '${map(events, #.entity.id)}' }", "application/json", `{"ids":["e1","e2"]}`)

	f, err := compiled(t, "body: { n: '${len(events)}' }").Fill(bundled("1")[0])
	if err != nil || string(f.Content.Body) != `{"n":1}` {
		t.Errorf("%v, %s", err, f.Content.Body)
	}
	if f, err = compiled(t, "method: GET").FillBundle(bundled("1", "2")); err != nil || f.Content.Body != nil {
		t.Errorf("%v, %s", err, f.Content.Body)
	}
}

func compiled(t *testing.T, settings string) shape.Templates {
	t.Helper()
	templates, err := load("url: http://x.example\n" + settings)
	if err != nil {
		t.Fatal(err)
	}
	return templates
}
