package setting

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Shown is one setting as it may be shown: what may be secret is hidden.
type Shown struct {
	Path  string `json:"setting"` // webhooks[0].retry.attempts
	Value string `json:"value"`
}

// Show lists the settings of a struct with yaml tags as they are in force, in the
// order of its fields. Texts, addresses and secrets that are not set are left out.
func Show(of any) []Shown {
	var list []Shown
	walk(reflect.ValueOf(of), "", func(path string, v reflect.Value) {
		if isText := v.Kind() == reflect.String || v.Kind() == reflect.Struct; !isText || !v.IsZero() {
			list = append(list, Shown{path, shownText(v)})
		}
	})
	return list
}

// Changed returns the paths of the settings that differ between two structs of the
// same type with yaml tags, sorted.
func Changed(before, after any) []string {
	texts := func(of any) map[string]string {
		all := map[string]string{}
		walk(reflect.ValueOf(of), "", func(path string, v reflect.Value) { all[path] = text(v) })
		return all
	}
	old, changed := texts(before), map[string]bool{}
	for path, text := range texts(after) {
		if was, there := old[path]; !there || was != text {
			changed[path] = true
		}
		delete(old, path)
	}
	for path := range old {
		changed[path] = true
	}
	return slices.Sorted(maps.Keys(changed))
}

// walk visits every setting below v, not what they are composed of.
func walk(v reflect.Value, path string, visit func(string, reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), path, visit)
		}
		return
	case reflect.Struct:
		if walkFields(v, path, visit) {
			return
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), path+"["+strconv.Itoa(i)+"]", visit)
		}
		return
	case reflect.Map:
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			walk(v.MapIndex(name), join(path, name.String()), visit)
		}
		return
	}
	visit(path, v)
}

// walkFields visits the fields that have keys; there are none in what is written as
// one value.
func walkFields(v reflect.Value, path string, visit func(string, reflect.Value)) (any bool) {
	for i := range v.NumField() {
		switch tag := v.Type().Field(i).Tag.Get("yaml"); tag {
		case "", "-":
		case ",inline":
			any = walkFields(v.Field(i), path, visit) || any
		default:
			any = true
			walk(v.Field(i), join(path, tag), visit)
		}
	}
	return any
}

// text is a value as a whole, secrets too. It tells two values apart.
func text(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case Secret:
		return value.value
	case Text:
		return strconv.FormatBool(value.plain) + value.value
	case URL:
		if value.URL == nil {
			return ""
		}
		return value.String()
	case fmt.Stringer:
		return value.String()
	}
	return fmt.Sprintf("%#v", v.Interface())
}

// shownText is a value without what may be secret in it.
func shownText(v reflect.Value) string {
	if part, ok := v.Interface().(interface{ Shown() string }); ok {
		return part.Shown()
	}
	return fmt.Sprint(v.Interface())
}
