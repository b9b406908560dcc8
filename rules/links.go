package rules

import (
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// linkConfig says which answers tell where an alias leads to.
type linkConfig struct {
	On []string `yaml:"on"` // GET /spaces/{space}/environments
	// Each is a list in the answer; its items are called item.
	Each string `yaml:"each"`
	// Space is whose alias it is; that of the path, if it says nothing.
	Space string `yaml:"space"`
	Alias string `yaml:"alias"`
	// Target is where it leads to. If it has no value, the name is no alias.
	Target string `yaml:"target"`

	on                   []method
	each                 *expression.Program
	space, alias, target template
}

// method is a method and a path form.
type method struct {
	name string
	path pattern
}

var linkRoots = []string{"path", "header", "query", "response", "item"}

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
		c.each = compile(check, "each", c.Each, linkRoots, false)
	}
	if c.Alias == "" {
		check.Add("alias", "say what the alias is called, for example ${item.sys.id}")
	}
	if c.Space == "" {
		c.space = compileTemplate(place{Check: check.Check}, "space", "${path.space}", linkRoots)
	} else {
		c.space = compileTemplate(check, "space", c.Space, linkRoots)
	}
	c.alias = compileTemplate(check, "alias", c.Alias, linkRoots)
	c.target = compileTemplate(check, "target", c.Target, linkRoots)
	return c
}

// covers returns what a request is whose answer tells of links, nil if it does
// not.
func (c *linkConfig) covers(name, path string) *method {
	segments := countSegments(path)
	for i := range c.on {
		if m := &c.on[i]; m.name == name && m.path.mayMatch(segments) && m.path.matches(path) {
			return m
		}
	}
	return nil
}

// observes tells whether the answer to a request may teach something.
func (d *Dialect) observes(name, path string) bool {
	return slices.ContainsFunc(d.links, func(c linkConfig) bool { return c.covers(name, path) != nil })
}

// Learn returns what an answer tells about aliases.
func (r *Rules) Learn(x *event.Exchange) []event.Link {
	if x.Outcome != event.Done {
		return nil
	}
	in := r.dialect.again(x.Intent)
	response, _ := answerOf(x)
	var found []event.Link
	for i := range r.dialect.links {
		c := &r.dialect.links[i]
		m := c.covers(in.method, in.path)
		if m == nil {
			continue
		}
		params := m.path.params(in.path)
		common := expression.NewScope(map[string]any{"path": params, "header": in.headers, "query": in.query, "response": response})
		for _, item := range c.items(common) {
			if link, ok := c.link(common, item); ok {
				link.Time = x.Time
				found = append(found, link)
			}
		}
	}
	return found
}

// items are the items of the list, or one that is nil.
func (c *linkConfig) items(common *expression.Scope) []any {
	if c.each == nil {
		return []any{nil}
	}
	raw, state, _ := c.each.JSON(common)
	if state != expression.Present {
		return nil
	}
	return itemsOf(raw)
}

// link reads one link.
func (c *linkConfig) link(common *expression.Scope, item any) (event.Link, bool) {
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
	return event.Link{Space: c.space.known(v), Alias: alias, Target: target}, true
}
