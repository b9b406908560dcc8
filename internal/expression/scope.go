package expression

import (
	"bytes"
	"slices"
	"sync"
)

// Scope holds the values of the roots for any number of runs, also concurrent ones. It keeps what was looked up and
// decoded: run all filters of an event with one scope.
type Scope struct {
	roots  map[string]any
	parent *Scope // for roots that are not here
	mu     sync.Mutex
	found  map[string]*finding // by the text of the path
}

// NewScope makes a scope. A root is a [Document], nil, a bool, string or number, a map[string]string, or decoded JSON.
// A root that is not in the map is missing. The map and its values must not change while the scope is in use.
func NewScope(roots map[string]any) *Scope {
	return &Scope{roots: roots}
}

// With makes a scope that has other roots too; they win. What was found in s stays found.
func (s *Scope) With(roots map[string]any) *Scope {
	return &Scope{roots: roots, parent: s}
}

// Root gives the value of a root, as it was handed over.
func (s *Scope) Root(name string) (value any, ok bool) {
	value, ok = s.owner(name).roots[name]
	return value, ok
}

// owner is the scope that a root is in; without one, the outermost.
func (s *Scope) owner(root string) *Scope {
	for s.parent != nil {
		if _, ok := s.roots[root]; ok {
			break
		}
		s = s.parent
	}
	return s
}

// finding is what lies at a path: a place, which may be a document, and its decoded value once somebody asked for it.
type finding struct {
	place   any
	stopped *stop // why there is no place
	value   any
	refused *stop // why the place can not be used as a value
	decoded bool
	entries []entry // of a place that is an object and was looked into
	listed  bool
}

// entry is a key of an object, still quoted, and its raw value.
type entry struct{ name, value []byte }

// step goes to a property of the place. An object is scanned once for all of them.
func (f *finding) step(part, path string) (any, *stop) {
	d, ok := f.place.(Document)
	if !ok || !bytes.HasPrefix(trim(d.JSON), []byte("{")) {
		return step(f.place, part, path)
	}
	if !f.listed {
		f.listed = true
		for name, value := range members(trim(d.JSON)) {
			f.entries = append(f.entries, entry{name, value})
		}
	}
	for _, e := range slices.Backward(f.entries) { // of duplicate keys the last one counts
		if isKey(e.name, part) {
			return Document{JSON: e.value, Whole: d.Whole, Why: d.Why}, nil
		}
	}
	return nil, d.stop(d.absent(), path)
}

// place finds what lies at the path, not decoded.
func (s *Scope) place(c *chain) (any, *stop) {
	s = s.owner(c.root)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.at(c, len(c.parts))
	return f.place, f.stopped
}

// value finds and decodes what lies at the path.
func (s *Scope) value(c *chain) (any, *stop) {
	s = s.owner(c.root)
	if len(c.parts) == 0 {
		if root, ok := s.roots[c.root]; ok && !isDocument(root) {
			return root, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.at(c, len(c.parts))
	if f.stopped != nil {
		return nil, f.stopped
	}
	if !f.decoded {
		f.value, f.refused = valueOf(f.place, c.text())
		f.decoded = true
	}
	return f.value, f.refused
}

// at finds the place of the path's first n parts, once.
func (s *Scope) at(c *chain, n int) *finding {
	f := s.found[c.texts[n]]
	if f == nil {
		f = s.find(c, n)
		if s.found == nil {
			s.found = map[string]*finding{}
		}
		s.found[c.texts[n]] = f
	}
	return f
}

// find goes one step further than the path before, so that a way is gone once for all paths that share it.
func (s *Scope) find(c *chain, n int) *finding {
	if n == 0 {
		root, ok := s.roots[c.root]
		if !ok {
			return &finding{stopped: &stop{state: Missing, path: c.root}}
		}
		return &finding{place: root}
	}
	before := s.at(c, n-1)
	if before.stopped != nil {
		return &finding{stopped: &stop{before.stopped.state, c.texts[n], before.stopped.why}}
	}
	place, stopped := before.step(c.parts[n-1], c.texts[n])
	return &finding{place: place, stopped: stopped}
}

// step goes from a value or document to one of its properties. The path is for the message.
func step(from any, part, path string) (any, *stop) {
	ok := false
	var to any
	switch from := from.(type) {
	case Document:
		d, state := from.step(part)
		if state != Present {
			return nil, from.stop(state, path)
		}
		return d, nil
	case map[string]any:
		to, ok = from[part]
	case map[string]string:
		to, ok = from[part]
	case []any:
		to, ok = item(from, part)
	case []string: // of split
		to, ok = item(from, part)
	}
	if !ok {
		return nil, &stop{state: Missing, path: path}
	}
	return to, nil
}

func item[V any](list []V, part string) (any, bool) {
	n, ok := parseIndex(part, len(list))
	if !ok || n >= len(list) {
		return nil, false
	}
	return list[n], true
}

// valueOf decodes a document and leaves any other value as it is. The path is for the message.
func valueOf(place any, path string) (any, *stop) {
	d, ok := place.(Document)
	if !ok {
		return place, nil
	}
	v, state, err := d.value()
	if err != nil {
		return nil, &stop{Failed, path, err.Error()}
	}
	if state != Present {
		return nil, d.stop(state, path)
	}
	return v, nil
}

// stop gives the reason why there is nothing at the path.
func (d Document) stop(state State, path string) *stop {
	if state == Unknown {
		return &stop{state, path, d.Why}
	}
	return &stop{state: state, path: path}
}

func isDocument(v any) bool {
	_, ok := v.(Document)
	return ok
}
