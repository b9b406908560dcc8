package sender

import (
	"maps"
	"net/http"
	"slices"

	"cmstap/internal/setting"
	"cmstap/sender/shape"
)

// unfillable is the failure of a call whose templates can not be filled in. It
// says nothing of the webhook, and is final.
const unfillable = "template"

// compileTemplates compiles what is not compiled while it is read. A secret is
// never a template.
func (e *Endpoint) compileTemplates(check setting.Check) {
	e.headers = map[string]shape.Template{}
	for name, value := range e.Headers {
		if !value.IsPlain() {
			continue
		}
		template, err := shape.CompileTemplate(value.Reveal())
		if err != nil {
			check.In("headers").Add(name, "%v", err)
		}
		if !template.IsConstant() {
			e.headers[name] = template
		}
	}
	e.Form.Validate(check)
	for name := range e.Headers {
		if e.Form.ContentType != "" && http.CanonicalHeaderKey(name) == "Content-Type" {
			check.Add("content_type", "headers.%s says it already; keep one of them", name)
		}
	}
}

func (e *Endpoint) templates() shape.Templates {
	return shape.Templates{URL: &e.URL, Headers: e.headers, Form: &e.Form}
}

// TemplatedHost tells whether a template makes the host that is called or a
// part of it, so that nobody knows before a call who that is.
func (e *Endpoint) TemplatedHost() bool { return e.URL.TemplatedHost() }

// Reads tells whether what is sent tells something of a root of expressions,
// for example changes.
func (e *Endpoint) Reads(root string) bool {
	t := e.templates()
	return t.Reads(root) || root == "changes" && t.Reads("events") // a list of envelopes
}

// ReadsBundled is Reads for a webhook whose events go in bundles.
func (e *Endpoint) ReadsBundled(root string) bool {
	return e.Reads(root) || root == "changes" && e.Form.Payload != shape.CloudEvents
}

// ValidateBundled reports what can not be sent of many events in one call.
func (e *Endpoint) ValidateBundled(check setting.Check) {
	if form := e.Form.Payload; form == shape.Native || form == shape.Concise {
		check.Add("payload", "%s has no form for many events: leave it out, or choose envelope, cloudevents or a body of your own", form)
	}
	if e.Form.ContentType != "" && e.Form.Body.Kind == setting.TreeNone {
		check.Add("content_type", "many events have a form of their own: leave it out, or give a body of your own")
	}
}

// literals are the texts of the address and of the headers around the values
// of templates: they may be secret.
func (e *Endpoint) literals() []string {
	texts := e.URL.Literals()
	for _, name := range slices.Sorted(maps.Keys(e.headers)) {
		texts = append(texts, e.headers[name].Literals()...)
	}
	return texts
}

// WantsConcise tells whether the short form of payloads is asked for, which only
// some dialects have.
func (e *Endpoint) WantsConcise() bool { return e.Form.Payload == shape.Concise }
