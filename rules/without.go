package rules

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// without returns an object without the fields at some paths; the rest stays as
// it is, and so does what is no object.
func without(raw []byte, paths [][]string) []byte {
	escaped := bytes.Contains(raw, []byte(`\u`)) // a name may be written with it
	there := func(path []string) bool { return escaped || bytes.Contains(raw, []byte(path[len(path)-1])) }
	if !slices.ContainsFunc(paths, there) || !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return raw
	}
	fields := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, _ = fields.ReadToken() // the brace
	left := []byte("{")
	for fields.PeekKind() != '}' {
		quoted, err := fields.ReadValue()
		if err != nil {
			return raw // it can not be: the payload is valid
		}
		quoted = bytes.Clone(quoted)
		value, err := fields.ReadValue()
		if err != nil {
			return raw
		}
		value, kept := below(quoted, value, paths)
		if !kept {
			continue
		}
		if len(left) > 1 {
			left = append(left, ',')
		}
		left = append(append(append(left, quoted...), ':'), value...)
	}
	return append(left, '}')
}

// below is what stays of a field's value; kept is false if nothing does.
func below(quoted, value []byte, paths [][]string) (left []byte, kept bool) {
	var name string
	_ = json.Unmarshal(quoted, &name)
	var deeper [][]string
	for _, path := range paths {
		switch {
		case path[0] != name:
		case len(path) == 1:
			return nil, false
		default:
			deeper = append(deeper, path[1:])
		}
	}
	return without(value, deeper), true
}

func compileWithout(check place, paths []string) (split [][]string) {
	for i, path := range paths {
		parts := strings.Split(path, ".")
		if slices.Contains(parts, "") {
			check.Add(indexed("without", i), "want a path such as entry.createdBy, not %q", path)
		}
		split = append(split, parts)
	}
	return split
}
