package expression

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// FuzzRun compiles any source and runs it on any JSON: nothing panics, and the same run gives the same result.
func FuzzRun(f *testing.F) {
	for _, source := range []string{
		`payload.sys.contentType.sys.id == "blogPost" && environment in ["master"]`,
		`not (payload?.fields["en-US"]?.[0] ?? before.x) in [1, "a", nil]`,
		`any(filter(payload.fields, .a), {all(.b, # > 1)}) or changed("a.b")`,
		`let a = payload[environment]; a ? a[-1] : {"x": a[1:2]}`,
		`payload.fields | map(lower(#.name)) | join(",") matches "^a" ?: 1 < payload.n <= 3`,
		`"a" in payload and first(sort(payload.list)) == last(flatten([payload.list, 1.5e3]))`,
		`split(payload.s, "") == toJSON(fromJSON("[1]")); true`,
		`if payload.a { b'\x00' } else { payload.b ** 2 % 3 }`,
	} {
		f.Add(source, payload, true)
		f.Add(source, `{"a":[{"b":1}],"s":"\ud800","n":-0,"":null}`, false)
	}
	f.Fuzz(func(t *testing.T, source, text string, whole bool) {
		p, err := Compile(source, Options{Roots: roots, Bool: strings.HasPrefix(source, "not")})
		if err != nil && (strings.Contains(err.Error(), "can not be compiled") || strings.Contains(err.Error(), "goroutine ")) {
			t.Errorf("%q: the compiler gave up: %v", source, err)
		}
		if err != nil || !json.Valid([]byte(text)) {
			return
		}
		values := map[string]any{"payload": Document{JSON: []byte(text), Whole: whole}, "before": Document{}, "environment": "a"}
		first, again := p.Run(NewScope(values)), p.Run(NewScope(values))
		if fmt.Sprint(first) != fmt.Sprint(again) {
			t.Errorf("%s: %+v and then %+v", source, first, again)
		}
		p.Paths()
	})
}

// FuzzLookup looks into any bytes, valid JSON or not: nothing panics, and in valid JSON every path that encoding/json
// gives is found, with the same value.
func FuzzLookup(f *testing.F) {
	f.Add(payload, "a")
	f.Add(`[[],{},"\u0000\ud800\"",-1.5e-3, tru`, "0")
	f.Add(`{"a":{"b":1},"a":{"c":2}}`, "a")
	f.Add("[\x80,]", "-1")
	f.Fuzz(func(t *testing.T, text, part string) {
		d := Document{JSON: []byte(text), Whole: true}
		d.Lookup(part)
		d.Lookup("0", part)
		if v, ok := decoded(text); ok && len(text) < 1000 { // every path is looked up from the root: quadratic
			sameAsDecoded(t, d, v, nil)
		}
	})
}

// TestLookupLikeEncodingJSON compares lookups in random JSON with decoding all of it.
func TestLookupLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		text := randomJSON(random, 4)
		v, ok := decoded(text)
		if !ok {
			t.Fatalf("seed %d: not JSON: %s", seed, text)
		}
		sameAsDecoded(t, Document{JSON: []byte(text), Whole: true}, v, nil)
	}
}

func decoded(text string) (v any, ok bool) {
	err := json.Unmarshal([]byte(text), &v)
	return v, err == nil
}

// sameAsDecoded checks the value at the path and all below it, and that nothing else is there.
func sameAsDecoded(t *testing.T, d Document, want any, path []string) {
	t.Helper()
	raw, state := d.Lookup(path...)
	if state != Present {
		t.Fatalf("%q in %s: %s", path, d.JSON, state)
	}
	got, err := decode(raw)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q in %s: got %#v, %v, want %#v", path, d.JSON, got, err, want)
	}
	got, stopped := NewScope(map[string]any{"r": d}).value(newChain("r", path, false))
	if stopped != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q in %s: got %#v, %v, want %#v", path, d.JSON, got, stopped, want)
	}
	below := map[string]any{}
	switch want := want.(type) {
	case map[string]any:
		below = want
	case []any:
		for i, v := range want {
			below[strconv.Itoa(i)] = v
			below[strconv.Itoa(i-len(want))] = v
		}
	}
	for _, part := range []string{"", "a", "0", "-1", "#", "*", "@this", strconv.Itoa(len(below))} {
		_, state := d.Lookup(append(path[:len(path):len(path)], part)...)
		if _, ok := below[part]; ok != (state == Present) {
			t.Fatalf("%q then %q in %s: %s", path, part, d.JSON, state)
		}
	}
	for part, v := range below {
		sameAsDecoded(t, d, v, append(path[:len(path):len(path)], part))
	}
}

// randomJSON writes a value with odd keys, escapes and white space, without duplicate keys.
func randomJSON(random *rand.Rand, depth int) string {
	kinds := 5
	if depth > 0 {
		kinds = 8
	}
	switch kind := random.IntN(kinds); kind {
	case 0:
		return pick(random, "null", "true", "false")
	case 1:
		return pick(random, "0", "-0", "1", "-12.5", "1e3", "9007199254740993", "0.1E-2", "1e-400")
	case 2, 3, 4:
		return randomString(random)
	case 5:
		return "[" + randomList(random, func() string { return randomJSON(random, depth-1) }) + "]"
	default:
		seen := map[string]bool{}
		return "{" + randomList(random, func() string {
			key := randomString(random)
			for name, _ := decoded(key); seen[name.(string)]; name, _ = decoded(key) {
				key = strconv.Quote(fmt.Sprint("k", len(seen), random.IntN(1000)))
			}
			name, _ := decoded(key)
			seen[name.(string)] = true
			return key + space(random) + ":" + space(random) + randomJSON(random, depth-1)
		}) + "}"
	}
}

func randomList(random *rand.Rand, item func() string) string {
	var items []string
	for range random.IntN(5) {
		items = append(items, space(random)+item()+space(random))
	}
	return strings.Join(items, ",")
}

func randomString(random *rand.Rand) string {
	var text strings.Builder
	for range random.IntN(4) {
		text.WriteString(pick(random, "a", "b", ".", "*", "#", "@this", "|", "?", "!", `\\`, `\"`, `\u0061`, `\ud83d\ude00`,
			`\ud800`, "é", "\xff", "{", "}", "[", "]", ",", ":", " ", "0", "1", "-1", `\n`, `\/`))
	}
	return `"` + text.String() + `"`
}

func space(random *rand.Rand) string {
	return pick(random, "", "", " ", "\n\t", "\r")
}

func pick(random *rand.Rand, choices ...string) string {
	return choices[random.IntN(len(choices))]
}
