package expression

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

const (
	maxSource = 16 << 10 // bytes; bounds the recursion of the parser
	maxNodes  = 500
	maxNested = 2 // predicates within each other: their steps multiply
)

// builtins are the functions that a program may call. Left out is what depends on the clock, the time zone or the order
// of a map (now, date, keys, toPairs), what makes much out of little (reduce, repeat), and get, which would be a way
// around "missing is false" that nobody sees.
var builtins = strings.Fields(`all none any one filter map find findIndex findLast findLastIndex count sum sortBy
	len type abs ceil floor round int float string trim trimPrefix trimSuffix upper lower split replace join
	indexOf lastIndexOf hasPrefix hasSuffix max min mean median toJSON fromJSON toBase64 fromBase64
	first last take reverse uniq concat flatten sort`)

// check refuses what the language allows and this package does not.
type check struct {
	roots []string
	nodes int
}

// visit looks at a node and all below it. It goes through shared nodes as often as they are used (the parser shares the
// b of a < b < c), because that is what every later step does as well: the limit is on steps, not on nodes.
func (c *check) visit(n ast.Node, nested int, variables []string) *file.Error {
	if c.nodes++; c.nodes > maxNodes {
		return refuse(n, "the expression is too long: more than %d parts", maxNodes)
	}
	if err := c.one(n, nested, variables); err != nil {
		return err
	}
	if _, ok := n.(*ast.PredicateNode); ok {
		nested++
	}
	for _, child := range children(n) {
		if err := c.visit(*child, nested, variables); err != nil {
			return err
		}
		if v, ok := n.(*ast.VariableDeclaratorNode); ok { // known from its second child on
			variables = append(slices.Clone(variables), v.Name)
		}
	}
	return nil
}

// one looks at the node alone.
func (c *check) one(n ast.Node, nested int, variables []string) *file.Error {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if !slices.Contains(c.roots, n.Value) && !slices.Contains(variables, n.Value) {
			return refuse(n, "unknown name %s; known are: %s", n.Value, strings.Join(c.roots, ", "))
		}
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		if !slices.Contains(builtins, n.Name) {
			return refuse(n, "the function %s is not available; available are: %s", n.Name, strings.Join(builtins, ", "))
		}
	case *ast.BinaryNode:
		if n.Operator == ".." {
			return refuse(n, "ranges (..) are not available")
		}
	case *ast.PredicateNode:
		if nested == maxNested {
			return refuse(n, "more than %d conditions within each other, such as any(..., any(..., any(...)))", maxNested)
		}
	}
	return nil
}

func (c *check) call(n *ast.CallNode) *file.Error {
	name, ok := n.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
		return refuse(n, "%s is not a function", n.Callee)
	case name.Value != "changed" || !slices.Contains(c.roots, "changes"):
		return refuse(n, "unknown function %s", name.Value)
	case len(n.Arguments) != 1:
		return refuse(n, `changed takes one path, such as changed("fields.slug")`)
	}
	return nil
}

func refuse(n ast.Node, format string, args ...any) *file.Error {
	return &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
}

// children gives the nodes directly below a node, in the order in which they are evaluated, to be read or replaced. The
// name of a function that is called is not one of them.
func children(n ast.Node) []*ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []*ast.Node{&n.Node}
	case *ast.BinaryNode:
		return []*ast.Node{&n.Left, &n.Right}
	case *ast.ChainNode:
		return []*ast.Node{&n.Node}
	case *ast.MemberNode:
		return []*ast.Node{&n.Node, &n.Property}
	case *ast.SliceNode:
		return given(&n.Node, &n.To, &n.From)
	case *ast.CallNode:
		return each(n.Arguments)
	case *ast.BuiltinNode:
		return each(n.Arguments)
	case *ast.PredicateNode:
		return []*ast.Node{&n.Node}
	case *ast.VariableDeclaratorNode:
		return []*ast.Node{&n.Value, &n.Expr}
	case *ast.SequenceNode:
		return each(n.Nodes)
	case *ast.ConditionalNode:
		return []*ast.Node{&n.Cond, &n.Exp1, &n.Exp2}
	case *ast.ArrayNode:
		return each(n.Nodes)
	case *ast.MapNode:
		return each(n.Pairs)
	case *ast.PairNode:
		return []*ast.Node{&n.Key, &n.Value}
	}
	return nil
}

func each(nodes []ast.Node) []*ast.Node {
	pointers := make([]*ast.Node, len(nodes))
	for i := range nodes {
		pointers[i] = &nodes[i]
	}
	return pointers
}

func given(nodes ...*ast.Node) []*ast.Node {
	return slices.DeleteFunc(nodes, func(n *ast.Node) bool { return *n == nil })
}
