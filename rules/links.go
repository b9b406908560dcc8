package rules

import (
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// linkConfig says which answers tell where an alias leads to.
type linkConfig struct {
	On []string `yaml:"on"` // GET /spaces/{space}/environments
	// Each is the path of a list in the answer; its items are called item.
	Each  string `yaml:"each"`
	Alias string `yaml:"alias"`
	// Target is where it leads to. If it has no value, the name is no alias.
	Target string `yaml:"target"`

	on            []method
	each          []string
	alias, target template
}

// method is a method and a path form.
type method struct {
	name string
	path pattern
}

var linkRoots = []string{"path", "response", "item"}

func compileLink(check place, c linkConfig) linkConfig {
	for i, on := range c.On {
		name, path, _ := strings.Cut(on, " ")
		p, err := parsePattern(path)
		if err != nil {
			check.Add(indexed("on", i), "want a method and a path, for example GET /spaces/{space}/environments: %v", err)
		}
		c.on = append(c.on, method{name, p})
	}
	if c.Each != "" {
		if c.each = answerPath(compile(check, "each", c.Each, linkRoots, false)); c.each == nil {
			check.Add("each", "want the path of a list in the answer, for example response.items, not %q", c.Each)
		}
	}
	if c.Alias == "" {
		check.Add("alias", "say what the alias is called, for example ${item.sys.id}")
	}
	c.alias = compileTemplate(check, "alias", c.Alias, linkRoots)
	c.target = compileTemplate(check, "target", c.Target, linkRoots)
	return c
}

// answerPath is the path of a program that is nothing but a path into the
// answer, else nil.
func answerPath(p *expression.Program) []string {
	if p == nil {
		return nil
	}
	root, path, ok := p.Path()
	if !ok || root != "response" {
		return nil
	}
	return path
}

// covers returns the parameters of a request whose answer tells of links, nil
// if it does not.
func (c *linkConfig) covers(name, path string) map[string]string {
	for _, m := range c.on {
		if m.name == name && m.path.matches(path) {
			return m.path.params(path)
		}
	}
	return nil
}

// observes tells whether the answer to a request may teach something.
func (d *Dialect) observes(name, path string) bool {
	for i := range d.links {
		for _, m := range d.links[i].on {
			if m.name == name && m.path.matches(path) {
				return true
			}
		}
	}
	return false
}

// Learn returns what an answer tells about aliases.
func (r *Rules) Learn(x *event.Exchange) []event.Link {
	if x.Outcome != event.Done {
		return nil
	}
	in := r.dialect.again(x.Intent)
	response, _, _ := answerOf(x)
	var found []event.Link
	for i := range r.dialect.links {
		c := &r.dialect.links[i]
		params := c.covers(in.method, in.path)
		if params == nil {
			continue
		}
		scope := expression.NewScope(map[string]any{"path": params, "response": response})
		for _, item := range c.items(response) {
			if link, ok := c.link(params, scope, item); ok {
				link.Time = x.Time
				found = append(found, link)
			}
		}
	}
	return found
}

// items are the items of the list, or the answer itself.
func (c *linkConfig) items(response expression.Document) []any {
	if c.each == nil {
		return []any{response}
	}
	raw, state := response.Lookup(c.each...)
	if state != expression.Present {
		return nil
	}
	return itemsOf(raw)
}

// link reads one link.
func (c *linkConfig) link(params map[string]string, common *expression.Scope, item any) (event.Link, bool) {
	v := common.With(map[string]any{"item": item})
	alias, state, _ := c.alias.text(v)
	if state != expression.Present || alias == "" {
		return event.Link{}, false
	}
	target, state, _ := c.target.text(v)
	if state == expression.Unknown || state == expression.Failed {
		return event.Link{}, false
	}
	if target == alias {
		target = ""
	}
	return event.Link{Space: params["space"], Alias: alias, Target: target}, true
}
