package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// product is an event that a route of a dialect makes.
type product struct {
	typ, action string
	route       *route
	bare        *node // the payload if the answer is empty
}

func (p product) topic() string { return p.typ + "." + p.action }

// products lists the events that the dialect's routes make, sorted by topic.
func (d *Dialect) products() []product {
	var all []product
	for _, r := range slices.Concat(slices.Collect(maps.Values(d.named)), d.results()) {
		for _, typ := range r.mayBe() {
			for _, a := range r.actions {
				for _, name := range a.names {
					all = append(all, product{typ, name, r, cmp.Or(r.payload, d.payloads["identity"])})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b product) int { return strings.Compare(a.topic(), b.topic()) })
	return all
}

// results are the routes that say what the result of a job means.
func (d *Dialect) results() []*route {
	var all []*route
	for _, r := range d.named {
		all = append(all, r.after...)
	}
	return all
}

// mayBe are the types of the route's events; * if only a request tells.
func (r *route) mayBe() []string {
	if typ, isConstant := r.typ.constant(); isConstant {
		return []string{typ}
	}
	if len(r.types) > 0 {
		return r.types
	}
	return []string{"*"}
}

// ofSpace tells whether it never has an environment.
func (p product) ofSpace() bool { return len(p.route.event["environment"]) == 0 }

// hides tells whether only the CMS's answer could tell what is at a path, and
// that never has a body.
func (p product) hides(path expression.Path) bool {
	partial := p.route.payload == nil || p.route.payload.needsAnswer()
	if !partial || slices.ContainsFunc(p.route.success, func(status string) bool { return status != "204" }) {
		return false
	}
	return path.Root == "payload" && p.bare.hides(path.Parts) ||
		path.String() == "entity.content_type" && p.route.needs == nil && p.route.event["content_type"].needsAnswer()
}

// lacks tells whether its payloads never have what is at a path.
func (p product) lacks(path expression.Path) bool {
	if path.Root != "payload" || len(path.Parts) == 0 || path.Parts[0] == "*" {
		return false
	}
	keys := p.route.payload.keys()
	return keys != nil && !slices.Contains(keys, path.Parts[0])
}

// needsAnswer tells whether a template reads what only an answer tells.
func (t template) needsAnswer() bool { return t.reads("response") }

// reads tells whether a template reads something of a root.
func (t template) reads(root string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.program != nil && p.program.Reads(root) })
}

// needsAnswer tells whether a part of a payload does.
func (n *node) needsAnswer() bool {
	return n.leaf.needsAnswer() || slices.ContainsFunc(n.children, func(c child) bool { return c.value.needsAnswer() })
}

// hides tells whether a payload that is made without an answer lacks a part.
func (n *node) hides(parts []string) bool {
	if n == nil || len(parts) == 0 || n.kind != setting.TreeMap {
		return n == nil || n.leaf.needsAnswer()
	}
	for _, child := range n.children {
		if name, _ := json.Marshal(parts[0]); bytes.Equal(child.name, name) {
			return child.value.hides(parts[1:])
		}
	}
	return parts[0] != "*"
}

// keys are the keys of an object; nil if they are not known.
func (n *node) keys() []string {
	if n == nil || n.kind != setting.TreeMap {
		return nil
	}
	keys := make([]string, len(n.children))
	for i, child := range n.children {
		if json.Unmarshal(child.name, &keys[i]) != nil {
			return nil // a name with expressions in it
		}
	}
	return keys
}

// Topics lists the topics of the events that the dialect's routes make, sorted.
func (d *Dialect) Topics() []string {
	var topics []string
	for _, p := range d.products() {
		topics = append(topics, p.topic())
	}
	return slices.Compact(topics)
}

// Sends tells whether the CMS's own webhooks have a header.
func (d *Dialect) Sends(header string) bool {
	for _, names := range []map[string]string{d.Native.Headers, d.Native.PerCall} {
		for name := range names {
			if strings.EqualFold(name, header) {
				return true
			}
		}
	}
	return false
}

// Warn reports topics and filters that fit no event of the dialect. The
// subscription has been validated.
func (s *Subscription) Warn(check setting.Check, d *Dialect) {
	all := d.products()
	var wanted []product
	for i, t := range s.topics {
		covered := slices.DeleteFunc(slices.Clone(all), func(p product) bool {
			typ := p.typ
			if typ == "*" { // only the request tells: it may be any
				typ = t.typ
			}
			return !t.covers(&event.Event{Type: typ, Action: p.action})
		})
		switch {
		case len(covered) == 0:
			check.Warn(indexed("topics", i), "no request makes such an event (dialect %s); %s", d.Name, t.instead(all))
		case len(s.Environments) > 0 && !slices.ContainsFunc(covered, func(p product) bool { return !p.ofSpace() }):
			check.Warn(indexed("topics", i), "never matches: %s belongs to a space, not to an environment; leave environments out, or give it a webhook of its own", covered[0].typ)
		}
		wanted = append(wanted, covered...)
	}
	if s.filter != nil {
		s.warnFilter(check, wanted)
	}
}

