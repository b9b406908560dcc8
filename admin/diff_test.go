package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	check := func(before, after, wantWhy string, want ...string) {
		t.Helper()
		changes, why := diffOf([]byte(before), []byte(after))
		var got []string
		for _, c := range changes {
			got = append(got, c.Class+" "+c.Text)
		}
		if diff := cmp.Diff(want, got); diff != "" || why != wantWhy {
			t.Errorf("%s -> %s: %s %s", before, after, why, diff)
		}
	}
	const nothing = "Nothing: it is what it was before."
	check(`{"a":1,"b":{"c":"<"}}`, `{"b":{"c":"<"},"a":1}`, nothing)
	check(`{"a":1.10,"b":"x"}`, `{"b":"<b>","a":1.10}`, "", "place @@ -1,4 +1,4 @@", "same  {", `same    "a": 1.10,`, `removed -  "b": "x"`, `added +  "b": "<b>"`, "same  }")
	check(`[1]`, `[1,2]`, "", "place @@ -1,3 +1,4 @@", "same  [", "removed -  1", "added +  1,", "added +  2", "same  ]")
	check(`{`, `{`, nothing)
	check(`{`, ``, "", "place @@ -1,1 +1,1 @@", "removed -{", "added +")
	check(deep(5000), `1`, "It is too large to be compared here.")
	check(`1`, deep(5000), "It is too large to be compared here.")
	changes, _ := diffOf([]byte("[]"), []byte("["+strings.Repeat("1,", 5000)+"1]"))
	if len(changes) != maxChanges+1 || !strings.Contains(changes[maxChanges].Text, "more changes") {
		t.Errorf("%d %+v", len(changes), changes[len(changes)-1])
	}
}

func deep(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestPretty(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`{"a":[1]}`: "{\n  \"a\": [\n    1\n  ]\n}", "no JSON": "no JSON", "": "", deep(9000): deep(9000)} {
		if got := pretty(text); got != want {
			t.Errorf("%.50s: %.50s", text, got)
		}
	}
}

// FuzzLaidOutSize: a JSON text never gets larger than it is said to.
func FuzzLaidOutSize(f *testing.F) {
	for _, seed := range []string{`{"a\\\"":[1,{"b":[]}],"c":{}}`, deep(50), `["[[[",","]`, `[,`, `"\`, `]]]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var laidOut bytes.Buffer
		size := laidOutSize([]byte(text))
		if size < len(text) {
			t.Fatal(size)
		}
		if json.Indent(&laidOut, []byte(text), "", "  ") == nil && laidOut.Len() > size {
			t.Error(fmt.Sprint(laidOut.Len(), " > ", size))
		}
	})
}
