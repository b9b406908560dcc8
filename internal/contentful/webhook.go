package contentful

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Secret writes down where a secret is: its value, "" if that is not known, and
// a name that it may have.
type Secret func(value, name string) string

// FromEnvironment writes { env: NAME } for a secret that is not known.
func FromEnvironment(value, name string) string {
	if value != "" {
		return "{ value: " + text(value) + " }"
	}
	return "{ env: " + name + " }"
}

// Webhooks writes the definitions as the part webhooks of a config file. The
// error names every one that means something that cmstap can not do.
func Webhooks(definitions []Definition, secret Secret) (string, error) {
	w := &writer{secret: secret, taken: map[string]bool{}, known: map[string]bool{}}
	var problems []error
	w.line(0, "# Made by cmstap import contentful. imported says that the addresses are not your own.")
	w.line(0, "webhooks:")
	written := 0
	for i, d := range definitions {
		if d.Name == "" {
			d.Name = fmt.Sprintf("webhook %d", i+1)
		}
		if d.Active != nil && !*d.Active {
			w.line(1, "# %s is not active and was left out.", text(d.Name))
			continue
		}
		written++
		if err := w.webhook(d); err != nil {
			problems = append(problems, fmt.Errorf("webhook %q: %w", d.Name, err))
		}
	}
	if written == 0 {
		problems = append(problems, errors.New("none of the webhook definitions is active"))
	}
	return w.out.String(), errors.Join(problems...)
}

type writer struct {
	out    strings.Builder
	secret Secret
	taken  map[string]bool // the names of webhooks
	known  map[string]bool // the names of variables
}

// line writes a line, so many steps to the right.
func (w *writer) line(depth int, format string, args ...any) {
	fmt.Fprintf(&w.out, strings.Repeat("  ", depth)+format+"\n", args...)
}

func (w *writer) webhook(d Definition) error {
	name := w.name(d.Name)
	variable := variableName(name)
	w.line(1, "- name: %s", text(name))
	w.line(2, "url: %s", text(template(d.URL)))
	w.line(2, "imported: true")
	w.line(2, "topics: %s", list(d.Topics))
	if err := w.filters(d.Filters); err != nil {
		return err
	}
	w.headers(d.Headers, variable)
	if d.Username != "" {
		w.line(2, "auth: { basic: { username: %s, password: %s } }", text(d.Username), w.secret(d.Password, w.variable(variable+"_PASSWORD")))
	}
	return w.transformation(d)
}

const maxName = 100 // bytes, of a webhook's name in the config

// name makes a name that no other webhook has.
func (w *writer) name(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)
	unique := ""
	for i := 1; unique == "" || w.taken[unique]; i++ {
		suffix := ""
		if i > 1 {
			suffix = fmt.Sprintf(" %d", i)
		}
		unique = strings.ToValidUTF8(name[:min(len(name), maxName-len(suffix))], "") + suffix
	}
	w.taken[unique] = true
	return unique
}

// filters writes environments and filter. All filters must hold; without any
// the vendor's default is the environment master, and an empty list is for all.
func (w *writer) filters(filters []Filter) error {
	if filters == nil {
		w.line(2, "environments: [master]")
		return nil
	}
	var expressions []string
	var environments []string
	for i, f := range filters {
		if allowed := f.environments(); len(allowed) > 0 && environments == nil && !slices.Contains(allowed, "") {
			environments = allowed
			continue
		}
		expression, err := f.expression()
		if err != nil {
			return fmt.Errorf("filter %d: %w", i+1, err)
		}
		expressions = append(expressions, expression)
	}
	if environments != nil {
		w.line(2, "environments: %s", list(environments))
	}
	if expressions != nil {
		w.line(2, "filter: %s", text(strings.Join(expressions, " and ")))
	}
	return nil
}

// refused are headers that the vendor ignores or cmstap sets itself.
var refused = []string{"content-type", "content-length", "host", "transfer-encoding", "connection", "trailer", "upgrade"}

