package shape

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// Form is the part of a webhook's settings that says what is sent.
type Form struct {
	// Method is POST (as if empty), PUT or PATCH; or GET or DELETE, which send
	// no body.
	Method string `yaml:"method"`
	// ContentType is the body's media type. application/x-www-form-urlencoded
	// makes form fields of an object.
	ContentType string `yaml:"content_type"`
	// Payload names the body: native (as if empty) is what the CMS's own
	// webhooks send, in the short form with a dialect that has that (concise);
	// envelope is cmstap's own form, cloudevents that of CloudEvents 1.0.
	Payload string `yaml:"payload"`
	// Body is a body of your own. Its texts are templates.
	Body setting.Tree `yaml:"body"`

	body *node
}

// The names of payloads.
const (
	Native      = "native"
	Concise     = "concise"
	Envelope    = "envelope"
	CloudEvents = "cloudevents"
)

// Media types (RFC 9110 section 8.3); the last are those of CloudEvents' JSON
// format, sections 3 and 4.
const (
	typeJSON        = "application/json"
	typeForm        = "application/x-www-form-urlencoded"
	typeCloudEvent  = "application/cloudevents+json"
	typeCloudEvents = "application/cloudevents-batch+json"
)

// Validate reports what is wrong and compiles the rest.
func (f *Form) Validate(check setting.Check) {
	methods := []string{"", http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet, http.MethodDelete}
	if !slices.Contains(methods, f.Method) {
		check.Add("method", "must be POST, PUT, PATCH, GET or DELETE")
	}
	if !slices.Contains([]string{"", Native, Concise, Envelope, CloudEvents}, f.Payload) {
		check.Add("payload", "must be native, envelope, cloudevents or, with a dialect that has it, concise; or give a body of your own")
	}
	if f.ContentType != "" && !isMediaType(f.ContentType) {
		check.Add("content_type", "want a media type such as application/json")
	}
	f.body = compileNode(check.In("body"), f.Body)
	f.refuseTwo(check)
}

// refuseTwo reports settings that exclude each other.
func (f *Form) refuseTwo(check setting.Check) {
	hasBody := f.Body.Kind != setting.TreeNone
	if f.bodiless() {
		for key, given := range map[string]bool{"body": hasBody, "payload": f.Payload != "", "content_type": f.ContentType != ""} {
			if given {
				check.Add(key, "%s sends no body; leave it out, or use POST", f.Method)
			}
		}
		return
	}
	if hasBody && f.Payload != "" {
		check.Add("payload", "body says already what is sent; keep one of them")
	}
	if f.Payload == CloudEvents && f.ContentType != "" {
		check.Add("content_type", "a CloudEvent has %s; leave it out", typeCloudEvent)
	}
	if f.isForm() && hasBody && f.Body.Kind != setting.TreeMap && !f.body.leaf.whole() {
		check.Add("body", "form fields need keys and values")
	}
}

func isMediaType(text string) bool {
	name, _, err := mime.ParseMediaType(text)
	return err == nil && strings.Contains(name, "/") && !strings.ContainsFunc(text, unsafeInHeader)
}

func (f *Form) method() string {
	if f.Method == "" {
		return http.MethodPost
	}
	return f.Method
}

func (f *Form) bodiless() bool { return f.Method == http.MethodGet || f.Method == http.MethodDelete }

func (f *Form) isForm() bool {
	name, _, _ := mime.ParseMediaType(f.ContentType)
	return name == typeForm
}

// Reads tells whether what is sent tells something of a root of expressions.
func (f *Form) Reads(root string) bool {
	return f.Payload == Envelope && root == "changes" || f.body.reads(root)
}

// Content is what a call says.
type Content struct {
	Method      string
	ContentType string // empty if there is no body
	Body        []byte
	// Native says that the headers of the CMS's own webhooks go with it.
	Native bool
}

