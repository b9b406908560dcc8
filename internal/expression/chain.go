package expression

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/expr-lang/expr/ast"
)

// chain is a path that is known when the program is compiled: a root and keys or indices.
type chain struct {
	root     string
	parts    []string
	texts    []string // the path up to each part, as text; texts[0] is the root
	optional bool     // a miss gives nil
}

func newChain(root string, parts []string, optional bool) *chain {
	texts := []string{root}
	for i, part := range parts {
		texts = append(texts, texts[i]+partText(part))
	}
	return &chain{root, parts, texts, optional}
}

// text is the whole path. Different paths have different texts.
func (c *chain) text() string {
	return c.texts[len(c.parts)]
}

// get is the call that takes the place of the chain in the program.
func (c *chain) get(scope any) any {
	return c.orNil(scope.(*Scope).value(c))
}

// getPlace is get for what is looked into further: a document is not decoded.
func (c *chain) getPlace(scope any) any {
	return c.orNil(scope.(*Scope).place(c))
}

func (c *chain) orNil(v any, stopped *stop) any {
	return pass(v, stopped, c.optional)
}

// pass gives the value on, or ends the evaluation.
func pass(v any, stopped *stop, optional bool) any {
	switch {
	case stopped == nil:
		return v
	case stopped.state == Missing && optional:
		return nil
	}
	panic(stopped)
}

// partText is the part as one would write it after the path before.
func partText(part string) string {
	switch {
	case isName(part):
		return "." + part
	case isIndex(part):
		return "[" + part + "]"
	}
	return "[" + strconv.Quote(part) + "]"
}

func isName(part string) bool {
	for i, r := range part {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return part != ""
}

func isIndex(part string) bool {
	n, err := strconv.Atoi(part)
	return err == nil && strconv.Itoa(n) == part
}

// constantChain gives root and parts if the node is nothing but a constant member chain.
func constantChain(n ast.Node, roots []string) (root string, parts []string, ok bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value, nil, slices.Contains(roots, n.Value)
	case *ast.ChainNode:
		return constantChain(n.Node, roots)
	case *ast.MemberNode:
		part, ok := constantPart(n.Property)
		if !ok {
			return "", nil, false
		}
		root, parts, ok = constantChain(n.Node, roots)
		return root, append(parts, part), ok
	}
	return "", nil, false
}

func constantPart(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return strconv.Itoa(n.Value), true
	case *ast.UnaryNode:
		if i, ok := n.Node.(*ast.IntegerNode); ok && n.Operator == "-" {
			return strconv.Itoa(-i.Value), true
		}
	}
	return "", false
}

// isOptional says whether there is a "?." anywhere in the member chain.
func isOptional(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ChainNode:
		return isOptional(n.Node)
	case *ast.MemberNode:
		return n.Optional || isOptional(n.Node)
	}
	return false
}

// access is a single step of a chain that is not constant.
type access struct {
	text     string // the source, for messages
	optional bool
	place    bool // what is found is looked into further: do not decode
}

// get is the call that takes the place of the access in the program.
func (a access) get(from, key any) any {
	part, ok := partOf(key)
	if !ok {
		panic(fmt.Errorf("%s: %T is not a key", a.text, key))
	}
	v, stopped := step(from, part, a.text)
	if stopped == nil && !a.place {
		v, stopped = valueOf(v, a.text)
	}
	return pass(v, stopped, a.optional)
}

// partOf gives the part that a computed key stands for.
func partOf(key any) (string, bool) {
	switch key := key.(type) {
	case string:
		return key, true
	case float64:
		return strconv.FormatFloat(key, 'f', -1, 64), true
	case int, int64:
		return fmt.Sprint(key), true
	}
	return "", false
}