func (w *writer) headers(headers []Header, variable string) {
	seen := map[string]bool{}
	for i, h := range headers {
		if i == 0 {
			w.line(2, "headers:")
		}
		name := strings.ToLower(h.Key)
		switch {
		case slices.Contains(refused, name):
			w.line(3, "# %s is set by cmstap and was left out.", text(h.Key))
		case seen[name]:
			w.line(3, "# %s was there twice, and the first one was kept.", text(h.Key))
		case h.Secret:
			if h.Value == "" {
				w.line(3, "# An export has no value of this one.")
			}
			w.line(3, "%s: %s", text(h.Key), w.secret(h.Value, w.variable(variable+"_"+variablePart(h.Key))))
		default:
			w.line(3, "%s: %s", text(h.Key), text(template(h.Value)))
		}
		seen[name] = true
	}
}

// defaultType is the media type that a body has if a definition names none.
const defaultType = "application/vnd.contentful.management.v1+json"

func (w *writer) transformation(d Definition) error {
	t := d.Transformation
	hasBody := len(t.Body) > 0 && string(t.Body) != "null"
	if t.Method != "" && t.Method != "POST" {
		w.line(2, "method: %s", text(t.Method))
	}
	if t.Method == "GET" || t.Method == "DELETE" {
		return nil // they have no body, whatever the definition says
	}
	if t.ContentType == "" && hasBody {
		t.ContentType = defaultType
	}
	if t.ContentType != "" {
		w.line(2, "content_type: %s", text(t.ContentType))
	}
	if !hasBody {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(t.Body))
	decoder.UseNumber()
	return w.value(decoder, 2, "body:")
}

// value writes the next JSON value of a decoder after what is in front of it.
func (w *writer) value(from *json.Decoder, depth int, before string) error {
	token, err := from.Token()
	if err != nil {
		return err
	}
	opening, nested := token.(json.Delim)
	switch {
	case nested && !from.More():
		_, err = from.Token()
		w.line(depth, "%s %s", before, map[json.Delim]string{'{': "{}", '[': "[]"}[opening])
		return err
	case nested:
		w.line(depth, "%s", before)
		return w.children(from, depth+1, opening == '{')
	}
	word := ""
	switch token := token.(type) {
	case string:
		word = text(template(token))
	case nil:
		word = "null"
	default:
		word = fmt.Sprint(token)
	}
	w.line(depth, "%s %s", before, word)
	return nil
}

// children writes the values of an object or a list up to its end.
func (w *writer) children(from *json.Decoder, depth int, isObject bool) error {
	for from.More() {
		before := "-"
		if isObject {
			key, err := from.Token()
			if err != nil {
				return err
			}
			before = text(key.(string)) + ":"
		}
		if err := w.value(from, depth, before); err != nil {
			return err
		}
	}
	_, err := from.Token()
	return err
}

// template keeps what is an expression in cmstap, and plain text in a
// definition, plain.
func template(definition string) string { return strings.ReplaceAll(definition, "${", `${"${"}`) }

var (
	plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_/.+-]*$`)
	notAWord  = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|null|y|n)$`)
)

// text writes a text as YAML, as plainly as that goes.
func text(value string) string {
	switch {
	case plainWord.MatchString(value) && !notAWord.MatchString(value):
		return value
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return strconv.Quote(value) // its escapes are YAML's
	}
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}

func list(values []string) string {
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = text(value)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

var notOfAName = regexp.MustCompile(`[^A-Z0-9]+`)

// variableName makes a name of an environment variable.
func variableName(webhook string) string {
	part := variablePart(webhook)
	if part == "" {
		part = "WEBHOOK" // nothing of its name is left
	}
	return "CMSTAP_" + part
}

// variable makes a name the only one: two secrets are never one.
func (w *writer) variable(name string) string {
	unique := name
	for n := 2; w.known[unique]; n++ {
		unique = fmt.Sprintf("%s_%d", name, n)
	}
	w.known[unique] = true
	return unique
}

func variablePart(name string) string {
	return strings.Trim(notOfAName.ReplaceAllString(strings.ToUpper(name), "_"), "_")
}
