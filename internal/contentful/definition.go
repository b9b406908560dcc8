// Package contentful turns webhook definitions of Contentful's management API
// into the part webhooks of a config file.
package contentful

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Definition is a webhook as the management API and its exports have it
// (www.contentful.com/developers/docs/references/content-management-api,
// webhooks).
type Definition struct {
	Name     string   `json:"name"`
	URL      string   `json:"url"`
	Topics   []string `json:"topics"`
	Filters  []Filter `json:"filters"` // nil: none given, which is not the same as an empty list
	Active   *bool    `json:"active"`
	Headers  []Header `json:"headers"`
	Username string   `json:"httpBasicUsername"`
	Password string   `json:"httpBasicPassword"` // never in an export

	Transformation struct {
		Method      string          `json:"method"`
		ContentType string          `json:"contentType"`
		Body        json.RawMessage `json:"body"` // any JSON
	} `json:"transformation"`
}

// Header is a custom header. An export has no value of a secret one.
type Header struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Secret bool   `json:"secret"`
}

// Parse reads one definition, a list of them, an answer of the API (items) or
// an export of a space (webhooks).
func Parse(text []byte) ([]Definition, error) {
	text = bytes.TrimSpace(text)
	if bytes.HasPrefix(text, []byte("[")) {
		return parseList(text)
	}
	var outer struct {
		Items    json.RawMessage `json:"items"`
		Webhooks json.RawMessage `json:"webhooks"`
		URL      *string         `json:"url"`
	}
	err := json.Unmarshal(text, &outer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("not webhook definitions in JSON: %w", err)
	case outer.Items != nil:
		return parseList(outer.Items)
	case outer.Webhooks != nil:
		return parseList(outer.Webhooks)
	case outer.URL == nil:
		return nil, errors.New("no webhook definitions: want one with a url, a list of them, or an object with items or webhooks")
	}
	return parseList([]byte("[" + string(text) + "]"))
}

func parseList(text []byte) ([]Definition, error) {
	var definitions []Definition
	if err := json.Unmarshal(text, &definitions); err != nil {
		return nil, fmt.Errorf("not webhook definitions in JSON: %w", err)
	}
	if len(definitions) == 0 {
		return nil, errors.New("the list of webhook definitions is empty")
	}
	return definitions, nil
}

// Filter is one condition on a value of the payload. One of Equals, In and
// Regexp is set.
type Filter struct {
	Doc     string
	Equals  string
	In      []string
	Pattern string
	Kind    string // equals, in or regexp
	Not     bool
}

// UnmarshalJSON reads {"equals": [{"doc": PATH}, VALUE]} and the like.
func (f *Filter) UnmarshalJSON(text []byte) error {
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(text, &kinds); err != nil || len(kinds) != 1 {
		return fmt.Errorf("a filter is one of equals, in, regexp and not, not %s", text)
	}
	for kind, inside := range kinds {
		if kind != "not" {
			return f.unmarshal(kind, inside)
		}
		if err := f.UnmarshalJSON(inside); err != nil {
			return err
		}
		if f.Not {
			return errors.New("a filter has not in a not")
		}
		f.Not = true
	}
	return nil
}

func (f *Filter) unmarshal(kind string, text []byte) error {
	var doc struct{ Doc string }
	var pattern struct{ Pattern string }
	into := map[string]any{"equals": &f.Equals, "in": &f.In, "regexp": &pattern}[kind]
	if into == nil {
		return fmt.Errorf("there is no filter %q; known are equals, in, regexp and not", kind)
	}
	var pair []json.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil || len(pair) != 2 {
		return fmt.Errorf("a filter %s has a doc and a value, not %s", kind, text)
	}
	if err := json.Unmarshal(pair[0], &doc); err != nil || doc.Doc == "" {
		return fmt.Errorf("a filter %s has a doc, a path such as sys.id, not %s", kind, pair[0])
	}
	if err := json.Unmarshal(pair[1], into); err != nil {
		return fmt.Errorf("a filter %s can not have the value %s", kind, pair[1])
	}
	f.Kind, f.Doc, f.Pattern = kind, doc.Doc, pattern.Pattern
	return nil
}

// environmentDoc is the value that environments compares.
const environmentDoc = "sys.environment.sys.id"

// environments are those that the filter allows, if that is all that it says.
func (f Filter) environments() []string {
	switch {
	case f.Doc != environmentDoc || f.Not:
		return nil
	case f.Kind == "equals":
		return []string{f.Equals}
	}
	return f.In
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expression is the filter in the language of cmstap's filters, which agrees
// that what is missing is false, also under not.
func (f Filter) expression() (string, error) {
	path := "payload"
	for part := range strings.SplitSeq(f.Doc, ".") {
		if identifier.MatchString(part) {
			path += "." + part
		} else {
			path += "[" + strconv.Quote(part) + "]"
		}
	}
	text := ""
	switch f.Kind {
	case "equals":
		text = path + " == " + strconv.Quote(f.Equals)
	case "in":
		values := make([]string, len(f.In))
		for i, value := range f.In {
			values[i] = strconv.Quote(value)
		}
		text = path + " in [" + strings.Join(values, ", ") + "]"
	case "regexp":
		if _, err := regexp.Compile(f.Pattern); err != nil {
			return "", fmt.Errorf("the pattern %q can not be run here (RE2, without look-around and back references): write the filter by hand", f.Pattern)
		}
		text = path + " matches " + strconv.Quote(f.Pattern)
	}
	if f.Not {
		text = "not (" + text + ")"
	}
	return text, nil
}
