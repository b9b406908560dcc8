package expression

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/vm/runtime"
)

// in is the operator "in". The text is the source of its right side.
func in(text string) func(needle, haystack any) bool {
	return func(needle, haystack any) bool {
		if isObject(haystack) {
			key, ok := needle.(string)
			return ok && hasKey(haystack, key, text)
		}
		list, stopped := valueOf(haystack, text)
		if stopped != nil {
			panic(stopped)
		}
		return contains(list, needle)
	}
}

func hasKey(object any, key, text string) bool {
	_, stopped := step(object, key, text+partText(key))
	if stopped != nil && stopped.state != Missing {
		panic(stopped)
	}
	return stopped == nil
}

func contains(list, needle any) bool {
	values, ok := list.([]any)
	if !ok {
		return runtime.In(needle, list)
	}
	return slices.ContainsFunc(values, func(v any) bool { return runtime.Equal(v, needle) })
}

func isObject(v any) bool {
	switch v := v.(type) {
	case Document:
		text := trim(v.JSON)
		return len(text) > 0 && text[0] == '{'
	case map[string]any, map[string]string:
		return true
	}
	return false
}

// changed is the function changed(path).
func changed(scope, path any) any {
	wanted, ok := path.(string)
	if !ok {
		panic(fmt.Errorf("changed takes a path, not %T", path))
	}
	root, _ := scope.(*Scope).Root("changes")
	changes, ok := root.(Document)
	for raw := range elements(trim(changes.JSON)) {
		if v, err := decode(raw); err == nil && overlap(v, wanted) {
			return true
		}
	}
	if !ok || !changes.Whole {
		panic(&stop{Unknown, fmt.Sprintf("changed(%q)", wanted), changes.Why})
	}
	return false
}

// overlap says whether one of the dotted paths is the other or lies below it.
func overlap(changed any, wanted string) bool {
	path, ok := changed.(string)
	return ok && (strings.HasPrefix(path+".", wanted+".") || strings.HasPrefix(wanted+".", path+"."))
}
