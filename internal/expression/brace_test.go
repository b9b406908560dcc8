package expression

import "testing"

func TestClosingBrace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"a}": 1, "}": 0, "{a: {}}} b": 7, `"}"}`: 3, "`\\`}": 3, `'a\'}'}`: 6, `"\\"}`: 4, "a": -1, `"}`: -1, "": -1,
	} {
		if got := ClosingBrace(text); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}
