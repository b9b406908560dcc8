// Package setting reads YAML strictly: every mistake of a file is found at
// once and named with its line. It is the only package that knows YAML.
//
// A package that has settings declares a struct with `yaml` tags, fills in the
// defaults, and gives it a Validate method that reports to a Check. Slice
// elements and what a pointer leads to get their defaults from a SetDefaults method, and a limit from an AtMost method. A scalar in the file
// may stand for a whole struct if that implements encoding.TextUnmarshaler.
package setting

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Problem is one mistake in a file.
type Problem struct {
	File string
	Line int    // from 1; 0 if the mistake has no place in the file
	Path string // webhooks[0].url; "" for the file as a whole
	Text string // what is wrong and what to do
}

// String returns "file:line: path: text".
func (p Problem) String() string {
	text := p.File
	if p.Line > 0 {
		text += fmt.Sprintf(":%d", p.Line)
	}
	if p.Path != "" {
		text += ": " + p.Path
	}
	return text + ": " + p.Text
}

// Problems is every mistake of a file, as an error with one line for each.
type Problems []Problem

// Error returns one line for each problem, in the order of the file.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sort brings them into the order of the file. Those of one place stay in the
// order in which they were found.
func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Path, b.Path)) })
}

// Check collects the mistakes that a Validate method finds, and the warnings of
// a Warn method. Paths are relative to the struct that is validated.
type Check struct {
	doc    *document
	prefix string
}

// In returns a Check for the part of the file at path, for example
// "webhooks[2]". An empty path is the same part.
func (c Check) In(path string) Check { return Check{c.doc, join(c.prefix, path)} }

// Add reports a mistake at path ("" for the part as a whole).
func (c Check) Add(path, format string, args ...any) {
	full := join(c.prefix, path)
	c.doc.add(c.doc.line(full), full, format, args...)
}

// Warn reports at path what is allowed but hardly meant.
func (c Check) Warn(path, format string, args ...any) {
	full := join(c.prefix, path)
	c.doc.warnings = append(c.doc.warnings, Problem{c.doc.file, c.doc.line(full), full, fmt.Sprintf(format, args...)})
}

// File reports the name of a file that only a shell would understand.
func (c Check) File(path, name string) {
	if needsShell(name) {
		c.Add(path, shellHint)
	}
}

const shellHint = "starts with ~, which only a shell replaces; write the whole path"

func needsShell(name string) bool { return strings.HasPrefix(name, "~/") }

// Warnings returns what Warn reported so far, in the order of the file, but not
// where a mistake was reported too: that says it better.
func (c Check) Warnings() Problems {
	warnings := slices.DeleteFunc(slices.Clone(c.doc.warnings), func(w Problem) bool {
		return slices.ContainsFunc(c.doc.problems, func(p Problem) bool { return p.Path == w.Path })
	})
	warnings.sort()
	return warnings
}

// Decode reads one YAML document into the struct that into points to, which
// holds the defaults, and then calls validate, unless the file as a whole could
// not be read. The error is nil or Problems: everything that is wrong, in the
// order of the file.
func Decode(file string, text []byte, into any, validate func(Check)) error {
	return newDocument(file).read(text, into, validate)
}

// DecodeUnresolved is Decode for a text of somebody else: secrets stay empty, so
// that no file and no variable is read that the text names.
func DecodeUnresolved(file string, text []byte, into any, validate func(Check)) error {
	doc := newDocument(file)
	doc.unresolved = true
	return doc.read(text, into, validate)
}

func newDocument(file string) *document {
	return &document{file: file, lines: map[string]int{}, reading: map[*yaml.Node]bool{}}
}

func (d *document) read(text []byte, into any, validate func(Check)) error {
	d.decode(text, into)
	unread := slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == "" })
	if validate != nil && !unread {
		validate(Check{doc: d})
	}
	if len(d.problems) == 0 {
		return nil
	}
	d.problems.sort()
	return d.problems
}

// maxProblems bounds what is said of one file: whoever wrote more mistakes mends these
// first.
const maxProblems = 100

// document is a file while it is read.
type document struct {
	file     string
	lines    map[string]int // path -> line
	problems Problems
	warnings Problems
	reading  map[*yaml.Node]bool // false: was read before
	repeats  int                 // of nodes, through aliases

	unresolved bool // secrets are not read
}

func (d *document) add(line int, path, format string, args ...any) {
	p := Problem{File: d.file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)}
	// One mistake a place: the first says it best, and a part says it better than
	// the whole.
	if len(d.problems) >= maxProblems {
		return
	}
	said := func(q Problem) bool { return q.Path == path && q.Line == line || isBelow(q.Path, path) }
	if !slices.ContainsFunc(d.problems, said) {
		d.problems = append(d.problems, p)
	}
}

// isBelow tells whether a path is of a part of what is at another.
func isBelow(path, above string) bool {
	rest, found := strings.CutPrefix(path, above)
	return found && above != "" && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

func (d *document) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

func join(prefix, path string) string {
	if prefix == "" || path == "" || path[0] == '[' {
		return prefix + path
	}
	return prefix + "." + path
}
