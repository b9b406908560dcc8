package setting

import (
	"encoding"
	"reflect"
	"slices"
)

// Keys returns every key that a struct can have in a file, sorted:
// proxy.listen, webhooks[].url. Tests use it to hold examples and
// documentation complete.
func Keys(of any) []string {
	var keys []string
	collectKeys(reflect.ValueOf(of).Elem(), "", &keys)
	slices.Sort(keys)
	return keys
}

func collectKeys(v reflect.Value, path string, keys *[]string) {
	switch v.Addr().Interface().(type) {
	case *Secret, *Text, *Tree, *Duration, *Size, *URL:
		*keys = append(*keys, path)
		return
	case encoding.TextUnmarshaler:
		*keys = append(*keys, path)
	}
	switch v.Kind() {
	case reflect.Struct:
		for name, field := range fieldsOf(v) {
			collectKeys(field, join(path, name), keys)
		}
	case reflect.Slice:
		element := reflect.New(v.Type().Elem()).Elem()
		if element.Kind() != reflect.Struct || len(fieldsOf(element)) == 0 {
			*keys = append(*keys, path)
			return
		}
		collectKeys(element, path+"[]", keys)
	default:
		*keys = append(*keys, path)
	}
}
