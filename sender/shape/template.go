package shape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cmstap/internal/expression"
)

// Template is text with values of an event in it: expressions in ${ }, and
// JSON pointers (RFC 6901) in { /payload/sys/id } as Contentful's
// transformations have them. What is missing is null, and null in a text is
// empty. A template never changes and may be used from any goroutine.
type Template struct{ parts []part }

// part is literal text, or a value.
type part struct {
	text    string
	program *expression.Program
}

// CompileTemplate reads a template. The error says what is wrong with which
// part, and where in that.
func CompileTemplate(source string) (Template, error) {
	var t Template
	for rest := source; rest != ""; {
		start, end, program, err := firstValue(rest)
		if err != nil {
			return Template{}, err
		}
		if start > 0 {
			t.parts = append(t.parts, part{text: rest[:start]})
		}
		if program != nil {
			t.parts = append(t.parts, part{program: program})
		}
		rest = rest[end:]
	}
	return t, nil
}

var pointerForm = regexp.MustCompile(`\{\s*(/[^{}]*?)\s*\}`)

// firstValue finds the first value of a text: where it starts and ends. Without
// one the program is nil, and both are the end of the text.
func firstValue(text string) (start, end int, program *expression.Program, err error) {
	opening, pointer := strings.Index(text, "${"), pointerForm.FindStringSubmatchIndex(text)
	switch {
	case opening >= 0 && (pointer == nil || opening < pointer[0]):
		inside := text[opening+2:]
		length := expression.ClosingBrace(inside)
		if length < 0 {
			return 0, 0, nil, fmt.Errorf("in %q: a ${ has no closing brace; if the text goes on after a #, put it in quotes", text)
		}
		program, err = compileExpression(inside[:length])
		return opening, opening + 2 + length + 1, program, err
	case pointer != nil:
		program, err = compilePointer(text[pointer[2]:pointer[3]])
		return pointer[0], pointer[1], program, err
	}
	return len(text), len(text), nil, nil
}

func compileExpression(source string) (*expression.Program, error) {
	program, err := expression.Compile(source, expression.Options{Roots: append(slices.Clip(roots), "before")})
	if err != nil {
		return nil, fmt.Errorf("in %q: %w", source, err)
	}
	if program.Reads("before") {
		return nil, fmt.Errorf("in %q: before is not kept with a delivery; a filter can read it, and changes can be read here", source)
	}
	return program, nil
}

// compilePointer makes an expression of a pointer, so that both miss alike.
func compilePointer(pointer string) (*expression.Program, error) {
	parts := strings.Split(pointer[1:], "/")
	root, known := pointerRoots[parts[0]]
	if !known {
		return nil, fmt.Errorf("in { %s }: a pointer starts with /payload, /topic or /user", pointer)
	}
	var source strings.Builder
	source.WriteString(root)
	for _, part := range parts[1:] {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		source.WriteString("[" + strconv.Quote(part) + "]")
	}
	program, err := expression.Compile(source.String(), expression.Options{Roots: []string{root}})
	if err != nil {
		return nil, fmt.Errorf("in { %s }: %w", pointer, err)
	}
	return program, nil
}

// Reads tells whether the template reads something of a root.
func (t Template) Reads(root string) bool {
	for _, p := range t.parts {
		if p.program != nil && p.program.Reads(root) {
			return true
		}
	}
	return false
}

// Literals are the texts around the values.
func (t Template) Literals() []string {
	var texts []string
	for _, p := range t.parts {
		if p.program == nil {
			texts = append(texts, p.text)
		}
	}
	return texts
}

// IsConstant tells whether the template has no values.
func (t Template) IsConstant() bool {
	return len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].program == nil
}

// whole tells whether the template is nothing but one value, which keeps its type.
func (t Template) whole() bool { return len(t.parts) == 1 && t.parts[0].program != nil }

// text fills the template in as text.
func (t Template) text(s *expression.Scope) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		text, err := p.fill(s)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// fill is the part's text: a value that is no text as JSON, without spaces.
func (p part) fill(s *expression.Scope) (string, error) {
	if p.program == nil {
		return p.text, nil
	}
	raw, err := p.json(s)
	if err != nil || string(raw) == "null" {
		return "", err
	}
	if raw[0] == '"' {
		var text string
		err = json.Unmarshal(raw, &text)
		return text, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, raw)
	return b.String(), err
}

// json is the value as JSON, null if there is none. It fails if the expression
// makes a mistake, such as comparing a number with a text.
func (p part) json(s *expression.Scope) ([]byte, error) {
	switch raw, state, detail := p.program.JSON(s); state {
	case expression.Present:
		return raw, nil
	case expression.Failed:
		return nil, errors.New("a template has no value: " + detail)
	default:
		return []byte("null"), nil
	}
}

// json fills the template in as JSON.
func (t Template) json(s *expression.Scope) ([]byte, error) {
	if !t.whole() {
		text, err := t.text(s)
		if err != nil {
			return nil, err
		}
		return toJSON(text)
	}
	return t.parts[0].json(s)
}

// toJSON is json.Marshal without the escapes that are for HTML.
func toJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