// instead suggests the topic that was meant, or says what there is.
func (t topic) instead(all []product) string {
	types, actions := map[string]bool{}, map[string]bool{}
	for _, p := range all {
		types[p.typ] = true
	}
	typ := meant(t.typ, types)
	if typ == "" {
		return "its types are " + listed(types)
	}
	for _, p := range all {
		if typ == "*" || typ == p.typ {
			actions[p.action] = true
		}
	}
	action := meant(t.action, actions)
	if action == "" {
		return fmt.Sprintf("the actions of %s are %s", typ, listed(actions))
	}
	return fmt.Sprintf("did you mean %s.%s?", typ, action)
}

// meant is the known word that a word of a topic stands for, "" if none is near.
func meant(word string, known map[string]bool) string {
	if word == "*" {
		return word
	}
	return setting.Nearest(word, slices.Sorted(maps.Keys(known)))
}

func listed(words map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(words)), ", ") }

// warnFilter reports a filter that reads what none of the wanted events has, or
// nothing at all.
func (s *Subscription) warnFilter(check setting.Check, wanted []product) {
	paths := s.filter.Paths()
	if len(paths) == 0 {
		always := "false for every event, so the webhook is never called"
		if s.filter.Run(expression.NewScope(nil)).True() {
			always = "true for every event, so it can be left out"
		}
		check.Warn("filter", "reads nothing of the event: it is %s", always)
	}
	var found []string
	for _, path := range paths {
		if someSet(wanted, path) {
			continue
		}
		text := unreadable(path)
		if text == "" && len(wanted) > 0 {
			text = hidden(path, wanted)
		}
		if text != "" && !slices.Contains(found, text) {
			found = append(found, text)
			check.Warn("filter", "%s", text)
		}
	}
}

// someSet tells whether some of the events have what a path reads, a cause or a
// locale, which few have.
func someSet(wanted []product, path expression.Path) bool {
	setting := map[string]string{"cause": "cause", "entity.locale": "locale"}[path.String()]
	return setting != "" && slices.ContainsFunc(wanted, func(p product) bool { return len(p.route.event[setting]) > 0 })
}

// properties are what events have of the roots that have properties.
var properties = map[string][]string{
	"entity":  {"type", "id", "within", "content_type", "version"},
	"request": {"method", "path", "id", "traceparent", "user_agent"},
}

// unreadable says why no event has what a filter reads, "" if one may. Where a
// miss gives nil, it does no harm.
func unreadable(path expression.Path) string {
	root, known := path.Root, properties[path.Root]
	switch {
	case path.Optional, root == "before", root == "changes":
		return ""
	case root == "cause":
		return "reads cause, which none of these events has: the filter is false there"
	case root == "payload" || len(path.Parts) == 0:
		return ""
	case known == nil:
		return fmt.Sprintf("reads a property of %s, which is a plain value and has none: the filter is false there", root)
	}
	name := path.Parts[0]
	switch {
	case name == "*" || slices.Contains(known, name) && len(path.Parts) == 1:
		return ""
	case slices.Contains(known, name):
		return fmt.Sprintf("reads a property of %s.%s, which is a plain value and has none: the filter is false there", root, name)
	}
	hint := "it has " + strings.Join(known, ", ")
	if near := setting.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %s.%s?", root, near)
	}
	return fmt.Sprintf("reads %s.%s, which no event has: the filter is false there; %s", root, name, hint)
}

// hidden says why none of the wanted events has what a filter reads, "" if one
// may.
func hidden(path expression.Path, wanted []product) string {
	var topics []string
	for _, p := range wanted {
		topics = append(topics, p.topic())
	}
	all := func(are func(product) bool) bool {
		return !slices.ContainsFunc(wanted, func(p product) bool { return !are(p) })
	}
	of := strings.Join(slices.Compact(topics), ", ")
	switch {
	case all(func(p product) bool { return p.hides(path) }):
		return fmt.Sprintf("reads %v, which only the CMS's answer tells, and for %s that has no body: the filter is undecided there, and on_unknown decides", path, of)
	case !path.Optional && all(func(p product) bool { return p.lacks(path) }):
		return fmt.Sprintf("reads payload.%s, which a payload of %s never has: the filter is false there, or undecided if the CMS's answer was empty", path.Parts[0], of)
	}
	return ""
}
