package setting

import "gopkg.in/yaml.v3"

// maxRepeats bounds how often nodes are read again through aliases, since a
// few nested aliases can stand for millions of nodes.
const maxRepeats = 10_000

// enter follows an alias and marks the node as being read, until leave. It is
// not ok if the node is being read already, or if aliases repeat too much.
func (d *document) enter(node *yaml.Node, path string) (target *yaml.Node, ok bool) {
	target = node
	if node.Kind == yaml.AliasNode {
		target = node.Alias
	}
	open, again := d.reading[target]
	if open {
		d.add(node.Line, path, "an alias inside itself")
		return nil, false
	}
	if again {
		d.repeats++
	}
	if again && d.repeats == maxRepeats+1 { // one problem for all of them
		d.add(node.Line, path, "too many aliases")
	}
	if again && d.repeats > maxRepeats {
		return nil, false
	}
	d.reading[target] = true
	return target, true
}

func (d *document) leave(node *yaml.Node) { d.reading[node] = false }

// pair is a key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

// pairs returns the pairs of a mapping, merged ones (<<) first. A key that is
// written out takes the place of a merged one.
func (d *document) pairs(node *yaml.Node, path string) []pair {
	if node.Kind != yaml.MappingNode {
		d.add(node.Line, path, "want keys and values here, not %s", kindOf(node))
		return nil
	}
	all, own := d.split(node, path)
	at := map[string]int{}
	for i, p := range all {
		at[p.key.Value] = i
	}
	for _, p := range own {
		if i, merged := at[p.key.Value]; merged {
			all[i] = p
			continue
		}
		all = append(all, p)
	}
	return all
}

// split returns the pairs that a mapping merges in and those that it writes
// out, each key once.
func (d *document) split(node *yaml.Node, path string) (merged, own []pair) {
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case seen[key.Value]:
			d.add(key.Line, join(path, key.Value), "given twice; keep one")
		case key.Tag == "!!merge":
			merged = d.merged(value, path)
		default:
			own = append(own, pair{key, value})
		}
		seen[key.Value] = true
	}
	return merged, own
}

// merged returns the pairs that a << stands for: those of a mapping, or of a
// list of them, in which the first that has a key wins.
func (d *document) merged(node *yaml.Node, path string) []pair {
	node, ok := d.enter(node, path)
	if !ok {
		return nil
	}
	defer d.leave(node)
	if node.Kind != yaml.SequenceNode {
		return d.pairs(node, path)
	}
	var all []pair
	seen := map[string]bool{}
	for _, item := range node.Content {
		for _, p := range d.merged(item, path) {
			if !seen[p.key.Value] {
				all = append(all, p)
			}
			seen[p.key.Value] = true
		}
	}
	return all
}
