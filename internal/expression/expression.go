// Package expression compiles and runs the filters and value expressions of the config. It is the only place that
// knows the expression language, github.com/expr-lang/expr, and it adds two rules to it:
//
//   - Missing is false. The first evaluated access to a property that the value does not have ends the evaluation with
//     the state [Missing]; a filter is then false, also under "not" and "!=". A part that is not evaluated, such as the
//     right side of "true or x", can not miss. JSON null is present. A "?." anywhere in a member chain, or a "??" to the
//     right of it, opts that chain out: a miss gives nil.
//   - Not seen is not missing. The first evaluated access into something that was not seen ends the evaluation with the
//     state [Unknown]. Nothing opts out of that.
//
// Whichever of the two is evaluated first decides. A mistake at run time, such as 1 > "a", gives the state [Failed].
//
// A result depends on the program and the scope alone: what reads the clock, the time zone or the order of a map is
// refused by [Compile], as is what only costs time and memory. Filters are written by the operator: the limits stop
// mistakes, they do not make expressions of strangers safe to run.
//
// Numbers of JSON are float64: integers above 2^53 are compared as their nearest float64. An array index may be negative
// and then counts from the end; one out of range is missing. Strings, numbers and null have no properties.
package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// State says how an evaluation or a lookup ended.
type State uint8

// The states. Only Present comes with a value.
const (
	Present State = iota
	Missing
	Unknown
	Failed
)

// String gives the state's name in lower case.
func (s State) String() string {
	return [...]string{"present", "missing", "unknown", "failed"}[s]
}

// Result is the outcome of a run.
type Result struct {
	// Value is nil, a bool, string, number, []any or map[string]any. It may be shared with other runs: do not change it.
	Value any
	State State
	// Detail is the path that was missing, the path and why it is unknown, or the error. Empty if present.
	Detail string
}

// True says whether the result is the value true: a filter that is missing, unknown or failed is not.
func (r Result) True() bool {
	return r.Value == true
}

// Options is what a program may use and must give.
type Options struct {
	// Roots are the known names. With a root "changes", a [Document] with a JSON array of dotted paths, there is also
	// the function changed("fields.slug"): true if the array has that path or one below or above it.
	Roots []string
	// Bool wants a program that gives true or false. What is not known until it runs is checked there; nil is false.
	Bool bool
}

// Error is a mistake in the source of an expression. Line and Column count from 1, columns in characters.
type Error struct {
	Line    int
	Column  int
	Message string
}

// Error gives position and message on one line.
func (e *Error) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	code  *vm.Program
	whole *chain // the program if it is nothing but a member chain, else nil
	first *chain // what is evaluated first if that is a member chain, else nil
	paths []Path

	source  file.Source
	options Options
}

// Paths lists the paths that the program may read, sorted.
func (p *Program) Paths() []Path {
	return slices.Clone(p.paths)
}

// Reads says whether the program may read something of this root.
func (p *Program) Reads(root string) bool {
	return slices.ContainsFunc(p.paths, func(path Path) bool { return path.Root == root })
}

// JSON evaluates the program and gives the result as JSON, nil unless it is present. Of a constant member chain the bytes
// are those of the document, not a copy. The detail is that of a Result.
func (p *Program) JSON(s *Scope) (raw []byte, state State, detail string) {
	if p.whole != nil && !p.whole.optional {
		place, stopped := s.place(p.whole)
		if stopped != nil {
			return nil, stopped.state, stopped.Error()
		}
		if d, ok := place.(Document); ok {
			raw, state = d.Lookup()
			return raw, state, d.Why
		}
	}
	result := p.Run(s)
	if result.State != Present {
		return nil, result.State, result.Detail
	}
	raw, err := json.Marshal(result.Value)
	if err != nil {
		return nil, Failed, err.Error()
	}
	return raw, Present, ""
}

// machines are kept because a new one costs as much as a short program. They are not safe for concurrent use.
var machines = sync.Pool{New: func() any { return new(vm.VM) }}

// Run evaluates the program. It never panics.
func (p *Program) Run(s *Scope) Result {
	if stopped := p.stopsAtOnce(s); stopped != nil {
		return stopped.result()
	}
	m := machines.Get().(*vm.VM)
	value, err := m.Run(p.code, s)
	release(m)
	if err != nil {
		return p.failure(err)
	}
	return Result{Value: value}
}

// stopsAtOnce looks at what is evaluated first. Most filters that miss do so there, and leaving the machine by a panic
// costs ten times more than the lookup.
func (p *Program) stopsAtOnce(s *Scope) *stop {
	if p.first == nil {
		return nil
	}
	_, stopped := s.value(p.first)
	if stopped != nil && stopped.state == Missing && p.first.optional {
		return nil
	}
	return stopped
}

// release forgets the values of the run, which may be large, and keeps the machine.
func release(m *vm.VM) {
	clear(m.Stack[:cap(m.Stack)])
	clear(m.Variables)
	machines.Put(m)
}

// failure turns what ended the machine into a result: our own stop, or a mistake at run time.
func (p *Program) failure(err error) Result {
	var stopped *stop
	if errors.As(err, &stopped) {
		return stopped.result()
	}
	var at *file.Error
	if errors.As(err, &at) {
		return Result{State: Failed, Detail: asError(at.Bind(p.source)).Error()}
	}
	return Result{State: Failed, Detail: err.Error()}
}

// stop ends an evaluation. It leaves the machine as a panic, which the machine turns into an error.
type stop struct {
	state State
	path  string
	why   string
}

// Error gives path and reason, as far as they are known.
func (s *stop) Error() string {
	switch {
	case s.why == "":
		return s.path
	case s.path == "":
		return s.why
	}
	return s.path + ": " + s.why
}

func (s *stop) result() Result {
	return Result{State: s.state, Detail: s.Error()}
}
