package expression

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var roots = []string{"payload", "before", "environment", "request", "version", "actor", "entity", "changes"}

// payload is the document of the table in docs: an entity with what the rows need, and some hostile keys.
const payload = `{
	"sys": {"id": "1", "type": "Entry", "version": 7, "contentType": {"sys": {"id": "blogPost"}}},
	"fields": {
		"title": {"en": "Hello", "en-US": "Howdy"},
		"tags": ["a", "b"],
		"authors": [{"name": "Ann", "age": 40}, {"name": "Bob"}],
		"matrix": [[1, 2], [3]],
		"nul": null,
		"yes": true,
		"n": 3,
		"big": 9007199254740993,
		"huge": 1e999,
		"empty": {},
		"none": [],
		"esc\u0061ped": "x\ny",
		"twice": 1, "twice": 2
	},
	"@pretty": 1, "..": 2, "a.b": 3, "*": 4, "#": 5, "a|b": 6, "?": 7, "!x": 8, "": 9, "\\": 10, "{}": 11, "[0]": 12,
	"a\"b": 13, "0": 14, "@this": 15, "#(a==1)": 16, "日本": 17, "-1": 18, "*ab": 19
}`

// scope has a seen payload, an unseen before, and simple values. Actor and changes are not in it.
func scope() *Scope {
	return NewScope(map[string]any{
		"payload":     Document{JSON: []byte(payload), Whole: true},
		"before":      Document{Why: "the state before the write was not asked for"},
		"entity":      Document{JSON: []byte(` {"sys":{"id":"1"},"list":["a"],"nul":null} `), Why: "cut at 4 MiB"},
		"environment": "master",
		"version":     int64(7),
		"request":     map[string]string{"content-type": "text/plain"},
	})
}

func mustCompile(t testing.TB, source string, o Options) *Program {
	t.Helper()
	p, err := Compile(source, o)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return p
}

