package expression

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	whole := Document{JSON: []byte(`{"type":"page","n":3,"tags":["a"],"long":"` + string(make([]byte, 0, 200)) + `"}`), Whole: true}
	scope := NewScope(map[string]any{"payload": whole, "topic": "Entry.publish", "before": Document{Why: "it is not known"}})
	check := func(source, part string, reads ...Reading) {
		t.Helper()
		p, err := Compile(source, Options{Roots: []string{"payload", "topic", "before"}, Bool: true})
		if err != nil {
			t.Fatal(err)
		}
		got, found := p.Explain(scope)
		if diff := cmp.Diff(part, got) + cmp.Diff(reads, found); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
	}
	page := Reading{"payload.type", "present", `"page"`}
	three := Reading{"payload.n", "present", "3"}
	check(`payload.type == "post"`, `payload.type == "post"`, page)
	check(`payload.n == 3 and payload.type == "post"`, `payload.type == "post"`, page)
	check(`payload.type == "post" and payload.n == 3`, `payload.type == "post"`, page)
	check(`payload.type == "page" or payload.n == 3`, `payload.type == "page"`, page)
	check(`payload.n == 4 or payload.type == "post"`, `payload.n == 4 or payload.type == "post"`, three, page)
	check(`payload.n == 3 && payload.type == "page"`, `payload.n == 3 && payload.type == "page"`, three, page)
	check(`not (payload.n == 3 and payload.nope == 1)`, `payload.nope == 1`, Reading{"payload.nope", "missing", ""})
	check(`topic == "x" or before.x == 1 or payload.n == 3`, `before.x == 1`, Reading{"before.x", "unknown", ""})
	check(`any(payload.tags, # == "b")`, `any(payload.tags, # == "b")`, Reading{"payload.tags", "present", `["a"]`})
	check(`payload.type > 3`, `payload.type > 3`, page)
}
