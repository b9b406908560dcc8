package expression

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// String is the source of the program.
func (p *Program) String() string { return p.source.String() }

// Reading is what a program found at a path.
type Reading struct {
	Path  string `json:"path"`
	State string `json:"state"`           // present, missing, unknown or failed
	Value string `json:"value,omitempty"` // as JSON, cut after 100 bytes
}

// Explain returns the part of the program that decided the result of a run with
// the scope, and what that part read. It is slow: it compiles the parts.
func (p *Program) Explain(s *Scope) (part string, reads []Reading) {
	tree, err := parser.ParseWithConfig(p.String(), newConfig(p.options))
	if err != nil {
		return p.String(), nil // it can not be: it was parsed before
	}
	node := p.deciding(tree.Node, s)
	part = strings.TrimSpace(node.String())
	for _, path := range pathsOf(node, p.options.Roots) {
		if slices.Contains(path.Parts, star) {
			continue
		}
		result := p.run(path.String(), s)
		reading := Reading{Path: path.String(), State: result.State.String()}
		if result.State == Present {
			text, _ := json.Marshal(result.Value)
			reading.Value = short(string(text))
		}
		reads = append(reads, reading)
	}
	return part, reads
}

// deciding goes down "and", "or" and "not" to the part that ended the
// evaluation. Of an "and" that is true, and an "or" that is false, each part
// counts.
func (p *Program) deciding(n ast.Node, s *Scope) ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return p.deciding(n.Node, s)
		}
	case *ast.BinaryNode:
		and := n.Operator == "and" || n.Operator == "&&"
		if !and && n.Operator != "or" && n.Operator != "||" {
			return n
		}
		for _, part := range []ast.Node{n.Left, n.Right} {
			if result := p.run(part.String(), s); result.State != Present || result.True() != and {
				return p.deciding(part, s)
			}
		}
	}
	return n
}

// run runs a part of the program.
func (p *Program) run(source string, s *Scope) Result {
	program, err := Compile(source, Options{Roots: p.options.Roots})
	if err != nil {
		return Result{State: Failed, Detail: err.Error()}
	}
	return program.Run(s)
}

func short(text string) string {
	if len(text) <= 100 {
		return text
	}
	return strings.ToValidUTF8(text[:100], "") + "..."
}