// TestFilter is the behaviour of filters, one line per filter.
func TestFilter(t *testing.T) {
	t.Parallel()
	s := scope()
	run := func(source string) Result {
		t.Helper()
		return mustCompile(t, source, Options{Roots: roots, Bool: true}).Run(s)
	}
	is := func(want bool, source string) {
		t.Helper()
		if got := run(source); got != (Result{Value: want}) {
			t.Errorf("%s: got %+v, want %v", source, got, want)
		}
	}
	stops := func(state State, detail, source string) {
		t.Helper()
		if got := run(source); got != (Result{State: state, Detail: detail}) || got.True() {
			t.Errorf("%s: got %+v, want %s: %s", source, got, state, detail)
		}
	}
	missing := func(detail, source string) { t.Helper(); stops(Missing, detail, source) }
	unknown := func(detail, source string) { t.Helper(); stops(Unknown, detail, source) }
	failed := func(source string) {
		t.Helper()
		if got := run(source); got.State != Failed || got.Detail == "" || got.Value != nil {
			t.Errorf("%s: got %+v, want failed", source, got)
		}
	}

	// What is present.
	is(true, `payload.sys.contentType.sys.id == "blogPost" && environment in ["master"]`)
	is(true, `payload.sys.contentType.sys.id in ["a", "blogPost"]`)
	is(false, `payload.sys.contentType.sys.id in ["a", "b"]`)
	is(true, `payload.sys.contentType.sys.id not in ["a", "b"]`)
	is(true, `payload.fields.title["en-US"] == "Howdy"`)
	is(true, `payload["fields"]["title"].en matches "^H.*o$"`)
	is(true, `payload.fields.title.en startsWith "He" and lower(payload.fields.title.en) endsWith "lo"`)
	is(true, `payload.fields.title.en contains "ell"`)
	is(true, `payload.sys.version == version and version > 6 and payload.sys.version < 7.5`)
	is(true, `request["content-type"] == "text/plain"`)
	is(true, `payload.fields.yes`)
	is(true, `payload.fields.escaped == "x\ny"`)
	is(true, `payload.fields.twice == 2`)
	is(true, `payload.fields.twice == payload.fields["tw" + "ice"]`)
	is(true, `payload.fields.empty == {}`)
	is(true, `len(payload.fields.none) == 0 and len(payload.fields.tags) == 2`)
	is(true, `payload.fields.tags == ["a", "b"]`)

	// Integers above 2^53 are compared as float64.
	is(true, `payload.fields.big == 9007199254740992`)

	// The table of facts/libraries.md, section 4, last column.
	is(true, `split("a/b", "/")[1] == "b"`)
	missing(`split("a/b", "/")[2]`, `split("a/b", "/")[2] == "b"`)
	missing(`payload.sys.nope`, `payload.sys.nope == "x"`)
	missing(`payload.nope.deep.er`, `payload.nope.deep.er == "x"`)
	missing(`payload.nope.deep`, `payload.nope.deep > 5`)
	missing(`payload.nope.x`, `payload.nope.x contains "a"`)
	missing(`payload.nope.x`, `payload.nope.x matches "a"`)
	missing(`payload.nope.x`, `payload.nope.x in ["a"]`)
	missing(`payload.nope.x`, `"a" in payload.nope.x`)
	missing(`payload.nope.tags`, `any(payload.nope.tags, # == "a")`)
	missing(`payload.nope.x`, `len(payload.nope.x) > 0`)
	missing(`payload.fields.tags[7]`, `payload.fields.tags[7] == "x"`)
	missing(`payload.nope.deep`, `not (payload.nope.deep == "x")`)
	missing(`payload.nope`, `payload.nope != "x"`)
	missing(`payload.nope`, `payload.nope == nil`)
	is(true, `payload.fields.nul == nil`)
	is(true, `payload.sys.id == "1" or payload.nope.deep == "x"`)
	missing(`payload.nope.deep`, `payload.nope.deep == "x" or payload.sys.id == "1"`)

	// More that is missing.
	missing(`actor`, `actor == "x"`)
	missing(`actor.name`, `actor.name == "x"`)
	missing(`environment.x`, `environment.x == "x"`)
	missing(`version.x`, `version.x == 1`)
	missing(`request["x-nope"]`, `request["x-nope"] == "1"`)
	missing(`payload.sys.id.x`, `payload.sys.id.x == "1"`)
	missing(`payload.sys.id[0]`, `payload.sys.id[0] == "1"`)
	missing(`payload.fields.nul.x`, `payload.fields.nul.x == nil`)
	missing(`payload.fields.tags.a`, `payload.fields.tags.a == "x"`)
	missing(`payload.fields.tags["01"]`, `payload.fields.tags["01"] == "b"`)
	missing(`payload.fields.none[-1]`, `payload.fields.none[-1] == "b"`)
	missing(`payload.nope`, `true and payload.nope`)
	missing(`payload.nope`, `not (payload.nope and false)`)
	missing(`payload.nope`, `payload.nope or true`)
	missing(`payload.nope`, `payload.nope ? true : true`)
	missing(`payload.nope`, `{"a": payload.nope} != nil`)
	missing(`payload.nope`, `[1, payload.nope] != nil`)
	missing(`payload.nope`, `payload.nope[0:1] != nil`)
	missing(`payload.fields[environment]`, `payload.fields[environment] == "x"`)
	missing(`payload.nope`, `payload.nope[environment].x == "x"`)
	missing(`actor`, `payload.fields[actor] == "x"`)
	missing(`.age`, `all(payload.fields.authors, .age > 1)`)
	missing(`filter(payload.fields.authors, false)[0]`, `filter(payload.fields.authors, false)[0] == 1`)
	missing(`find(payload.fields.authors, false).name`, `find(payload.fields.authors, false).name == ""`)
	missing(`{a: 1}.b`, `{"a": 1}.b == 1`)
	missing(`s.nope`, `let s = payload.sys; s.nope == 1`)
	missing(`payload.fields["en-US"]`, `payload.fields["en-US"] == 1`)

	// What is not evaluated does not miss.
	is(false, `false and payload.nope`)
	is(true, `true ? true : payload.nope`)
	is(true, `any(payload.fields.authors, .age > 1)`)
	is(true, `all([], payload.nope)`)
	is(true, `(payload.sys.id ?? payload.nope) == "1"`)

	// Opting out.
	is(true, `payload?.nope == nil`)
	is(true, `payload?.nope.deep.er == nil`)
	is(true, `payload.nope?.deep == nil`)
	is(true, `payload.nope.deep?.er == nil`)
	is(true, `payload.nope?.["deep"] == nil`)
	is(true, `payload.fields.tags?.[7] == nil`)
	is(true, `payload.fields?.tags[7] == nil`)
	is(true, `payload.fields?.tags[-1] == "b"`)
	is(true, `(payload?.nope?.deep ?? "d") == "d"`)
	is(true, `(payload.nope.deep ?? "d") == "d"`)
	is(true, `(payload.nope[environment].x ?? "d") == "d"`)
	is(true, `(payload.nope ?? payload.nope2 ?? "d") == "d"`)
	is(true, `(actor ?? "d") == "d"`)
	is(true, `(actor.name ?? "d") == "d"`)
	is(true, `(payload.fields.nul ?? "d") == "d"`)
	is(true, `(payload.sys.id ?? "d") == "1"`)
	is(true, `(payload.fields[payload.nope ?? "yes"])`)
	is(true, `any(payload.fields.authors, #?.age == nil)`)
	is(true, `(any(payload.fields.authors, .age == nil) ?? false)`)
	is(false, `"x" in payload?.nope`)
	is(true, `not (payload?.nope == "x")`)
	missing(`payload.nope`, `(payload.sys.nul ?? payload.nope) == "d"`)
	missing(`payload.nope`, `payload?.fields[payload.nope] == "d"`)
	missing(`payload.nope`, `payload?.nope == nil and payload.nope == nil`)
	failed(`len(payload?.nope) == 0`)

	// Unknown, and the order of the two.
	unknown(`before.fields.slug: the state before the write was not asked for`, `before.fields.slug == "x"`)
	unknown(`before: the state before the write was not asked for`, `before == nil`)
	unknown(`before.x: the state before the write was not asked for`, `before?.x == nil`)
	unknown(`before.x: the state before the write was not asked for`, `(before.x ?? "d") == "d"`)
	unknown(`before.x: the state before the write was not asked for`, `not (before.x == 1)`)
	unknown(`before.x: the state before the write was not asked for`, `"a" in before.x`)
	unknown(`before: the state before the write was not asked for`, `"a" in before`)
	unknown(`before[environment]: the state before the write was not asked for`, `before[environment] == 1`)
	unknown(`before.x: the state before the write was not asked for`, `payload.sys.id == "1" and before.x == 1`)
	missing(`payload.nope`, `payload.nope == 1 or before.x == 1`)
	unknown(`before.x: the state before the write was not asked for`, `before.x == 1 or payload.nope == 1`)
	missing(`payload.nope`, `payload.sys.id == "1" and (payload.nope == 1 or before.x == 1)`)
	unknown(`before.x: the state before the write was not asked for`, `payload.sys.id == "1" and (before.x == 1 or payload.nope == 1)`)
	missing(`payload.nope`, `payload.nope[before.x] == 1`)
	unknown(`before[environment]: the state before the write was not asked for`, `payload.fields[before[environment]] == 1`)
	is(false, `payload.sys.id == "2" and before.x == 1`)
	unknown(`before.x: the state before the write was not asked for`, `any(payload.fields.tags, before.x)`)

	// A document that is only known in part.
	is(true, `entity.sys.id == "1"`)
	is(true, `entity.list[0] == "a"`)
	is(true, `entity.nul == nil`)
	is(true, `"id" in entity.sys`)
	unknown(`entity.sys.nope: cut at 4 MiB`, `entity.sys.nope == 1`)
	unknown(`entity.sys.nope: cut at 4 MiB`, `"nope" in entity.sys`)
	unknown(`entity.sys: cut at 4 MiB`, `entity.sys == {"id": "1"}`)
	unknown(`entity.list: cut at 4 MiB`, `"a" in entity.list`)
	unknown(`entity.list[1]: cut at 4 MiB`, `entity.list[1] == "a"`)
	unknown(`entity.list[-1]: cut at 4 MiB`, `entity.list[-1] == "a"`)
	unknown(`entity: cut at 4 MiB`, `entity == nil`)

	// Membership.
	is(true, `"title" in payload.fields`)
	is(false, `"nope" in payload.fields`)
	is(true, `"nope" not in payload.fields`)
	is(true, `"nul" in payload.fields`)
	is(true, `"a" in payload.fields.tags`)
	is(false, `"c" in payload.fields.tags`)
	is(true, `payload.fields.n in [1, 2, 3]`)
	is(false, `payload.fields.n in ["a", "3"]`)
	is(false, `payload.fields.nul in ["", "a"]`)
	is(true, `payload.fields.nul in ["", nil]`)
	is(false, `1 in payload.fields`)
	is(true, `"content-type" in request`)
	is(false, `"a" in payload.fields.nul`)
	is(true, `environment in {"master": 1}`)
	failed(`"a" in payload.sys.id`)

	// Indices and predicates.
	is(true, `payload.fields.tags[0] == "a" and payload.fields.tags[-1] == "b"`)
	is(true, `payload.fields.tags[payload.fields.n - 2] == "b"`)
	is(true, `payload.fields.tags[-1 * 2] == "a"`)
	is(true, `payload.fields.matrix[0][1] == 2 and payload.fields.matrix[1][0] == 3`)
	is(true, `payload.fields.title[payload.nope ?? "en"] == "Hello"`)
	is(true, `any(payload.fields.authors, .name == "Bob")`)
	is(true, `len(filter(payload.fields.tags, # in ["a", "c"])) == 1`)
	is(true, `any(payload.fields.authors, {any(["Ann"], {# == "Ann"})})`)
	is(true, `payload.fields.tags[0:1] == ["a"]`)
	is(true, `map(payload.fields.authors, .name) == ["Ann", "Bob"]`)
	is(true, `let s = payload.sys; s.id == "1" and s["type"] == "Entry"`)
	is(true, `1 < payload.fields.n < 4`)
	is(true, `payload.fields.yes ?: 4`)

	// Mistakes at run time.
	failed(`payload.sys.id > 5`)
	failed(`payload.sys.id`)
	failed(`payload.fields.n and true`)
	failed(`any(payload.sys.version, true)`)
	failed(`payload.fields.huge == 1`)
	failed(`payload[payload.fields.tags] == 1`)
	failed(`payload.fields.title.en matches payload.fields.title`)
	is(false, `payload.fields.nul`)
	stops(Failed, "2:18: invalid operation: string > int", "true and\n  payload.sys.id > 5")
}

