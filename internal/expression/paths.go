package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// Path is what a program may read: a root and what follows it. A computed key is a star.
type Path struct {
	Root  string
	Parts []string
	// Optional is whether a miss gives nil, by a "?." or a "??".
	Optional bool
}

// String gives the path as one would write it: payload.fields.*
func (p Path) String() string {
	text := p.Root
	for _, part := range p.Parts {
		if part == star {
			text += "." + star
		} else {
			text += partText(part)
		}
	}
	return text
}

const star = "*"

func (p Path) below(parts ...string) Path {
	p.Parts = append(slices.Clone(p.Parts), parts...)
	return p
}

// pathsOf lists the paths that a tree reads, each once, sorted by their texts. One that is read in both ways is not
// optional.
func pathsOf(n ast.Node, roots []string) []Path {
	w := &walker{roots: roots}
	w.visit(n, Path{}, false)
	slices.SortFunc(w.paths, func(a, b Path) int {
		by := strings.Compare(a.String(), b.String())
		if by == 0 && a.Optional != b.Optional {
			by = map[bool]int{false: -1, true: 1}[a.Optional]
		}
		return by
	})
	return slices.CompactFunc(w.paths, func(a, b Path) bool { return a.String() == b.String() })
}

type walker struct {
	roots []string
	paths []Path
}

// visit collects the paths at and below a node. Items is the path of what "#" stands for; optional: it is left of a "??".
func (w *walker) visit(n ast.Node, items Path, optional bool) {
	if path := w.path(n, items); path.Root != "" {
		path.Optional = optional || isOptional(n)
		w.paths = append(w.paths, path)
		w.keys(n, items, optional)
		return
	}
	switch n := n.(type) {
	case *ast.BuiltinNode:
		w.builtin(n, items, optional)
		return
	case *ast.BinaryNode:
		w.visit(n.Left, items, optional || n.Operator == "??")
		w.visit(n.Right, items, optional)
		return
	case *ast.CallNode: // check lets no other pass than changed
		w.paths = append(w.paths, Path{Root: "changes"})
	}
	for _, child := range children(n) {
		w.visit(*child, items, optional)
	}
}

func (w *walker) builtin(n *ast.BuiltinNode, items Path, optional bool) {
	for i, argument := range n.Arguments {
		if _, ok := argument.(*ast.PredicateNode); ok && i > 0 {
			w.visit(argument, w.items(n.Arguments[0], items), optional)
			continue
		}
		w.visit(argument, items, optional)
	}
}

// items gives the path of the items of a list, if it is a part of the scope.
func (w *walker) items(list ast.Node, items Path) Path {
	if b, ok := list.(*ast.BuiltinNode); ok && keepsItems(b.Name) && len(b.Arguments) > 0 {
		return w.items(b.Arguments[0], items)
	}
	if path := w.path(list, items); path.Root != "" {
		return path.below(star)
	}
	return Path{}
}

// keepsItems says whether the function gives a list of some of the items that it was given.
func keepsItems(function string) bool {
	return slices.Contains([]string{"filter", "sort", "sortBy", "reverse", "take", "uniq"}, function)
}

// path gives the path of a member chain, or none. A computed key is a star.
func (w *walker) path(n ast.Node, items Path) Path {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if slices.Contains(w.roots, n.Value) {
			return Path{Root: n.Value}
		}
	case *ast.PointerNode:
		if n.Name == "" {
			return items
		}
	case *ast.ChainNode:
		return w.path(n.Node, items)
	case *ast.MemberNode:
		above := w.path(n.Node, items)
		part, constant := constantPart(n.Property)
		switch {
		case above.Root == "":
			return above
		case !constant:
			part = star
		}
		return above.below(part)
	}
	return Path{}
}

// keys collects what stands in the brackets of a member chain.
func (w *walker) keys(n ast.Node, items Path, optional bool) {
	switch n := n.(type) {
	case *ast.ChainNode:
		w.keys(n.Node, items, optional)
	case *ast.MemberNode:
		w.keys(n.Node, items, optional)
		w.visit(n.Property, items, optional)
	}
}
