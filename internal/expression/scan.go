package expression

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"unicode/utf8"
)

// This file finds values in valid JSON without decoding it. A path language such as gjson's is not used on purpose: keys
// are compared, never interpreted, so no key of a stranger can mean something. Text that is not valid JSON gives
// arbitrary values, but no index is ever out of range.

// child finds the value of a key in an object, or of an index in an array.
func child(text []byte, part string) (raw []byte, ok bool) {
	text = trim(text)
	if len(text) == 0 {
		return nil, false
	}
	switch text[0] {
	case '{':
		return member(text, part)
	case '[':
		return element(text, part)
	}
	return nil, false
}

// member finds the last value of the key.
func member(object []byte, key string) (raw []byte, ok bool) {
	for name, value := range members(object) {
		if isKey(name, key) {
			raw, ok = value, true
		}
	}
	return raw, ok
}

// element finds the value of the index, which counts from the end if it is negative.
func element(array []byte, index string) (raw []byte, ok bool) {
	length := 0
	if index != "" && index[0] == '-' {
		for range elements(array) {
			length++
		}
	}
	n, ok := parseIndex(index, length)
	if !ok {
		return nil, false
	}
	for value := range elements(array) {
		if n == 0 {
			return value, true
		}
		n--
	}
	return nil, false
}

// parseIndex gives the index that the text stands for, in an array of that length. Only the usual spelling of a number
// is one: "1", not "01".
func parseIndex(text string, length int) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text {
		return 0, false
	}
	if n < 0 {
		n += length
	}
	return n, n >= 0
}

// members goes through the keys, still quoted, and raw values of an object.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := next(object, 1); i < len(object) && object[i] == '"'; {
			colon := skipString(object, i)
			start := next(object, colon)
			end := skipValue(object, start)
			if !yield(object[i:colon], object[start:end]) {
				return
			}
			i = next(object, end)
		}
	}
}

// elements goes through the raw values of an array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := next(array, 1); i < len(array) && array[i] != ']'; {
			end := skipValue(array, i)
			if end == i || !yield(array[i:end]) {
				return
			}
			i = next(array, end)
		}
	}
}

// next skips white space, commas and colons.
func next(text []byte, i int) int {
	for i < len(text) {
		switch text[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
		default:
			return i
		}
	}
	return len(text)
}

// skipValue gives the index after the value that starts at i.
func skipValue(text []byte, i int) int {
	if i >= len(text) {
		return len(text)
	}
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
		return skipContainer(text, i)
	}
	for i < len(text) && bytes.IndexByte([]byte(" \t\r\n,]}"), text[i]) < 0 {
		i++
	}
	return i
}

// skipContainer gives the index after the object or array that starts at i. It does not recurse: depth costs no stack.
func skipContainer(text []byte, i int) int {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			i = skipString(text, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		i++
		if depth == 0 {
			return i
		}
	}
	return len(text)
}

// skipString gives the index after the string that starts at i.
func skipString(text []byte, i int) int {
	for start := i + 1; start < len(text); {
		quote := bytes.IndexByte(text[start:], '"')
		if quote < 0 {
			break
		}
		end := start + quote
		if !isEscaped(text[start:end]) {
			return end + 1
		}
		start = end + 1
	}
	return len(text)
}

// isEscaped says whether the text ends in the middle of an escape: after an odd number of backslashes.
func isEscaped(text []byte) bool {
	n := len(text)
	for n > 0 && text[n-1] == '\\' {
		n--
	}
	return (len(text)-n)%2 == 1
}

// isKey says whether the quoted name is the key.
func isKey(name []byte, key string) bool {
	if plain, ok := plainString(name); ok {
		return string(plain) == key
	}
	v, err := decode(name)
	return err == nil && v == key
}

// plainString gives the characters of a JSON string that stands for itself: no escapes, valid UTF-8.
func plainString(raw []byte) ([]byte, bool) {
	if len(raw) < 2 {
		return nil, false
	}
	plain := raw[1 : len(raw)-1]
	return plain, bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain)
}

// isContainer says whether the JSON is an object or array.
func isContainer(text []byte) bool {
	text = trim(text)
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// trim cuts the white space off that JSON allows around a text.
func trim(text []byte) []byte {
	return bytes.Trim(text, " \t\r\n")
}

// decode gives the value of raw JSON: what encoding/json gives, but without its cost for single values.
func decode(raw []byte) (any, error) {
	if len(raw) == 0 {
		return nil, errors.New("empty JSON")
	}
	switch raw[0] {
	case '"':
		if plain, ok := plainString(raw); ok {
			return string(plain), nil
		}
	case 't', 'f':
		return raw[0] == 't', nil
	case 'n':
		return nil, nil
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return decodeNumber(raw)
	}
	var v any
	err := json.Unmarshal(raw, &v)
	return v, err
}

// maxExact is the largest number up to which a float64 tells all integers apart.
const maxExact = 1 << 53

func decodeNumber(raw []byte) (any, error) {
	n, err := strconv.ParseFloat(string(raw), 64)
	if math.Abs(n) > maxExact {
		if whole, err := strconv.Atoi(string(raw)); err == nil {
			return whole, nil // an id, mostly: it must stay what it is
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the number %.40s is out of range", raw)
	}
	return n, nil
}