// TestHostileKeys looks up keys that mean something in path languages.
func TestHostileKeys(t *testing.T) {
	t.Parallel()
	d := Document{JSON: []byte(payload), Whole: true}
	has := func(key string, want int) {
		t.Helper()
		raw, state := d.Lookup(key)
		if string(raw) != fmt.Sprint(want) || state != Present {
			t.Errorf("Lookup(%q): got %s, %s, want %d", key, raw, state, want)
		}
		for _, source := range []string{"payload[%q] == %d", "payload[%q + environment[9:]] == %d"} {
			source := fmt.Sprintf(source, key, want)
			if got := mustCompile(t, source, Options{Roots: roots}).Run(scope()); !got.True() {
				t.Errorf("%s: got %+v", source, got)
			}
		}
	}
	hasNot := func(path ...string) {
		t.Helper()
		if raw, state := d.Lookup(path...); raw != nil || state != Missing {
			t.Errorf("Lookup(%q): got %s, %s", path, raw, state)
		}
	}
	has("@pretty", 1)
	has("..", 2)
	has("a.b", 3)
	has("*", 4)
	has("#", 5)
	has("a|b", 6)
	has("?", 7)
	has("!x", 8)
	has("", 9)
	has(`\`, 10)
	has("{}", 11)
	has("[0]", 12)
	has(`a"b`, 13)
	has("0", 14)
	has("@this", 15)
	has("#(a==1)", 16)
	has("日本", 17)
	has("-1", 18)
	has("*ab", 19)
	hasNot("sys.id")
	hasNot("s*")
	hasNot("sy?")
	hasNot("@ugly")
	hasNot("@reverse")
	hasNot("{sys}")
	hasNot("fields", "tags", "#")
	hasNot("fields", "tags", "@reverse")
	hasNot("fields", "tags", "+1")
	hasNot("fields", "tags", "2")
	hasNot("fields", "tags", "-3")
	hasNot("fields", "tags", "99999999999999999999")
	hasNot("sys", "id", "")
}

func TestLookup(t *testing.T) {
	t.Parallel()
	whole := Document{JSON: []byte(` {"a" : [ 1 , {"b" : "c\"" } ] , "a2":{} } `), Whole: true}
	part := Document{JSON: whole.JSON, Why: "cut"}
	gives := func(d Document, raw string, state State, path ...string) {
		t.Helper()
		got, gotState := d.Lookup(path...)
		if string(got) != raw || gotState != state {
			t.Errorf("%q: got %q, %s, want %q, %s", path, got, gotState, raw, state)
		}
	}
	gives(whole, `{"a" : [ 1 , {"b" : "c\"" } ] , "a2":{} }`, Present)
	gives(whole, `[ 1 , {"b" : "c\"" } ]`, Present, "a")
	gives(whole, `1`, Present, "a", "0")
	gives(whole, `{"b" : "c\"" }`, Present, "a", "-1")
	gives(whole, `"c\""`, Present, "a", "1", "b")
	gives(whole, `{}`, Present, "a2")
	gives(whole, ``, Missing, "a", "2")
	gives(whole, ``, Missing, "a", "1", "b", "c")
	gives(part, `1`, Present, "a", "0")
	gives(part, ``, Unknown, "a")
	gives(part, ``, Unknown, "a", "-1")
	gives(part, ``, Unknown, "b")
	gives(part, ``, Unknown)
	gives(Document{}, ``, Unknown)
	gives(Document{}, ``, Unknown, "a")
	gives(Document{Whole: true}, ``, Missing)
	gives(Document{Whole: true}, ``, Missing, "a")
}

func TestValue(t *testing.T) {
	t.Parallel()
	gives := func(source string, want any) {
		t.Helper()
		got := mustCompile(t, source, Options{Roots: roots}).Run(scope())
		if diff := cmp.Diff(Result{Value: want}, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
	gives(`payload.sys.id`, "1")
	gives(`payload.sys.version`, 7.0)
	gives(`payload.fields.nul`, nil)
	gives(`payload.fields.title`, map[string]any{"en": "Hello", "en-US": "Howdy"})
	gives(`payload.fields.tags`, []any{"a", "b"})
	gives(`version`, int64(7))
	gives(`environment + "/" + payload.sys.id`, "master/1")
	gives(`payload?.nope`, nil)
	gives(`{"id": payload.sys.id}`, map[string]any{"id": "1"})
}

func TestChanged(t *testing.T) {
	t.Parallel()
	gives := func(source string, changes any, want Result) {
		t.Helper()
		values := map[string]any{}
		if changes != nil {
			values["changes"] = changes
		}
		got := mustCompile(t, source, Options{Roots: roots, Bool: true}).Run(NewScope(values))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
	yes, no := Result{Value: true}, Result{Value: false}
	list := Document{JSON: []byte(` ["fields.slug.en", "sys.version"] `), Whole: true}
	gives(`changed("fields.slug.en")`, list, yes)
	gives(`changed("fields.slug")`, list, yes)
	gives(`changed("fields")`, list, yes)
	gives(`changed("sys.version.deeper")`, list, yes)
	gives(`changed("fields.slu")`, list, no)
	gives(`changed("fields.slug.en-US")`, list, no)
	gives(`changed("fields.sl" + "ug")`, list, yes)
	gives(`not changed("x") and "sys.version" in changes`, list, yes)
	gives(`changed("x")`, Document{JSON: []byte(`[]`), Whole: true}, no)
	gives(`changed("x")`, nil, Result{State: Unknown, Detail: `changed("x")`})
	gives(`changed("x")`, Document{Why: "no before"}, Result{State: Unknown, Detail: `changed("x"): no before`})
	gives(`changed("x") ?? true`, Document{Why: "no before"}, Result{State: Unknown, Detail: `changed("x"): no before`})
	gives(`changed("fields")`, Document{JSON: list.JSON, Why: "cut"}, yes)
	gives(`changed("x")`, Document{JSON: list.JSON, Why: "cut"}, Result{State: Unknown, Detail: `changed("x"): cut`})
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	few := Options{Roots: []string{"payload", "environment"}, Bool: true}
	refusedWith := func(o Options, source, want string) {
		t.Helper()
		_, err := Compile(source, o)
		var positioned *Error
		if !errors.As(err, &positioned) {
			t.Fatalf("%.60s: got %v, want an *Error", source, err)
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60s:\n got %s\nwant %s", source, err, want)
		}
	}
	refused := func(source, want string) { t.Helper(); refusedWith(few, source, want) }

	refused(``, `1:1: the expression is empty`)
	refused(" \n\t", `1:1: the expression is empty`)
	refused(`// nothing`, `1:10: unexpected token EOF`)
	refused(`payload.a == 1 and paylaod.b == 2`, `1:20: unknown name paylaod; known are: payload, environment`)
	refused("payload.a == 1\n  and true\n  and nope", `3:7: unknown name nope; known are: payload, environment`)
	refused(`"日本" == nope`, `1:9: unknown name nope`)
	refused(`payload.a ==`, `1:12: unexpected token EOF`)
	refused(`payload.a == "x`, `1:16: literal not terminated`)
	refused(`payload.a matches "("`, `1:11: error parsing regexp: missing closing ): `)
	refused(`1 + "a" == 2`, `1:3: invalid operation: + (mismatched types int and string)`)
	refused(`"a"`, `1:1: the expression must give true or false, not string`)
	refused(`now() == nil`, `1:1: the function now is not available; available are: all, none`)
	refused(`keys(payload) == []`, `1:1: the function keys is not available`)
	refused(`get(payload, "a") == 1`, `1:1: the function get is not available`)
	refused(`reduce(payload.a, #acc + #, 0) == 1`, `1:1: the function reduce is not available`)
	refused(`payload.x | groupBy(.a) | len() == 1`, `1:13: the function groupBy is not available`)
	refused(`any(1..9, # == 1)`, `1:6: ranges (..) are not available`)
	refused(`payload.a() == 1`, `1:9: payload.a is not a function`)
	refused(`nope(1)`, `1:1: unknown function nope`)
	refused(`changed("a")`, `1:1: unknown function changed`)
	refused(`$env.payload == 1`, `1:1: unknown name $env`)
	refused(`$env["payload"] == 1`, `1:1: unknown name $env`)
	refused(`any(payload.a, any(#, any(#, # == 1)))`, `1:30: more than 2 conditions within each other`)
	refused(`let payload = 1; true`, `1:5: cannot redeclare payload`)
	refused(`let a = b; let b = 1; true`, `1:9: unknown name b`)
	refused(strings.Repeat("(", 20000), `1:1: the expression is longer than 16384 bytes`)
	refused(strings.Repeat("not ", 600)+"true", `1:`)
	refused(strings.Repeat("(", 40)+"payload.a"+strings.Repeat(" ?: 1)", 40), `1:`)
	changes := Options{Roots: []string{"changes"}, Bool: true}
	refusedWith(changes, `changed()`, `1:1: changed takes one path`)
	refusedWith(changes, `changed("a", "b")`, `1:1: changed takes one path`)
	refusedWith(changes, `changed(1)`, `1:9: cannot use int as argument (type string) to call changed`)
	refusedWith(changes, `changed == 1`, `1:1: unknown name changed; known are: changes`)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	reads := func(source string, want ...string) {
		t.Helper()
		var got []string
		for _, path := range mustCompile(t, source, Options{Roots: roots}).Paths() {
			text := path.String()
			if path.Optional {
				text += " or nil"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
	reads(`true`)
	reads(`payload.sys.id == "1" and environment == "a"`, "environment", "payload.sys.id")
	reads(`payload.sys.id == "1" or payload.sys.id == "2"`, "payload.sys.id")
	reads(`payload.fields["en-US"].x[0]`, `payload.fields["en-US"].x[0]`)
	reads(`payload.fields[before.locale].x`, "before.locale", "payload.fields.*.x")
	reads(`payload?.a?.b ?? before.c`, "before.c", "payload.a.b or nil")
	reads(`(payload.a ?? 1) == 1 and before.b?.c == 1`, "before.b.c or nil", "payload.a or nil")
	reads(`payload.a?.b == 1 or payload.a.b == 2`, "payload.a.b")
	reads(`(payload[before.x] ?? 1) == 1`, "before.x or nil", "payload.* or nil")
	reads(`any(payload.tags, .name == environment)`, "environment", "payload.tags", "payload.tags.*.name")
	reads(`any(filter(payload.tags, .a), .b)`, "payload.tags", "payload.tags.*.a", "payload.tags.*.b")
	reads(`any(payload.a, any(.b, .c == 1))`, "payload.a", "payload.a.*.b", "payload.a.*.b.*.c")
	reads(`"x" in payload.fields`, "payload.fields")
	reads(`changed("a")`, "changes")

	p := mustCompile(t, `before.x == payload.y`, Options{Roots: roots})
	for root, want := range map[string]bool{"before": true, "payload": true, "be": false, "x": false, "changes": false} {
		if p.Reads(root) != want {
			t.Errorf("Reads(%q) is not %v", root, want)
		}
	}
}

// TestSame runs programs often and at once, on one scope: always the same result.
func TestSame(t *testing.T) {
	t.Parallel()
	sources := []string{
		`payload.sys.contentType.sys.id == "blogPost" && environment in ["master"]`,
		`any(payload.fields.authors, .name == "Bob" and len(payload.fields.tags) == 2)`,
		`string(payload.fields.title) + toJSON(payload.fields)`,
		`payload.nope ?? before.x`,
		`payload.fields[environment]`,
		`payload.sys.id > 5`,
	}
	shared := scope()
	var running sync.WaitGroup
	for _, source := range sources {
		p := mustCompile(t, source, Options{Roots: roots})
		want := p.Run(scope())
		for range 4 {
			running.Go(func() {
				for range 50 {
					if diff := cmp.Diff(want, p.Run(shared)); diff != "" {
						t.Errorf("%s: %s", source, diff)
					}
				}
			})
		}
	}
	running.Wait()
}