// fill makes the content of a delivery.
func (f *Form) fill(d event.Delivery, s *expression.Scope) (Content, error) {
	c := Content{Method: f.method(), Native: f.Payload != Envelope && f.Payload != CloudEvents}
	if f.bodiless() {
		return c, nil
	}
	var err error
	switch {
	case f.body != nil:
		c.ContentType = typeJSON
		c.Body, err = f.fillBody(s)
	case f.Payload == Envelope:
		c.ContentType = typeJSON
		c.Body, err = envelopeOf(d)
	case f.Payload == CloudEvents:
		c.ContentType = typeCloudEvent
		c.Body, err = cloudEventOf(d.Event)
	default:
		c.ContentType = contentType(d.Event.Native)
		c.Body = d.Event.Payload
	}
	if f.ContentType != "" {
		c.ContentType = f.ContentType
	}
	if err == nil && f.isForm() {
		c.Body, err = formFields(c.Body)
	}
	return c, err
}

// fillBody gives the body as JSON; a text as it is, if the type is not JSON's.
func (f *Form) fillBody(s *expression.Scope) ([]byte, error) {
	if f.body.kind == setting.TreeText && f.ContentType != "" && !f.isForm() && !isJSON(f.ContentType) {
		text, err := f.body.leaf.text(s)
		return []byte(text), err
	}
	return f.body.fill(nil, s)
}

// isJSON tells whether a media type is of JSON (RFC 6839 section 3.1 for +json).
func isJSON(contentType string) bool {
	name, _, _ := mime.ParseMediaType(contentType)
	return name == typeJSON || strings.HasSuffix(name, "+json")
}

// formFields encodes a JSON object as a form does
// (url.spec.whatwg.org/#application/x-www-form-urlencoded). A null is empty; an
// object or a list is sent as JSON.
func formFields(object []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil || fields == nil {
		return nil, errors.New("the body is no object, so that it has no form fields")
	}
	form := url.Values{}
	for name, raw := range fields {
		text := string(raw)
		var plain *string
		if json.Unmarshal(raw, &plain) == nil {
			if text = ""; plain != nil {
				text = *plain
			}
		}
		form.Set(name, text)
	}
	return []byte(form.Encode()), nil
}

// node is a part of a body: an object, a list, a template or a literal.
type node struct {
	kind     setting.TreeKind
	names    [][]byte // of an object's fields, as JSON
	children []*node
	leaf     Template
	literal  []byte // as JSON
}

// compileNode compiles a tree; nil if there is none.
func compileNode(check setting.Check, tree setting.Tree) *node {
	n := &node{kind: tree.Kind}
	var err error
	switch tree.Kind {
	case setting.TreeNone:
		return nil
	case setting.TreeMap:
		for _, f := range tree.Fields {
			if strings.Contains(f.Name, "${") {
				check.Add(f.Name, "a key can not be a template; only values can")
			}
			name, _ := toJSON(f.Name)
			n.names = append(n.names, name)
			n.children = append(n.children, compileNode(check.In(f.Name), f.Value))
		}
	case setting.TreeList:
		for i, item := range tree.Items {
			n.children = append(n.children, compileNode(check.In(fmt.Sprintf("[%d]", i)), item))
		}
	case setting.TreeText:
		n.leaf, err = CompileTemplate(tree.Text)
	case setting.TreeScalar:
		n.literal, err = toJSON(tree.Value)
	}
	if err != nil {
		check.Add("", "%v", err)
	}
	return n
}

func (n *node) reads(root string) bool {
	return n != nil && (n.leaf.Reads(root) || slices.ContainsFunc(n.children, func(c *node) bool { return c.reads(root) }))
}

// fill appends the node's JSON.
func (n *node) fill(to []byte, s *expression.Scope) ([]byte, error) {
	switch n.kind {
	case setting.TreeText:
		raw, err := n.leaf.json(s)
		return append(to, raw...), err
	case setting.TreeMap:
		return n.fillChildren(to, s, "{}")
	case setting.TreeList:
		return n.fillChildren(to, s, "[]")
	default:
		return append(to, n.literal...), nil
	}
}

func (n *node) fillChildren(to []byte, s *expression.Scope, brackets string) ([]byte, error) {
	to = append(to, brackets[0])
	for i, child := range n.children {
		if i > 0 {
			to = append(to, ',')
		}
		if n.names != nil {
			to = append(append(to, n.names[i]...), ':')
		}
		var err error
		if to, err = child.fill(to, s); err != nil {
			return nil, err
		}
	}
	return append(to, brackets[1]), nil
}
