package expression

import (
	"slices"

	"github.com/expr-lang/expr/ast"
)

// pathsOf lists the paths that a tree reads, sorted.
func pathsOf(n ast.Node, roots []string) []string {
	w := &walker{roots: roots}
	w.visit(n, "")
	slices.Sort(w.paths)
	return slices.Compact(w.paths)
}

type walker struct {
	roots []string
	paths []string
}

// visit collects the paths at and below a node. Items is the path of what "#" stands for.
func (w *walker) visit(n ast.Node, items string) {
	if path := w.path(n, items); path != "" {
		w.paths = append(w.paths, path)
		w.keys(n, items)
		return
	}
	switch n := n.(type) {
	case *ast.BuiltinNode:
		w.builtin(n, items)
		return
	case *ast.CallNode: // check lets no other pass than changed
		w.paths = append(w.paths, "changes")
	}
	for _, child := range children(n) {
		w.visit(*child, items)
	}
}

func (w *walker) builtin(n *ast.BuiltinNode, items string) {
	for i, argument := range n.Arguments {
		if _, ok := argument.(*ast.PredicateNode); ok && i > 0 {
			w.visit(argument, w.items(n.Arguments[0], items))
			continue
		}
		w.visit(argument, items)
	}
}

// items gives the path of the items of a list, if it is a part of the scope.
func (w *walker) items(list ast.Node, items string) string {
	if b, ok := list.(*ast.BuiltinNode); ok && keepsItems(b.Name) && len(b.Arguments) > 0 {
		return w.items(b.Arguments[0], items)
	}
	if path := w.path(list, items); path != "" {
		return path + ".*"
	}
	return ""
}

// keepsItems says whether the function gives a list of some of the items that it was given.
func keepsItems(function string) bool {
	return slices.Contains([]string{"filter", "sort", "sortBy", "reverse", "take", "uniq"}, function)
}

// path gives the path of a member chain, or nothing. A computed key is a star.
func (w *walker) path(n ast.Node, items string) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if slices.Contains(w.roots, n.Value) {
			return n.Value
		}
	case *ast.PointerNode:
		if n.Name == "" {
			return items
		}
	case *ast.ChainNode:
		return w.path(n.Node, items)
	case *ast.MemberNode:
		return below(w.path(n.Node, items), n.Property)
	}
	return ""
}

func below(path string, property ast.Node) string {
	if path == "" {
		return ""
	}
	if part, ok := constantPart(property); ok {
		return path + partText(part)
	}
	return path + ".*"
}

// keys collects what stands in the brackets of a member chain.
func (w *walker) keys(n ast.Node, items string) {
	switch n := n.(type) {
	case *ast.ChainNode:
		w.keys(n.Node, items)
	case *ast.MemberNode:
		w.keys(n.Node, items)
		w.visit(n.Property, items)
	}
}
