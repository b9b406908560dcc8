package rules

import (
	"encoding/json"
	"net/url"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// incoming is what a request means: method and path, and what the dialect's
// expressions may read of the rest of its head.
type incoming struct {
	method, path   string
	headers, query map[string]string // nil until they are read
}

// read copies the headers and the parameters of the query that the dialect
// names.
func (in *incoming) read(d *Dialect, head event.Head) {
	in.headers, in.query = map[string]string{}, map[string]string{}
	for name, header := range d.Headers {
		if value := head.Headers.Get(header); value != "" {
			in.headers[name] = clone(strings.ToValidUTF8(value, "\uFFFD"))
		}
	}
	if len(d.Query) == 0 || head.Query == "" {
		return
	}
	for pair := range strings.SplitSeq(head.Query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		for name, parameter := range d.Query {
			if key == parameter || plainQuery(key) == parameter {
				in.query[name] = with(in.query[name], parameter, clone(plainQuery(value)))
			}
		}
	}
}

// with is the value of a parameter that comes once more: the last one counts, but
// those of a list, post[], are joined with commas.
func with(before, parameter, value string) string {
	if before != "" && strings.HasSuffix(parameter, "[]") {
		return before + "," + value
	}
	return value
}

// plainQuery undoes the encoding of a part of a query; what is broken stays.
func plainQuery(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		plain = text
	}
	return strings.ToValidUTF8(plain, "\uFFFD")
}

// meant replaces method and path where the dialect says that others are meant.
func (d *Dialect) meant(in *incoming) {
	v := expression.NewScope(map[string]any{"header": in.headers, "query": in.query})
	if method := d.method.known(v); method != "" {
		in.method = strings.ToUpper(method)
	}
	if path, _, _ := strings.Cut(d.uri.known(v), "?"); path != "" {
		in.path = "/" + strings.TrimLeft(path, "/")
	}
}

// again is the request that an intent is about.
func (d *Dialect) again(intent *event.Intent) *incoming {
	in := &incoming{intent.Method, intent.Path, intent.Headers, intent.Query}
	if in.headers == nil {
		in.headers = map[string]string{}
	}
	if in.query == nil {
		in.query = map[string]string{}
	}
	if d.method != nil || d.uri != nil {
		d.meant(in)
	}
	in.path = resolveDots(in.path)
	return in
}

// uriOf is the path as expressions see it: plain, as people write it.
func uriOf(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	return unescape(path)
}

// params are the parameters of the path, and those that its form leaves out.
func (d *Dialect) params(r *route, path string) map[string]string {
	params := r.pattern.params(path)
	for name, value := range d.Path {
		if _, given := params[name]; !given {
			params[name] = value
		}
	}
	return params
}

// rootsOf is what expressions may read of the request of an intent.
func (d *Dialect) rootsOf(intent *event.Intent, r *route) map[string]any {
	in := d.again(intent)
	roots := map[string]any{"path": d.params(r, in.path), "header": in.headers, "query": in.query, "uri": uriOf(in.path)}
	if r.body != nil {
		roots["body"] = bodyOf(intent)
	}
	if intent.Job != nil {
		roots["job"] = intent.Job.ID
	}
	return roots
}

// maxNamed bounds what an intent keeps of a body.
const maxNamed = 64 << 10

// readBody puts into the intent what the route names of the body.
func (r *route) readBody(intent *event.Intent, roots map[string]any, request expression.Document) {
	if request.JSON == nil {
		intent.BodyUnseen = request.Why
		return
	}
	scope := expression.NewScope(roots).With(map[string]any{"request": request})
	found := map[string]json.RawMessage{}
	for name, program := range r.body {
		switch raw, state, why := program.JSON(scope); state {
		case expression.Present:
			found[name] = raw
		case expression.Unknown, expression.Failed:
			intent.BodyUnseen = name + " can not be read of it: " + why
			return
		}
	}
	text, err := json.Marshal(found)
	switch {
	case err != nil:
		intent.BodyUnseen = "what it names can not be kept: " + err.Error()
	case len(text) > maxNamed:
		intent.BodyUnseen = "what it names takes more than 64 KiB"
	default:
		intent.Body = text
	}
}

// bodyOf is what an intent keeps of the body, as expressions see it.
func bodyOf(intent *event.Intent) expression.Document {
	return expression.Document{JSON: intent.Body, Whole: intent.BodyUnseen == "", Why: intent.BodyUnseen}
}

func clone(s string) string { return strings.Clone(s) }
