package expression

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

const benchFilter = `payload.sys.contentType.sys.id == "blogPost" && environment in ["master"]`

// entity is an entry of 4 KB, its sys first or last.
func entity(sysFirst bool) []byte {
	sys := `"sys":{"id":"1","type":"Entry","version":7,"space":{"sys":{"id":"s"}},"contentType":{"sys":{"id":"blogPost"}}}`
	var fields []string
	for i := range 40 {
		fields = append(fields, fmt.Sprintf(`"field%d":{"en-US":"%s","tags":["a",%d]}`, i, strings.Repeat("text ", 10), i))
	}
	rest := `"fields":{` + strings.Join(fields, ",") + `}`
	if sysFirst {
		return []byte("{" + sys + "," + rest + "}")
	}
	return []byte("{" + rest + "," + sys + "}")
}

func eventScope(raw []byte) *Scope {
	return NewScope(map[string]any{"payload": Document{JSON: raw, Whole: true}, "environment": "master"})
}

// BenchmarkBare is the yardstick: expr without the rules of this package, on an entity that is decoded already.
func BenchmarkBare(b *testing.B) {
	env := map[string]any{"payload": map[string]any{}, "environment": ""}
	var programs []*vm.Program
	for range 100 {
		p, err := expr.Compile(benchFilter, expr.Env(env), expr.AsBool())
		if err != nil {
			b.Fatal(err)
		}
		programs = append(programs, p)
	}
	var decoded any
	if err := json.Unmarshal(entity(true), &decoded); err != nil {
		b.Fatal(err)
	}
	env = map[string]any{"payload": decoded, "environment": "master"}
	run := func(b *testing.B, programs []*vm.Program) {
		b.ReportAllocs()
		for b.Loop() {
			for _, p := range programs {
				if v, err := expr.Run(p, env); v != true {
					b.Fatal(v, err)
				}
			}
		}
	}
	b.Run("1", func(b *testing.B) { run(b, programs[:1]) })
	b.Run("100", func(b *testing.B) { run(b, programs) })
}

// BenchmarkRun is an event: a new scope, then filters. Hit is one scope kept: the cost of a run alone.
func BenchmarkRun(b *testing.B) {
	compile := func(source func(i int) string) (programs []*Program) {
		for i := range 100 {
			programs = append(programs, mustCompile(b, source(i), Options{Roots: roots, Bool: true}))
		}
		return programs
	}
	event := func(name string, raw []byte, programs []*Program, want Result) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := eventScope(raw)
				for _, p := range programs {
					if got := p.Run(s); got.State != want.State || got.Value != want.Value {
						b.Fatal(got)
					}
				}
			}
		})
	}
	same := compile(func(int) string { return benchFilter })
	misses := compile(func(int) string { return `payload.fields.nope == "x"` })
	lateMisses := compile(func(int) string { return `environment == "master" and payload.fields.nope == "x"` })
	distinct := compile(func(i int) string { return fmt.Sprintf(`payload.fields.field%d["en-US"] != environment`, i%40) })
	yes := Result{Value: true}
	event("1", entity(true), same[:1], yes)
	event("1SysLast", entity(false), same[:1], yes)
	event("100", entity(true), same, yes)
	event("100SysLast", entity(false), same, yes)
	event("100Distinct", entity(true), distinct, yes)
	event("100Missing", entity(true), misses, Result{State: Missing})
	event("100MissingLate", entity(true), lateMisses, Result{State: Missing})
	b.Run("Hit", func(b *testing.B) {
		b.ReportAllocs()
		s := eventScope(entity(true))
		for b.Loop() {
			same[0].Run(s)
		}
	})
}
