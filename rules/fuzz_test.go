package rules

import (
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
)

// FuzzPath: a path fits a pattern exactly if its segments do, however they are
// written; and then its parameters are those segments.
func FuzzPath(f *testing.F) {
	for _, pattern := range []string{"/spaces/{space}/entries/{id}", "/.../posts/{id}", "/a", "/{a}/{b}/{c}"} {
		for _, path := range []string{"/spaces/s/entries/x", "//spaces/%73//entries/a%2Fb/", "/v1/posts/1", "/posts", "", "/\xff%00/b/c", "/%zz/..;/a"} {
			f.Add(pattern, path)
		}
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		var segments []string
		for segment := range strings.SplitSeq(path, "/") {
			if segment != "" {
				segments = append(segments, segment)
			}
		}
		extra := len(segments) - len(p.segments)
		fits := extra == 0 || p.open && extra > 0
		want := map[string]string{}
		for i := 0; fits && i < len(p.segments); i++ {
			segment, raw := p.segments[i], segments[extra+i]
			plain, err := url.PathUnescape(raw)
			switch {
			case err != nil:
				plain = raw
			case strings.Contains(raw, "%"):
				plain = strings.ToValidUTF8(plain, "\uFFFD")
			}
			if segment.param {
				want[segment.text] = plain
			} else if raw != segment.text && plain != segment.text {
				fits = false
			}
		}
		if fits && !p.mayMatch(countSegments(path)) {
			t.Fatalf("%q may fit %q", path, text)
		}
		if got := p.matches(path); got != fits {
			t.Fatalf("%q fits %q: %t", path, text, got)
		}
		if !fits {
			return
		}
		got := p.params(path)
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%q of %q is %q, want %q", name, path, got[name], value)
			}
		}
	})
}

// FuzzBody: whatever a client sends as a body, what expressions see is JSON or
// unknown.
func FuzzBody(f *testing.F) {
	f.Add("application/json", []byte(`{"a":[1,{"b":null}]}`))
	f.Add("application/x-www-form-urlencoded", []byte("a=1&a=2&b=%zz;c"))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n"))
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\n1\r\n--x"))
	f.Add("multipart/form-data", []byte("--\r\n"))
	f.Add("text/xml", []byte("<a/>"))
	f.Add("", []byte(`{"a":1,"a":2}`))
	f.Add("", []byte{0xff, 0xfe})
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		d := bodyDocument(event.Copy{Bytes: body}, contentType)
		switch {
		case d.JSON == nil && d.Why == "":
			t.Error("it is unknown, and nobody knows why")
		case d.JSON != nil && (!json.Valid(d.JSON) || !d.Whole):
			t.Errorf("%q", d.JSON)
		}
	})
}

// FuzzDialect: whatever a dialect's file holds, loading it gives a dialect or
// problems with text; and what loads decides about any request.
func FuzzDialect(f *testing.F) {
	for _, name := range Builtin() {
		text, err := os.ReadFile("dialects/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("name: a\ninclude: rest\nresources: [{type: \"${path.x}\", paths: \"/.../{x}\", routes: w}]\nroutes: {w: [{on: [PUT /{id}], body: {a: request.b}, when: body.a, each: body.a, action: [a, b]}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDialect("f.yaml", text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without text")
			}
			if _, ok := err.(setting.Problems); !ok { //nolint:errorlint // it is that type, not one around it
				t.Errorf("%T", err)
			}
			return
		}
		r := New(d, nil)
		for method := range d.routes {
			for _, path := range []string{"/", "/a", "/a/b", "/a/%ff", "/\xff/b", "/a/b/c/d/e"} {
				head := event.Head{Method: method, Path: path, Query: "a=%ff&id=\xff&_method=PUT", Headers: noHeaders{}}
				plan := r.Classify(head, nil)
				if plan.Body {
					plan = r.Identify(head, event.Copy{Bytes: []byte(`{"a":[1,"b"]}`)}, nil)
				}
				if plan.Class != event.Write {
					continue
				}
				stored, err := json.Marshal(plan.Intent)
				if err != nil {
					t.Fatal(err)
				}
				var again event.Intent
				if err := json.Unmarshal(stored, &again); err != nil {
					t.Fatal(err)
				}
				derive := func(intent *event.Intent) (ids []string) {
					for _, e := range r.Derive(&event.Exchange{Intent: intent, Outcome: event.Done, Status: 200, Answer: event.Copy{Bytes: []byte(`{"b":[{"id":1}]}`)}}, nil, nil) {
						ids = append(ids, e.ID)
					}
					return ids
				}
				if now, later := derive(plan.Intent), derive(&again); !slices.Equal(now, later) {
					t.Errorf("the ids are %q, and %q after a restart", now, later)
				}
			}
		}
	})
}

type noHeaders struct{}

func (noHeaders) Get(string) string { return "" }

// FuzzAnswer: an event stream becomes a list, and what is left of an object is
// JSON without the fields that are left out.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{"event: a\ndata: {\"b\":1}\n\n", "data\n\n", "data: \xff\r\ndata: 2\r\n\r\n:\n", `{"a":{"b":1,"c":[2]},"d":null}`, `{"\u0061":1,"a\\":{}}`, "{}", "[]", " { } "} {
		f.Add([]byte(text))
	}
	paths := [][]string{{"d"}, {"a", "b"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		var list []struct{ Data any }
		if err := json.Unmarshal(messagesOf(text), &list); err != nil {
			t.Errorf("%s: %v", messagesOf(text), err)
		}
		if jsonProblem(text) != "" {
			return
		}
		left := without(text, paths)
		if jsonProblem(left) != "" {
			t.Errorf("%s is left of %s", left, text)
		}
		if json.Unmarshal(left, &map[string]any{}) != nil {
			return
		}
		fields := map[string]json.RawMessage{}
		_ = json.Unmarshal(left, &fields)
		inner := map[string]any{}
		_ = json.Unmarshal(fields["a"], &inner)
		if _, there := fields["d"]; there || inner["b"] != nil {
			t.Errorf("%s is left of %s", left, text)
		}
	})
}
