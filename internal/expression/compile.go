package expression

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
)

// Compile makes a program of a source. The error is an [*Error].
//
// It does what expr.Compile does, with the rewriting in between and without expr's optimizer: that one drops parts that
// would have been evaluated ("x and false"), and makes a map of ["a", "b"] that panics when a number is looked up in it.
func Compile(source string, o Options) (program *Program, err error) {
	defer func() {
		// A mistake in a config must not end the program, whatever the parser makes of it.
		if r := recover(); r != nil {
			program, err = nil, &Error{1, 1, fmt.Sprintf("the expression can not be compiled: %v", r)}
		}
	}()
	if err := checkSource(source); err != nil {
		return nil, err
	}
	config := newConfig(o)
	tree, err := parser.ParseWithConfig(source, config)
	if err != nil {
		return nil, position(err, source)
	}
	if refused := (&check{roots: o.Roots}).visit(tree.Node, 0, nil); refused != nil {
		return nil, position(refused, source)
	}
	if _, err := checker.Check(tree, config); err != nil {
		return nil, position(err, source)
	}
	return build(tree, config, o)
}

func checkSource(source string) error {
	switch {
	case strings.TrimSpace(source) == "":
		return &Error{1, 1, "the expression is empty"}
	case len(source) > maxSource:
		return &Error{1, 1, fmt.Sprintf("the expression is longer than %d bytes", maxSource)}
	}
	return nil
}

// newConfig knows the roots, as values of any type, and the function changed.
func newConfig(o Options) *conf.Config {
	roots := types.Map{}
	for _, name := range o.Roots {
		roots[name] = types.Any
	}
	config := conf.New(roots)
	config.MaxNodes = maxNodes
	config.ExpectAny = true
	if o.Bool {
		config.Expect = reflect.Bool
	}
	config.Functions["changed"] = &builtin.Function{Name: "changed", Types: []reflect.Type{reflect.TypeFor[func(string) bool]()}}
	return config
}

// build rewrites the checked tree and makes the code.
func build(tree *parser.Tree, config *conf.Config, o Options) (*Program, error) {
	p := &Program{source: tree.Source, options: o}
	if root, parts, ok := constantChain(tree.Node, o.Roots); ok {
		p.whole = newChain(root, parts, isOptional(tree.Node))
	}
	p.paths = pathsOf(tree.Node, o.Roots)
	r := &rewriter{roots: o.Roots, done: map[ast.Node]ast.Node{}, chains: map[ast.Node]*chain{}}
	tree.Node = r.rewrite(tree.Node, false)
	p.first = r.first(tree.Node)
	if _, err := checker.Check(tree, config); err != nil {
		return nil, position(err, tree.Source.String())
	}
	tree.Source = file.Source{} // else every stop of a run finds its line in it, for an error that nobody reads
	code, err := compiler.Compile(tree, config)
	if err != nil {
		return nil, position(err, p.source.String())
	}
	p.code = code
	return p, nil
}

// position makes an *Error of an error of the language.
func position(err error, source string) *Error {
	var at *file.Error
	if !errors.As(err, &at) {
		message := strings.Replace(err.Error(), "expected bool, but got", "the expression must give true or false, not", 1)
		return &Error{1, 1, message}
	}
	return asError(at.Bind(file.NewSource(source)))
}

func asError(at *file.Error) *Error {
	return &Error{Line: max(at.Line, 1), Column: at.Column + 1, Message: at.Message}
}
