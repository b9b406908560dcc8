package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// content is the part of an entity that its editors write, in the order in which the API shows it.
type content struct {
	Metadata     json.RawMessage `json:"metadata,omitzero"`
	DisplayField json.RawMessage `json:"displayField,omitzero"`
	Name         json.RawMessage `json:"name,omitzero"`
	Description  json.RawMessage `json:"description,omitzero"`
	Fields       json.RawMessage `json:"fields,omitzero"`
}

// parseContent reads the body of a create or save. What is not content, such as sys, is dropped.
func parseContent(k kind, body []byte) (content, *problem) {
	if !json.Valid(body) {
		return content{}, badRequest("The body you sent is not valid JSON.")
	}
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return content{}, invalid("The body is not an object.")
	}
	if c.Fields == nil {
		c.Fields = json.RawMessage(k.fields + closing[k.fields])
	}
	if !bytes.HasPrefix(c.Fields, []byte(k.fields)) {
		return content{}, invalid("The fields have the wrong type.", "fields")
	}
	return c, nil
}

var closing = map[string]string{"{": "}", "[": "]"}

// patchStep is one step of a JSON patch.
type patchStep struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patched applies a JSON patch to the content.
func (c content) patched(k kind, body []byte) (content, *problem) {
	if !json.Valid(body) {
		return content{}, badRequest("The body you sent is not valid JSON.")
	}
	var steps []patchStep
	if err := decode(body, &steps); err != nil {
		return content{}, invalid("The body is not a list of patch steps.")
	}
	var tree any
	if err := decode(encode(c), &tree); err != nil {
		panic(err) // it was decoded before
	}
	for _, step := range steps {
		path, ok := strings.CutPrefix(step.Path, "/")
		if !ok {
			return content{}, invalid("A patch path begins with a slash.", step.Path)
		}
		edited, err := step.edit(tree, strings.Split(path, "/"))
		if err != nil {
			return content{}, invalid("The patch can not be applied: "+err.Error(), step.Path)
		}
		tree = edited
	}
	return parseContent(k, encode(tree))
}

var (
	errPatchOp   = errors.New("only add, replace and remove are supported")
	errPatchPath = errors.New("the path does not exist")
)

// edit applies a step to the value that path leads to from node, and returns the node to use instead.
func (s patchStep) edit(node any, path []string) (any, error) {
	name := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	switch n := node.(type) {
	case map[string]any:
		return s.editObject(n, name, path[1:])
	case []any:
		return s.editArray(n, name, path[1:])
	}
	return nil, errPatchPath
}

func (s patchStep) editObject(node map[string]any, name string, rest []string) (any, error) {
	old, exists := node[name]
	switch {
	case !exists && (len(rest) > 0 || s.Op != "add"):
		return nil, errPatchPath
	case len(rest) > 0:
		edited, err := s.edit(old, rest)
		node[name] = edited
		return node, err
	case s.Op == "add", s.Op == "replace":
		node[name] = s.Value
	case s.Op == "remove":
		delete(node, name)
	default:
		return nil, errPatchOp
	}
	return node, nil
}

func (s patchStep) editArray(node []any, name string, rest []string) (any, error) {
	at, err := strconv.Atoi(name)
	if name == "-" {
		at, err = len(node), nil
	}
	inserts := s.Op == "add" && len(rest) == 0
	if err != nil || at < 0 || at > len(node) || at == len(node) && !inserts {
		return nil, errPatchPath
	}
	switch {
	case len(rest) > 0:
		node[at], err = s.edit(node[at], rest)
		return node, err
	case inserts:
		return slices.Insert(node, at, s.Value), nil
	case s.Op == "replace":
		node[at] = s.Value
	case s.Op == "remove":
		return slices.Delete(node, at, at+1), nil
	default:
		return nil, errPatchOp
	}
	return node, nil
}

// processedFile turns the upload of one locale into a url.
func processedFile(fields json.RawMessage, k key, locale string) (json.RawMessage, bool) {
	var tree map[string]any
	if err := decode(fields, &tree); err != nil {
		return nil, false
	}
	files, _ := tree["file"].(map[string]any)
	file, ok := files[locale].(map[string]any)
	if !ok {
		return nil, false
	}
	delete(file, "upload")
	delete(file, "uploadFrom")
	name, _ := file["fileName"].(string)
	file["url"] = strings.Join([]string{"//images.ctfassets.net", k.space, k.id, locale, name}, "/")
	file["details"] = map[string]any{"size": 0}
	return encode(tree), true
}

// decode keeps numbers as they were written.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}

// encode writes compact JSON as the API answers it: without HTML escapes.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // only values made by this package come here
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
