package shape_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/sender/shape"

	"github.com/google/go-cmp/cmp"
)

// hook is the part of a webhook's settings that shape reads.
type hook struct {
	URL     shape.Address     `yaml:"url"`
	Headers map[string]string `yaml:"headers"`
	Form    shape.Form        `yaml:",inline"`
}

func load(text string) (shape.Templates, error) {
	var h hook
	headers := map[string]shape.Template{}
	err := setting.Decode("c.yaml", []byte(text), &h, func(check setting.Check) {
		h.Form.Validate(check)
		for name, source := range h.Headers {
			var err error
			if headers[name], err = shape.CompileTemplate(source); err != nil {
				check.Add("headers."+name, "%v", err)
			}
		}
	})
	return shape.Templates{URL: &h.URL, Headers: headers, Form: &h.Form}, err
}

const payload = `{"sys": {"id": "e1", "type": "Entry", "version": 9007199254740993}, "fields": {"title": {"en-US": "A <b>"},
	"path": {"en-US": "/news/../x?a=b&c#d"}, "list": [1, 2.5], "null": null, "a/b~c": true, "crlf": "a\r\nX-Evil: 1", "dots": "..", "empty": "", "host": "a.b", "evil": "evil.example/"}}`

func published() event.Delivery {
	return event.Delivery{Want: event.Want{Webhook: "my hook"}, Event: &event.Event{
		ID: "event1", Time: at, Type: "Entry", Action: "publish", Space: "s", Environment: "master", Actor: "u1", Confirmed: true,
		Entity: event.Entity{Type: "Entry", ID: "e1", ContentType: "post", Version: 3}, Payload: []byte(payload), Changes: []string{"fields.title"},
		Request: event.Request{Method: "PUT", Path: "/spaces/s/entries/e1/published"},
		Native:  event.Native{ContentType: "application/vnd.x+json", Headers: []event.Header{{Name: "X-Contentful-Topic", Value: "ContentManagement.Entry.publish"}}},
	}}
}

func filled(t *testing.T, config string) (shape.Filled, error) {
	t.Helper()
	templates, err := load(config)
	if err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return templates.Fill(published())
}

