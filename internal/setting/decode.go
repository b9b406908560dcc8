package setting

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// defaulter is a slice element that has defaults of its own.
type defaulter interface{ SetDefaults() }

// limited is a slice element of which a file may have so many.
type limited interface{ AtMost() int }

func (d *document) decode(text []byte, into any) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	err := decoder.Decode(&root)
	switch {
	case errors.Is(err, io.EOF):
		d.add(0, "", "the file is empty")
		return
	case err != nil:
		d.syntax(err)
		return
	}
	d.value(root.Content[0], reflect.ValueOf(into).Elem(), "")
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.add(0, "", "the file holds a second document; keep one (remove what follows the line ---)")
	}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// syntax reports an error of the YAML reader, whose text starts with the line.
func (d *document) syntax(err error) {
	text := err.Error()
	match := yamlLine.FindStringSubmatch(text)
	line, _ := strconv.Atoi(match[1])
	d.add(line, "", "not valid YAML: %s", text[len(match[0]):])
}

// value reads node into v. A null leaves the default.
func (d *document) value(node *yaml.Node, v reflect.Value, path string) {
	node, ok := d.enter(node, path)
	if !ok {
		return
	}
	defer d.leave(node)
	if path != "" {
		d.lines[path] = node.Line
	}
	if node.Tag == "!!null" {
		return
	}
	switch into := v.Addr().Interface().(type) {
	case *Secret:
		d.secret(node, into, path)
		return
	case *Text:
		d.text(node, into, path)
		return
	case *Tree:
		d.tree(node, into, path)
		return
	case encoding.TextUnmarshaler:
		if node.Kind == yaml.ScalarNode {
			if err := into.UnmarshalText([]byte(node.Value)); err != nil {
				d.add(node.Line, path, "%v", err)
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(node, v, path)
	case reflect.Pointer: // nil if the file does not have it
		part := reflect.New(v.Type().Elem())
		if own, ok := part.Interface().(defaulter); ok {
			own.SetDefaults()
		}
		d.value(node, part.Elem(), path)
		v.Set(part)
	case reflect.Map:
		d.entries(node, v, path)
	case reflect.Slice:
		d.list(node, v, path)
	default:
		d.scalar(node, v, path)
	}
}

func (d *document) mapping(node *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v)
	for _, p := range d.pairs(node, path) {
		name := p.key.Value
		field, known := fields[name]
		switch {
		case known:
			d.value(p.value, field, join(path, name))
		case path == "" && strings.HasPrefix(name, "x-"):
			// a place for anchors
		default:
			d.add(p.key.Line, join(path, name), "unknown key%s", suggestion(name, fields))
		}
	}
}

func (d *document) entries(node *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range d.pairs(node, path) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, element, join(path, p.key.Value))
		v.SetMapIndex(reflect.ValueOf(p.key.Value), element)
	}
}

func (d *document) list(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind == yaml.ScalarNode && v.Type().Elem().Kind() == reflect.String { // a list of one
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.scalar(node, v.Index(0), path)
		return
	}
	if node.Kind != yaml.SequenceNode {
		d.add(node.Line, path, "want a list here ([a, b]), not %s", kindOf(node))
		return
	}
	if own, ok := reflect.Zero(v.Type().Elem()).Interface().(limited); ok && len(node.Content) > own.AtMost() {
		d.add(node.Line, path, "at most %d %s; there are %d", own.AtMost(), path, len(node.Content))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		element := v.Index(i)
		if own, ok := element.Addr().Interface().(defaulter); ok {
			own.SetDefaults()
		}
		d.value(item, element, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *document) scalar(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		d.add(node.Line, path, "want a single value here, not %s", kindOf(node))
		return
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(node.Value)
	case reflect.Bool:
		var b bool
		err = node.Decode(&b)
		v.SetBool(b)
	case reflect.Int:
		var n int
		n, err = strconv.Atoi(node.Value)
		v.SetInt(int64(n))
	default:
		panic("setting: a field of type " + v.Type().String() + " can not be read")
	}
	if err != nil {
		want := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number"}[v.Kind()]
		d.add(node.Line, path, "want %s, not %q", want, node.Value)
	}
}

// fieldsOf returns the fields of a struct by key, those of inlined structs too.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		switch tag {
		case "", "-":
		case ",inline":
			for name, field := range fieldsOf(v.Field(i)) {
				fields[name] = field
			}
		default:
			fields[tag] = v.Field(i)
		}
	}
	return fields
}

// suggestion names the known key that is nearest to a mistyped one.
func suggestion(key string, fields map[string]reflect.Value) string {
	names := slices.Sorted(maps.Keys(fields))
	if best := Nearest(key, names); best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known here: " + strings.Join(names, ", ")
}

// Nearest returns the known word that a mistyped one stands for, in any case;
// "" if none is near.
func Nearest(word string, known []string) string {
	best, distance := "", 3
	for _, name := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance of two short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := previous
			if a[i] != b[j] {
				replace++
			}
			previous = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value" // not the value itself: it may be a secret in the wrong place
	}
}
