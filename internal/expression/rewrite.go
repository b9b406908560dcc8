package expression

import "github.com/expr-lang/expr/ast"

// rewriter replaces what reads a value by calls of functions of this package.
type rewriter struct {
	roots  []string
	done   map[ast.Node]ast.Node // the parser uses some nodes twice
	chains map[ast.Node]*chain   // the calls that read a constant chain
}

// rewrite gives the node that takes the place of n. Optional: a miss anywhere in it gives nil, it is left of a "??".
func (r *rewriter) rewrite(n ast.Node, optional bool) ast.Node {
	if done, ok := r.done[n]; ok {
		return done
	}
	done := r.replacement(n, optional)
	done.SetLocation(n.Location())
	r.done[n] = done
	return done
}

func (r *rewriter) replacement(n ast.Node, optional bool) ast.Node {
	switch n := n.(type) {
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		return r.access(n, optional, optional || isOptional(n), false)
	case *ast.BinaryNode:
		if n.Operator == "in" {
			contains := in(n.Right.String())
			right := r.access(n.Right, optional, optional || isOptional(n.Right), true)
			return call(contains, r.rewrite(n.Left, optional), right)
		}
		n.Left = r.rewrite(n.Left, optional || n.Operator == "??")
		n.Right = r.rewrite(n.Right, optional)
		return n
	case *ast.ArrayNode:
		if values, ok := constants(n); ok {
			return &ast.ConstantNode{Value: values}
		}
	case *ast.CallNode: // check lets no other pass than changed
		return call(changed, scopeNode(), r.rewrite(n.Arguments[0], optional))
	}
	for _, child := range children(n) {
		*child = r.rewrite(*child, optional)
	}
	return n
}

// constants gives the values of a list of plain values, so that it is made once and not in every run.
func constants(n *ast.ArrayNode) ([]any, bool) {
	values := make([]any, 0, len(n.Nodes))
	for _, item := range n.Nodes {
		switch item := item.(type) {
		case *ast.StringNode:
			values = append(values, item.Value)
		case *ast.IntegerNode:
			values = append(values, item.Value)
		case *ast.FloatNode:
			values = append(values, item.Value)
		case *ast.BoolNode:
			values = append(values, item.Value)
		case *ast.NilNode:
			values = append(values, nil)
		default:
			return nil, false
		}
	}
	return values, true
}

// access replaces a member chain. The outer flag is for what stands in its brackets, optional for the chain itself.
func (r *rewriter) access(n ast.Node, outer, optional, place bool) ast.Node {
	if root, parts, ok := constantChain(n, r.roots); ok {
		return r.constant(newChain(root, parts, optional), n, place)
	}
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n // a variable
	case *ast.ChainNode:
		return r.access(n.Node, outer, optional, place)
	case *ast.MemberNode:
		a := access{text: n.String(), optional: optional, place: place}
		return at(n, call(a.get, r.access(n.Node, outer, optional, true), r.rewrite(n.Property, outer)))
	}
	return r.rewrite(n, outer)
}

func (r *rewriter) constant(c *chain, n ast.Node, place bool) ast.Node {
	if place {
		return at(n, call(c.getPlace, scopeNode()))
	}
	node := at(n, call(c.get, scopeNode()))
	r.chains[node] = c
	return node
}

// first gives the chain that is evaluated first, if it is one.
func (r *rewriter) first(n ast.Node) *chain {
	if c, ok := r.chains[n]; ok {
		return c
	}
	if below := children(n); len(below) > 0 {
		return r.first(*below[0])
	}
	return nil
}

// call is the node that calls a function of this package. The function is a constant of the program: the machine calls
// the signatures used here without reflection and without an allocation.
func call(function any, args ...ast.Node) ast.Node {
	return &ast.CallNode{Callee: &ast.ConstantNode{Value: function}, Arguments: args}
}

// scopeNode reads the environment of the run, the *Scope. Sources can not name it: check refuses the name.
func scopeNode() ast.Node {
	return &ast.IdentifierNode{Value: "$env"}
}

func at(n, replacement ast.Node) ast.Node {
	replacement.SetLocation(n.Location())
	return replacement
}