func TestBodies(t *testing.T) {
	t.Parallel()
	check := func(config, contentType, want string) {
		t.Helper()
		f, err := filled(t, "url: http://x.example\n"+config)
		if err != nil || string(f.Content.Body) != want || f.Content.ContentType != contentType {
			t.Errorf("%s: %v, %s\n%s", config, err, f.Content.ContentType, f.Content.Body)
		}
	}
	const inJSON = "application/json"
	check("", "application/vnd.x+json", payload)
	check("payload: native", "application/vnd.x+json", payload)
	check("content_type: application/json; charset=utf-8", "application/json; charset=utf-8", payload)
	check("body: { b: 1, a: [true, null, 2.5, text], c: {}, d: [] }", inJSON, `{"b":1,"a":[true,null,2.5,"text"],"c":{},"d":[]}`)
	// Both notations: a whole value keeps its type, a part of a text becomes text.
	for _, both := range [][2]string{
		{"${payload.sys.id}", "{ /payload/sys/id }"},
		{"${payload.sys.version}", "{ /payload/sys/version }"},
		{"${payload.fields.list}", "{/payload/fields/list}"},
		{"${payload.fields.list[1]}", "{ /payload/fields/list/1 }"},
		{`${payload.fields["a/b~c"]}`, "{ /payload/fields/a~1b~0c }"},
		{"${payload.fields.null}", "{ /payload/fields/null }"},
		{"${payload.fields.none.deeper}", "{ /payload/fields/none/deeper }"},
		{"${actor}", "{ /user/sys/id }"},
		{`${"ContentManagement." + topic}`, "{ /topic }"},
		{"${payload.sys}", "{  /payload/sys  }"},
	} {
		for _, frame := range [][2]string{{"", ""}, {"a ", ""}, {"", " b"}, {"a ${id} ", " { /topic } b"}} {
			var got [2]string
			for i, template := range both {
				quoted, _ := json.Marshal(frame[0] + template + frame[1])
				f, err := filled(t, "url: http://x.example\nbody: "+string(quoted))
				if err != nil {
					t.Fatal(err)
				}
				got[i] = string(f.Content.Body)
			}
			if got[0] != got[1] {
				t.Errorf("%v: %v", both, got)
			}
		}
	}
	check(`body: { a: "${payload.sys.version}", b: "{ /payload/fields/list }", c: "{ /payload/none }", d: "${payload.none.x}" }`, inJSON,
		`{"a":9007199254740993,"b":[1, 2.5],"c":null,"d":null}`)
	check(`body: [ "v${payload.sys.version}, {/payload/fields/list}, {/payload/fields/title/en-US}", "<{ /payload/none }|${payload.none.x}>" ]`, inJSON,
		`["v9007199254740993, [1,2.5], A <b>","<|>"]`)
	check(`body: '${payload.none?.x ?? "default"}'`, inJSON, `"default"`)
	check(`body: '${"{"}} } ${"${"} { not } { "a": 1 }'`, inJSON, `"{} } ${ { not } { \"a\": 1 }"`)
	check(`body: '${type} ${"a\"}"} ${{"a": {"b": "}"}}}'`, inJSON, `"Entry a\"} {\"a\":{\"b\":\"}\"}}"`)
	check(`body: { id: "${id}", time: "${time}", all: "${[type, action, topic, space, environment, entity.content_type, request.method, confirmed, accepted, late, changes]}" }`, inJSON,
		`{"id":"event1","time":"2026-01-02T03:04:05.23Z","all":["Entry","publish","Entry.publish","s","master","post","PUT",true,false,false,["fields.title"]]}`)
	check(`body: '${changed("fields")} ${alias} ${cause}'`, inJSON, `"true  "`)
	check("body: 'user: { /user }'", inJSON, `"user: {\"sys\":{\"id\":\"u1\",\"linkType\":\"User\",\"type\":\"Link\"}}"`)
	check("content_type: text/plain\nbody: 'a { /payload/sys/id }'", "text/plain", "a e1")
	check("content_type: text/xml\nbody: '${payload.fields.title}'", "text/xml", `{"en-US":"A <b>"}`)
	check("content_type: application/vnd.a+json\nbody: text", "application/vnd.a+json", `"text"`)
	const form = "application/x-www-form-urlencoded"
	check("content_type: "+form+`; charset=utf-8
body: { text: "a & ${payload.sys.id}", n: 1, none: null, list: [1, "ü"], b: false }`, form+"; charset=utf-8", "b=false&list=%5B1%2C%22%C3%BC%22%5D&n=1&none=&text=a+%26+e1")
	check("content_type: "+form+"\nbody: '{ /payload/fields/title }'", form, "en-US=A+%3Cb%3E")
}

// TestWithoutBody: GET and DELETE send none.
func TestWithoutBody(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "DELETE", "PUT", "PATCH", "POST"} {
		f, err := filled(t, "url: http://x.example\nmethod: "+method)
		none := method == "GET" || method == "DELETE"
		if err != nil || f.Content.Method != method || (f.Content.Body == nil) != none || (f.Content.ContentType == "") != none {
			t.Errorf("%s: %+v, %v", method, f.Content, err)
		}
		r := shape.Build(call(func(c *shape.Call) { c.Content = &f.Content }))
		if r.Method != method || (r.Header.Get("Content-Type") == "") != none {
			t.Errorf("%s: %+v", method, r)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	check := func(address, want string, templatedHost bool) {
		t.Helper()
		templates, err := load("url: '" + address + "'")
		if err != nil {
			t.Errorf("%s: %v", address, err)
			return
		}
		if got := templates.URL.TemplatedHost(); got != templatedHost {
			t.Errorf("%s: the host is made by a template: %t", address, got)
		}
		f, err := templates.Fill(published())
		if err != nil {
			if why, expected := strings.CutPrefix(want, "! "); !expected || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", address, err)
			}
			return
		}
		if f.URL.String() != want {
			t.Errorf("%s: got %s", address, f.URL)
		}
		if templates.URL.String() != address {
			t.Errorf("%s became %s", address, templates.URL)
		}
	}
	check("https://x.example/a?b=c", "https://x.example/a?b=c", false)
	check("https://x.example/a/../b", "https://x.example/a/../b", false)
	check("https://x.example/{ /payload/sys/id }/${action}", "https://x.example/e1/publish", false)
	check("https://x.example/${payload.fields.path[\"en-US\"]}", "https://x.example/%2Fnews%2F..%2Fx%3Fa=b&c%23d", false)
	check("https://x.example/a?x=${payload.fields.path[\"en-US\"]}&y=1", "https://x.example/a?x=%2Fnews%2F..%2Fx%3Fa%3Db%26c%23d&y=1", false)
	check("https://x.example?x=${payload.fields.crlf}", "https://x.example?x=a%0D%0AX-Evil%3A+1", false)
	check("https://x.example/${payload.fields.crlf}", "https://x.example/a%0D%0AX-Evil:%201", false)
	check("https://x.example/v${payload.sys.version}.json", "https://x.example/v9007199254740993.json", false)
	check("https://x.example/a@b/${id}", "https://x.example/a@b/event1", false)
	check("https://u:p@x.example/${id}", "https://u:p@x.example/event1", false)
	check("https://${space}.example/a", "https://s.example/a", true)
	check("https://u@${payload.fields.host}.example:8443", "https://u@a.b.example:8443", true)
	check("https://x.example/a?u=http://${space}", "https://x.example/a?u=http://s", false)
	check("https://${payload.fields.evil}.example/a", "! can not be part of a host", true)
	check("https://${payload.fields.crlf}/a", "! can not be part of a host", true)
	check("https://x.example/${payload.fields.dots}/a", "! a path with . or .. in it", false)
	check("https://x.example/.${\".\"}", "! a path with . or .. in it", false)
	check("https://x.example/%2e${\".\"}", "! a path with . or .. in it", false)
	check("https://x.example/${payload.fields.empty}", "! empty or missing", false)
	check("https://x.example/{ /payload/none }", "! empty or missing", false)
	check("https://x.example/a?b=${payload.none.x}", "! empty or missing", false)
	check("https://${alias}.example", "! empty or missing", true)
	check("https://x.example/${payload.sys.version < \"a\"}", "! a template has no value", false)
}

