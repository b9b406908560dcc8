package setting

import (
	"slices"
	"strings"
	"testing"
)

type shownPart struct {
	Wait Duration `yaml:"wait"`
}

type shownExample struct {
	Name    string          `yaml:"name"`
	Token   Secret          `yaml:"token"`
	URL     URL             `yaml:"url"`
	Headers map[string]Text `yaml:"headers"`
	Parts   []shownPart     `yaml:"parts"`
	One     *shownPart      `yaml:"one"`
	Body    Tree            `yaml:"body"`
	inner   func()
	Off     bool   `yaml:"off"`
	Ignored string `yaml:"-"`
}

func readExample(t *testing.T, text string) *shownExample {
	t.Helper()
	e := &shownExample{inner: func() {}}
	if err := Decode("x.yaml", []byte(text), e, nil); err != nil {
		t.Fatal(err)
	}
	return e
}

const shownText0 = `
name: a
token: { value: hunter2 }
url: https://user:hunter2@hooks.example.com/services/hunter2?key=hunter2
headers: { X-Key: hunter2, Authorization: { value: hunter2 } }
parts: [{ wait: 1m }, { wait: 7d }]
one: { wait: 5s }
body: { text: ["${topic}", 1] }
`

func TestShowHidesWhatMayBeSecret(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, s := range Show(readExample(t, shownText0)) {
		lines = append(lines, s.Path+" = "+s.Value)
	}
	want := []string{
		"name = a", "token = <secret>", "url = https://hooks.example.com/<secret>", "headers.Authorization = <secret>", "headers.X-Key = <secret>",
		"parts[0].wait = 1m", "parts[1].wait = 7d", "one.wait = 5s", "body = <set>", "off = false",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("shown:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestChangedNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"name: a", "name: b", "name"},
		{"{ value: hunter2 }", "{ value: hunter3 }", "token"},
		{"key=hunter2", "key=hunter3", "url"},
		{"X-Key: hunter2", "X-Key: hunter3", "headers.X-Key"},
		{"X-Key: hunter2", "X-Key: { value: hunter2 }", "headers.X-Key"},
		{"X-Key: hunter2, ", "", "headers.X-Key"},
		{", { wait: 7d }", "", "parts[1].wait"},
		{"one: { wait: 5s }", "", "one.wait"},
		{`"${topic}"`, `"${type}"`, "body"},
		{"5s", "5000ms", ""},
	} {
		after := readExample(t, strings.Replace(shownText0, c.old, c.new, 1))
		if got := strings.Join(Changed(readExample(t, shownText0), after), " "); got != c.want {
			t.Errorf("%q to %q: changed %q, want %q", c.old, c.new, got, c.want)
		}
	}
}
