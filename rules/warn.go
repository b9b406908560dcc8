package rules

import (
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
	ofSpace     bool     // it never has an environment
	keys        []string // what its payload can hold at the top; nil: anything
}

func (p product) topic() string { return p.typ + "." + p.action }

// products lists the events that the dialect's routes make, sorted by topic.
func (d *Dialect) products() []product {
	var all []product
	for _, r := range d.named {
		typ, _ := r.typ.constant()
		for _, a := range r.actions {
			for _, name := range a.names {
				all = append(all, product{typ, name, len(r.event["environment"]) == 0, r.payload.keys()})
			}
		}
	}
	slices.SortFunc(all, func(a, b product) int { return strings.Compare(a.topic(), b.topic()) })
	return all
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

// Writes is how many methods and path forms the dialect knows as writes.
func (d *Dialect) Writes() int {
	routes := 0
	for method := range d.routes {
		routes += len(d.routes[method])
	}
	return routes
}

// Warn reports topics and filters that fit no event of the dialect. The
// subscription has been validated.
func (s *Subscription) Warn(check setting.Check, d *Dialect) {
	all := d.products()
	var wanted []product
	for i, t := range s.topics {
		covered := slices.DeleteFunc(slices.Clone(all), func(p product) bool {
			return !t.covers(&event.Event{Type: p.typ, Action: p.action})
		})
		switch {
		case len(covered) == 0:
			check.Warn(indexed("topics", i), "no request makes such an event (dialect %s); %s", d.Name, t.instead(all))
		case len(s.Environments) > 0 && !slices.ContainsFunc(covered, func(p product) bool { return !p.ofSpace }):
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
		root, name, more := cutPath(path)
		text := unreadable(root, name, more)
		if root == "payload" && name != "" && len(wanted) > 0 {
			text = withoutKey(name, wanted)
		}
		if text != "" && !slices.Contains(found, text) {
			found = append(found, text)
			check.Warn("filter", "%s", text)
		}
	}
}

// cutPath takes a path of a program apart: its root, the property of that ("*"
// if it is computed), and whether there is more.
func cutPath(path string) (root, name string, more bool) {
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, "", false
	}
	root, rest := path[:end], path[end+1:]
	if path[end] == '[' {
		name, rest, _ = strings.Cut(rest, "]")
		return root, strings.Trim(name, `"`), rest != ""
	}
	if end = strings.IndexAny(rest, ".["); end >= 0 {
		return root, rest[:end], true
	}
	return root, rest, false
}

// properties are what events have of the roots that have properties.
var properties = map[string][]string{
	"entity":  {"type", "id", "content_type", "version"},
	"request": {"method", "path", "id", "traceparent", "user_agent"},
}

// unreadable says why no event has what a filter reads, "" if one may.
func unreadable(root, name string, more bool) string {
	known := properties[root]
	switch {
	case root == "before" || root == "changes":
		return fmt.Sprintf("reads %s, which is not known in this version: the filter is undecided there, and on_unknown decides", root)
	case root == "cause":
		return "reads cause, which nothing sets in this version: the filter is false there"
	case root == "payload" || name == "" || known != nil && name == "*":
		return ""
	case known == nil:
		return fmt.Sprintf("reads a property of %s, which is a plain value and has none: the filter is false there", root)
	case slices.Contains(known, name) && !more:
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

// withoutKey says that no payload of the wanted events has a key, "" if one may.
func withoutKey(key string, wanted []product) string {
	var topics []string
	for _, p := range wanted {
		if key == "*" || p.keys == nil || slices.Contains(p.keys, key) {
			return ""
		}
		topics = append(topics, p.topic())
	}
	return fmt.Sprintf("reads payload.%s, which a payload of %s never has: the filter is false there, or undecided if the CMS's answer was empty",
		key, strings.Join(slices.Compact(topics), ", "))
}