func TestHeadersOfTemplates(t *testing.T) {
	t.Parallel()
	f, err := filled(t, `url: http://x.example
headers: { A: "{ /topic }", B: "v${payload.fields.crlf}", C: "${payload.none.x}", D: "{ /payload/fields/title }" }`)
	want := map[string]string{"A": "ContentManagement.Entry.publish", "B": "va%0D%0AX-Evil: 1", "C": "", "D": `{"en-US":"A <b>"}`}
	if diff := cmp.Diff(want, f.Headers); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// TestTemplateMistakes: everything is found when the config is read, with its line.
func TestTemplateMistakes(t *testing.T) {
	t.Parallel()
	check := func(text, want string) {
		t.Helper()
		if _, err := load("method: \"\"\n" + text); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
	const rooted = "known are: id, time, type, action, topic, space, environment, alias, target, entity, actor, payload, request, confirmed, accepted, late, cause, changes, events, before"
	check("body:\n  a:\n    - x\n    - b: ${payload.}", `c.yaml:5: body.a[1].b: in "payload.": 1:8: unexpected end of expression`)
	check("body: { a: 1,\n  b: '${entry.id}' }", `c.yaml:3: body.b: in "entry.id": 1:1: unknown name entry; `+rooted)
	check("body: '${type'", `c.yaml:2: body: in "${type": a ${ has no closing brace; if the text goes on after a #, put it in quotes`)
	check("body: '${before.sys.id}'", `c.yaml:2: body: in "before.sys.id": before is not kept with a delivery; a filter can read it, and changes can be read here`)
	check("body: 'a { /headers/x }'", "c.yaml:2: body: in { /headers/x }: a pointer starts with /payload, /topic or /user")
	check("body: { '${type}': 1 }", "c.yaml:2: body.${type}: a key can not be a template; only values can")
	check("headers: { A: '${1 +}' }", `c.yaml:2: headers.A: in "1 +": 1:3: unexpected token EOF`)
	check("url: 'https://x.example/${type +}'", `c.yaml:2: url: in "type +": 1:6: unexpected token EOF`)
	const scheme = "c.yaml:2: url: a template can not make the scheme or the user; write https:// before it, and the user under auth.basic"
	check("url: '${type}'", scheme)
	check("url: '{ /payload/url }/a'", scheme)
	check("url: 'https${type}://x.example'", scheme)
	check("url: 'https://${type}@x.example/'", scheme)
	check("url: 'https://a:${type}@x.example/'", scheme)
	check("url: 'ftp://x.example/${type}'", "c.yaml:2: url: the address must start with http:// or https://")
	check("url: 'https://x.example/../${type}'", "c.yaml:2: url: the path of a template must not have . or .. in it")
	check("url: 'https://x.example:${type}/'", "c.yaml:2: url: not a valid address; want https://host/path, with special characters as %XX (a slash in a password is %2F)")
	check("url: 'https://x.example/%2${type}'", "c.yaml:2: url: not a valid address; want https://host/path, with special characters as %XX (a slash in a password is %2F)")
	check("payload: whole", "c.yaml:2: payload: must be native, envelope, cloudevents or, with a dialect that has it, concise; or give a body of your own")
	check("payload: envelope\nbody: a", "c.yaml:2: payload: body says already what is sent; keep one of them")
	check("payload: cloudevents\ncontent_type: a/b", "c.yaml:3: content_type: a CloudEvent has application/cloudevents+json; leave it out")
	check("content_type: json", "c.yaml:2: content_type: want a media type such as application/json")
	check("content_type: \"a/b\\r\\nX: y\"", "c.yaml:2: content_type: want a media type such as application/json")
	check("content_type: application/x-www-form-urlencoded\nbody: [a]", "c.yaml:3: body: form fields need keys and values")
	check("body: .inf", "c.yaml:2: body: json: unsupported value: +Inf")
	for _, method := range []string{"HEAD", "post", "CONNECT"} {
		_, err := load("method: " + method)
		if err == nil || err.Error() != "c.yaml:1: method: must be POST, PUT, PATCH, GET or DELETE" {
			t.Error(err)
		}
	}
	_, err := load("method: GET\nbody: a\npayload: native\ncontent_type: a/b")
	const none = "GET sends no body; leave it out, or use POST"
	if err == nil || err.Error() != "c.yaml:2: body: "+none+"\nc.yaml:3: payload: "+none+"\nc.yaml:4: content_type: "+none {
		t.Error(err)
	}
}

// TestUnseen: what nobody saw is missing, and what is known is sent.
func TestUnseen(t *testing.T) {
	t.Parallel()
	templates, err := load("url: http://x.example/${entity.id}\nbody: [ '{ /payload }', '${payload.fields.title}', '${changes}', '${actor}', '{ /user/sys/id }', '${environment}', '${payload.fields?.title ?? 1}' ]")
	if err != nil {
		t.Fatal(err)
	}
	f, err := templates.Fill(event.Delivery{Event: &event.Event{
		Time: at, Entity: event.Entity{ID: "e1"}, Payload: []byte(`{"sys":{"id":"e1"}}`), Partial: "no answer was seen", EnvironmentUnseen: "no answer was seen",
	}})
	if want := `[{"sys":{"id":"e1"}},null,null,null,null,null,1]`; err != nil || string(f.Content.Body) != want || f.URL.Path != "/e1" {
		t.Errorf("%v, %v, %s", err, f.URL, f.Content.Body)
	}
}

// TestFormNeedsAnObject: what only a delivery shows gives that up.
func TestFormNeedsAnObject(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"{ /payload/fields/list }", "{ /payload/none }"} {
		_, err := filled(t, "url: http://x.example\ncontent_type: application/x-www-form-urlencoded\nbody: '"+body+"'")
		if err == nil || err.Error() != "the body is no object, so that it has no form fields" {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Whatever a stranger wrote into an entity: the host, the number of segments,
// the names of the query and the headers are those of the template.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"a", "../..", "//evil.example", "a\r\nb", "?x=1#y", "%2e%2e", "\\", "@evil", ":80", "\xff", "..;", "ü"} {
		f.Add(seed)
	}
	templates, err := load("url: 'https://x.example/a/${payload}/b?k=${payload}&l=m'\nheaders: { A: '${payload}' }\nbody: '${payload}'")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		text, _ := json.Marshal(value)
		got, err := templates.Fill(event.Delivery{Event: &event.Event{Payload: text, Time: time.Unix(0, 0)}})
		if err != nil {
			return
		}
		u, err := url.Parse(got.URL.String())
		if err != nil || u.Scheme != "https" || u.Host != "x.example" || strings.Count(u.EscapedPath(), "/") != 3 || len(u.Query()) != 2 || u.Query().Get("l") != "m" {
			t.Errorf("%q became %s", value, got.URL)
		}
		if resolved := u.ResolveReference(&url.URL{Path: "."}); !strings.HasPrefix(resolved.EscapedPath(), "/a/") {
			t.Errorf("%q became %s", value, resolved)
		}
		if strings.ContainsFunc(got.Headers["A"], func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q became the header %q", value, got.Headers["A"])
		}
	})
}
