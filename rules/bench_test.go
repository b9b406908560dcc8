package rules_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"
)

// entryAnswer is an answer of about 4 KB.
var entryAnswer = func() string {
	var fields []string
	for i := range 24 {
		fields = append(fields, fmt.Sprintf(`"field%d":{"en-US":"%s","de-DE":{"sys":{"type":"Link","linkType":"Entry","id":"e%d"}}}`, i, strings.Repeat("words ", 10), i))
	}
	return `{"sys":{"id":"x","type":"Entry","version":7,"contentType":{"sys":{"type":"Link","linkType":"ContentType","id":"post"}},` +
		`"updatedBy":{"sys":{"type":"Link","linkType":"User","id":"u1"}}},"fields":{` + strings.Join(fields, ",") + `}}`
}()

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		contentful(b)
	}
}

// BenchmarkValid is what the others are compared with.
func BenchmarkValid(b *testing.B) {
	answer := []byte(entryAnswer)
	b.SetBytes(int64(len(answer)))
	for b.Loop() {
		json.Valid(answer)
	}
}

func BenchmarkClassifyPass(b *testing.B) {
	r := rules.New(contentful(b), nil)
	head := event.Head{Method: "PUT", Path: "/spaces/s/environments/master/locales/en", Headers: headers{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Classify(head, nil)
	}
}

func BenchmarkClassifyRead(b *testing.B) {
	r := rules.New(contentful(b), nil)
	head := event.Head{Method: "GET", Path: "/spaces/s/environments/master/entries/x", Headers: headers{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Classify(head, nil)
	}
}

func BenchmarkClassifyWrite(b *testing.B) {
	r := rules.New(contentful(b), nil)
	head := event.Head{Method: "PUT", Path: "/spaces/s/environments/master/entries/x", Headers: headers{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Classify(head, nil)
	}
}

func BenchmarkDerive(b *testing.B) {
	r := rules.New(contentful(b), nil)
	for name, path := range map[string]string{"save": "", "publish": "/published"} {
		x := exchange(r, "PUT", "/spaces/s/environments/master/entries/x"+path, headers{}, 200, entryAnswer)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Derive(x, nil, nil)
			}
		})
	}
}

// BenchmarkMatch asks 100 webhooks with filters. Compare it with BenchmarkBare/100
// of the package expression: the same filter, run by expr alone.
func BenchmarkMatch(b *testing.B) {
	webhooks := make([]rules.Webhook, 100)
	for i := range webhooks {
		s := &webhooks[i].Subscription
		text := `{topics: [Entry.save], filter: 'payload.sys.contentType.sys.id == "post" && environment in ["master"]'}`
		if err := setting.Decode("t.yaml", []byte(text), s, func(c setting.Check) { s.Validate(c) }); err != nil {
			b.Fatal(err)
		}
	}
	r := rules.New(contentful(b), webhooks)
	e := r.Derive(exchange(r, "PUT", "/spaces/s/environments/master/entries/x", headers{}, 200, entryAnswer), nil, nil)[0]
	b.ReportAllocs()
	for b.Loop() {
		if decisions := r.Match(&e, nil); !decisions[99].Wanted {
			b.Fatal(decisions[99].Reason)
		}
	}
}
