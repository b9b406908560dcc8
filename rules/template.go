package rules

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// template is a text with expressions in ${ }. A template that is nothing but
// one expression keeps the value's type.
type template []part

// part is literal text, or an expression.
type part struct {
	text    string
	program *expression.Program
}

func compileTemplate(check place, path, source string, roots []string) template {
	var t template
	for rest := source; rest != ""; {
		text, after, found := strings.Cut(rest, "${")
		if text != "" {
			t = append(t, part{text: text})
		}
		if !found {
			break
		}
		length := expression.ClosingBrace(after)
		if length < 0 {
			check.Add(path, "in %q: a ${ has no closing brace; if the text goes on after a #, put it in quotes", source)
			return nil
		}
		program := compile(check, path, after[:length], roots, false)
		if program == nil {
			return nil
		}
		t = append(t, part{program: program})
		rest = after[length+1:]
	}
	return t
}

// text fills the template in. The state is that of the first expression that
// has no value, and why says more.
func (t template) text(v *expression.Scope) (text string, state expression.State, why string) {
	for _, p := range t {
		if p.program == nil {
			text += p.text
			continue
		}
		result := p.program.Run(v)
		if result.State != expression.Present {
			return "", result.State, result.Detail
		}
		word, err := plain(result.Value)
		if err != nil {
			return "", expression.Failed, err.Error()
		}
		text += word
	}
	return text, expression.Present, ""
}

// constant is the text of a template without expressions.
func (t template) constant() (text string, ok bool) {
	if len(t) == 1 && t[0].program == nil {
		return t[0].text, true
	}
	return "", len(t) == 0
}

// known is the text, "" if an expression has no value.
func (t template) known(v *expression.Scope) string {
	text, _, _ := t.text(v)
	return text
}

// plain writes a scalar as text.
func plain(value any) (string, error) {
	switch value := value.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64), nil
	case bool, int, int64:
		return fmt.Sprint(value), nil
	default:
		return "", fmt.Errorf("a %T can not be part of a text", value)
	}
}

// json fills the template in as a JSON value.
func (t template) json(v *expression.Scope) (raw []byte, state expression.State, why string) {
	if len(t) != 1 || t[0].program == nil {
		text, state, why := t.text(v)
		raw, _ = json.Marshal(text)
		return raw, state, why
	}
	return t[0].program.JSON(v)
}

// node is a payload template: an object, a list, a template or a literal.
type node struct {
	path     string // where it is in the payload, as far as that is constant
	past     bool   // it tells what was before, not what is
	kind     setting.TreeKind
	children []child  // of an object or a list
	leaf     template // of a text
	literal  []byte   // of anything else, as JSON
}

// child is a field of an object, or an item of a list, which has no name.
type child struct {
	name  []byte   // as JSON
	key   template // or a name with expressions in it
	value *node
}

func compileTree(check place, path string, tree setting.Tree) *node {
	n := &node{path: path, kind: tree.Kind}
	switch tree.Kind {
	case setting.TreeMap:
		for _, f := range tree.Fields {
			n.children = append(n.children, compileField(check.In(f.Name), path, f))
		}
	case setting.TreeList:
		for i, item := range tree.Items {
			n.children = append(n.children, child{value: compileTree(check.In(fmt.Sprintf("[%d]", i)), path, item)})
		}
	case setting.TreeText:
		n.leaf = compileTemplate(check, "", tree.Text, payloadRoots)
		n.past = (n.leaf.reads("before") || n.leaf.reads("related")) && !n.leaf.needsAnswer()
	case setting.TreeScalar, setting.TreeNone:
		n.literal, _ = json.Marshal(tree.Value)
	}
	return n
}

func compileField(check place, path string, f setting.Field) child {
	if strings.Contains(f.Name, "${") {
		return child{key: compileTemplate(check, "", f.Name, payloadRoots), value: compileTree(check, path, f.Value)}
	}
	name, _ := json.Marshal(f.Name)
	return child{name: name, value: compileTree(check, dotted(path, f.Name), f.Value)}
}

// dotted is the path of what is below another one.
func dotted(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// gaps is what a payload lacks because it was not seen.
type gaps struct {
	now    string   // the first reason why something that the entity is was not seen
	before []string // the paths of what would tell what it was
}

// fillOrNot is fill for a node that may not be there; then it gives nothing.
func (n *node) fillOrNot(v *expression.Scope, unseen *gaps) (payload []byte, ok bool) {
	if n == nil {
		return nil, true
	}
	payload, ok = n.fill(nil, v, unseen)
	return payload, ok
}

// fill appends the node's JSON. What is missing is left out; what is unknown is
// left out too and noted in unseen.
func (n *node) fill(to []byte, v *expression.Scope, unseen *gaps) (out []byte, ok bool) {
	switch n.kind {
	case setting.TreeMap:
		return n.fillChildren(to, v, unseen, "{}"), true
	case setting.TreeList:
		return n.fillChildren(to, v, unseen, "[]"), true
	case setting.TreeText:
		raw, state, why := n.leaf.json(v)
		switch {
		case state == expression.Unknown && n.past:
			unseen.before = append(unseen.before, n.path)
		case state == expression.Unknown && unseen.now == "":
			unseen.now = why
		}
		return append(to, raw...), state == expression.Present
	default:
		return append(to, n.literal...), true
	}
}

// fillChildren appends a field or an item after the other, but not those that
// have no value.
func (n *node) fillChildren(to []byte, v *expression.Scope, unseen *gaps, brackets string) []byte {
	to = append(to, brackets[0])
	start := len(to)
	for _, child := range n.children {
		before := len(to)
		if before > start {
			to = append(to, ',')
		}
		var ok bool
		if to, ok = child.fill(to, v, unseen); !ok {
			to = to[:before]
		}
	}
	return append(to, brackets[1])
}

// fill appends the name, if there is one, and the value.
func (c child) fill(to []byte, v *expression.Scope, unseen *gaps) (out []byte, ok bool) {
	name := c.name
	if c.key != nil {
		text, state, _ := c.key.text(v)
		if state != expression.Present {
			return to, false
		}
		name, _ = json.Marshal(text)
	}
	if name != nil {
		to = append(append(to, name...), ':')
	}
	return c.value.fill(to, v, unseen)
}
