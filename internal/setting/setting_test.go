package setting_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

type config struct {
	Listen   string            `yaml:"listen"`
	Upstream setting.URL       `yaml:"upstream"`
	On       bool              `yaml:"on"`
	Max      int               `yaml:"max"`
	Wait     setting.Duration  `yaml:"wait"`
	Size     setting.Size      `yaml:"size"`
	Topics   []string          `yaml:"topics"`
	Headers  map[string]string `yaml:"headers"`
	Hooks    []hook            `yaml:"hooks"`
	Shape    setting.Tree      `yaml:"shape"`
}

type hook struct {
	Name   string         `yaml:"name"`
	Secret setting.Secret `yaml:"secret"`
	Extra  `yaml:",inline"`
}

type Extra struct {
	Tries int `yaml:"tries"`
}

func (h *hook) SetDefaults() { h.Tries = 3 }

func TestMistakes(t *testing.T) {
	t.Parallel()
	check := func(text string, want ...string) {
		t.Helper()
		var c config
		err := setting.Decode("c.yaml", []byte(text), &c, func(check setting.Check) {
			if c.Max > 9 {
				check.Add("max", "at most 9")
			}
			if len(c.Hooks) > 0 && !c.Hooks[0].Secret.IsSet() {
				check.Add("hooks[0]", "wants a secret")
			}
			check.File("listen", c.Listen)
		})
		got := []string{}
		var problems setting.Problems
		if errors.As(err, &problems) {
			got = strings.Split(problems.Error(), "\n")
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
	check("listen: a:1\non: true\nwait: 7d\nsize: 4GiB\nupstream: https://x.example/base")
	check("", "c.yaml: the file is empty")
	check("# nothing\n", "c.yaml: the file is empty")
	check("listen: [", "c.yaml:1: not valid YAML: did not find expected node content")
	check("listen: a\n---\nlisten: b", "c.yaml: the file holds a second document; keep one (remove what follows the line ---)")
	check("max: 10\nlisten: [", "c.yaml:2: not valid YAML: did not find expected node content")
	check("max: 10\n---\n", "c.yaml: the file holds a second document; keep one (remove what follows the line ---)")
	check("[]", `c.yaml:1: want keys and values here, not a list`)
	check("lisen: a\non: maybe\n",
		`c.yaml:1: lisen: unknown key; did you mean listen?`,
		`c.yaml:2: on: want true or false, not "maybe"`)
	check("zzzzzz: 1", "c.yaml:1: zzzzzz: unknown key; known here: headers, hooks, listen, max, on, shape, size, topics, upstream, wait")
	check("max: 1.5", `c.yaml:1: max: want a whole number, not "1.5"`)
	check("\nmax: 10", "c.yaml:2: max: at most 9")
	check("max: 1\nmax: 2", "c.yaml:2: max: given twice; keep one")
	check("wait: 5 minutes", `c.yaml:1: wait: want a time span such as 30s, 1h30m or 7d, not "5 minutes"`)
	check("wait: 36501d", `c.yaml:1: wait: want at most 36500d, not "36501d"`)
	check("wait: 36500d2000000h", `c.yaml:1: wait: want at most 36500d, not "36500d2000000h"`)
	check("wait: 99999999999999999999d", `c.yaml:1: wait: want at most 36500d, not "99999999999999999999d"`)
	check("wait: 9999999999h", `c.yaml:1: wait: want a time span such as 30s, 1h30m or 7d, not "9999999999h"`)
	check("size: big", `c.yaml:1: size: want a size such as 4GiB, 100MB or 4096, not "big"`)
	check("size: 9999999999TiB", `c.yaml:1: size: want a size such as 4GiB, 100MB or 4096, not "9999999999TiB"`)
	check("topics: {a: b}", `c.yaml:1: topics: want a list here ([a, b]), not keys and values`)
	check("topics: [{a: b}]", `c.yaml:1: topics[0]: want a single value here, not keys and values`)
	check("upstream: example.com", `c.yaml:1: upstream: the address must start with http:// or https://`)
	const notAnAddress = "not a valid address; want https://host/path, with special characters as %XX (a slash in a password is %2F)"
	check("upstream: 'http://a b'", "c.yaml:1: upstream: "+notAnAddress)
	check("upstream: https://cms:s3cr/etpw@h/x", "c.yaml:1: upstream: "+notAnAddress)
	const noPort = "c.yaml:1: upstream: the address has a port that is not from 1 to 65535"
	check("upstream: http://h:65536/", noPort)
	check("upstream: http://h:0/", noPort)
	check("upstream: http://h:65535/")
	check("hooks: hunter2", "c.yaml:1: hooks: want a list here ([a, b]), not a single value")
	check("headers: hunter2", "c.yaml:1: headers: want keys and values here, not a single value")
	check("hooks:\n- secret: {hunter2}", "c.yaml:2: hooks[0].secret: unknown key; write a secret as { env: NAME }, { file: PATH } or { value: TEXT }")
	check("upstream: 'https:///x'", `c.yaml:1: upstream: the address has no host`)
	check("hooks:\n- name: a\n  secret: abc", "c.yaml:3: hooks[0].secret: write a secret as { env: NAME }, { file: PATH } or { value: TEXT }")
	check("hooks:\n- secret: {env: CMSTAP_NOT_SET}", "c.yaml:2: hooks[0].secret: the environment variable CMSTAP_NOT_SET is not set")
	check("hooks:\n- secret: {vault: x}", "c.yaml:2: hooks[0].secret: unknown key; write a secret as { env: NAME }, { file: PATH } or { value: TEXT }")
	check("hooks:\n- secret: {env: {a: b}}", "c.yaml:2: hooks[0].secret: env wants the name of a variable, as a single value")
	check("hooks:\n- secret: {env: }", "c.yaml:2: hooks[0].secret: env wants the name of a variable, as a single value")
	check("hooks:\n- secret: {file: [a]}", "c.yaml:2: hooks[0].secret: file wants a path, as a single value")
	check("hooks:\n- secret: {value: ''}", "c.yaml:2: hooks[0].secret: value wants the secret itself, as a single value")
	const tilde = "starts with ~, which only a shell replaces; write the whole path"
	check("hooks:\n- secret: {file: ~/key}", "c.yaml:2: hooks[0].secret: "+tilde)
	check("listen: ~/here", "c.yaml:1: listen: "+tilde)
	check("hooks:\n- secret: {file: /nonexistent}", "c.yaml:2: hooks[0].secret: the secret can not be read: open /nonexistent: no such file or directory")
	check("hooks: [&w { <<: *w, name: a }]", "c.yaml:1: hooks[0]: an alias inside itself")
	check("hooks: &a [*a]", "c.yaml:1: hooks[0]: an alias inside itself")
	check("shape: &a [*a]", "c.yaml:1: shape[0]: an alias inside itself")
	check("shape: &a { b: { <<: *a } }", "c.yaml:1: shape.b: an alias inside itself")
	check("headers: { <<: [{a: b}, c] }", "c.yaml:1: headers: want keys and values here, not a single value")
	check("x-a: &a {}\nheaders: { <<: *a, <<: *a }", "c.yaml:2: headers.<<: given twice; keep one")
	check(doubling("[*, *]")+"shape: *a20", "c.yaml:4: shape[0][0][0][0][0][0][0][0][1][1][0][1][0][0][0][0][1][0]: too many aliases")
	check(doubling("{ <<: [*, *] }")+"shape: *a20", "c.yaml:2: shape: too many aliases")
	check(doubling("[*, *]") + "shape: *a9")
}

// TestWarnings: they have lines as mistakes do, stay apart from them, and keep
// quiet where there is a mistake.
func TestWarnings(t *testing.T) {
	t.Parallel()
	check := func(text, want, mistakes string) {
		t.Helper()
		var c config
		var warnings setting.Problems
		err := setting.Decode("c.yaml", []byte(text), &c, func(check setting.Check) {
			check.In("hooks[0]").Warn("tries", "is %d", 0)
			check.In("hooks[0]").Warn("tries", "is little")
			check.Warn("max", "is small")
			warnings = check.Warnings()
		})
		if err == nil {
			err = setting.Problems{}
		}
		if warnings.Error() != want || err.Error() != mistakes {
			t.Errorf("%q: got\n%s\nand\n%v", text, warnings.Error(), err)
		}
	}
	check("\nmax: 1\nhooks: [\n{ tries: 0 }]", "c.yaml:2: max: is small\nc.yaml:4: hooks[0].tries: is 0\nc.yaml:4: hooks[0].tries: is little", "")
	check("listen: a\nhooks:\n- name: a", "c.yaml: max: is small\nc.yaml:3: hooks[0].tries: is 0\nc.yaml:3: hooks[0].tries: is little", "")
	check("max: many\nhooks: [{tries: x}]", "", "c.yaml:1: max: want a whole number, not \"many\"\nc.yaml:2: hooks[0].tries: want a whole number, not \"x\"")
}

// TestValuesAsText: a value is printed as it is written.
func TestValuesAsText(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"0s", "300ms", "1.5s", "30s", "1m", "1m5s", "2h", "2h0m5s", "7d", "1d3h35m5s", "36500d"} {
		var d setting.Duration
		if err := d.UnmarshalText([]byte(want)); err != nil || d.String() != want {
			t.Errorf("got %s, want %s; %v", d, want, err)
		}
	}
	for _, want := range []string{"0", "1", "1000", "64KiB", "64MiB", "4GiB", "2TiB", "2048TiB"} {
		var s setting.Size
		if err := s.UnmarshalText([]byte(want)); err != nil || s.String() != want {
			t.Errorf("got %s, want %s; %v", s, want, err)
		}
	}
}

func TestIsListen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		":0": true, ":65535": true, "[::1]:80": true, "a.example:8080": true,
		":65536": false, ":": false, ":http": false, ":-1": false, ":+1": false, "nowhere": false, "": false,
	} {
		if setting.IsListen(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	check := func(word, want string) {
		t.Helper()
		if got := setting.Nearest(word, []string{"publish", "save", "unpublish"}); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
	check("published", "publish")
	check("Unpublished", "unpublish")
	check("PUBLISH", "publish")
	check("saved", "save")
	check("delete", "")
}

// TestMerge: what is written out wins over what is merged in, wherever the <<
// stands, and the first map of a list wins over those after it.
func TestMerge(t *testing.T) {
	t.Parallel()
	check := func(value string, want hook, shape ...string) {
		t.Helper()
		anchors := "x-a: &a { name: a }\nx-b: &b { tries: 7, name: b }\nx-c: &c { <<: *b, name: c }\n"
		var c config
		if err := setting.Decode("c.yaml", []byte(anchors+"hooks: ["+value+"]\nshape: "+value), &c, nil); err != nil {
			t.Fatal(err)
		}
		if c.Hooks[0] != want {
			t.Errorf("%s: got %+v", value, c.Hooks[0])
		}
		var got []string
		for _, f := range c.Shape.Fields {
			got = append(got, fmt.Sprint(f.Name, "=", f.Value.Text, f.Value.Value))
		}
		if diff := cmp.Diff(shape, got); diff != "" {
			t.Errorf("%s: %s", value, diff)
		}
	}
	check("{ <<: *b, name: own }", hook{Name: "own", Extra: Extra{7}}, "tries=7", "name=own<nil>")
	check("{ name: own, <<: *b }", hook{Name: "own", Extra: Extra{7}}, "tries=7", "name=own<nil>")
	check("{ <<: [*a, *b] }", hook{Name: "a", Extra: Extra{7}}, "name=a<nil>", "tries=7")
	check("{ <<: [*b, *a] }", hook{Name: "b", Extra: Extra{7}}, "tries=7", "name=b<nil>")
	check("{ <<: *c }", hook{Name: "c", Extra: Extra{7}}, "tries=7", "name=c<nil>")
	check("{ <<: { name: in }, tries: 1 }", hook{Name: "in", Extra: Extra{1}}, "name=in<nil>", "tries=1")
}

// doubling returns anchors a0 to a20: each is the form of the one before twice.
func doubling(form string) string {
	text := "x-0: &a0 { k: v }\n"
	for i := range 20 {
		text += fmt.Sprintf("x-%d: &a%d %s\n", i+1, i+1, strings.ReplaceAll(form, "*", fmt.Sprintf("*a%d", i)))
	}
	return text
}

func TestValues(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config{Listen: "default"}
	text := `
x-defaults: &defaults { tries: 5 }
listen:
wait: 1d12h
size: 2 kib
headers: { X-A: "1", X-B: no }
hooks:
- { name: a, secret: { file: ` + file + ` } }
- { <<: *defaults, name: b }
shape: { z: [1, "${a}"], a: { b: null } }
`
	if err := setting.Decode("c.yaml", []byte(text), &c, nil); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "default" || c.Wait.Std() != 36*time.Hour || c.Size != 2048 || c.Headers["X-B"] != "no" {
		t.Errorf("got %+v", c)
	}
	if c.Hooks[0].Secret.Reveal() != "s3cret" || c.Hooks[0].Tries != 3 || c.Hooks[1].Tries != 5 {
		t.Errorf("got %+v", c.Hooks)
	}
	if got := c.Shape.Fields[0]; got.Name != "z" || got.Value.Items[0].Value != 1 || got.Value.Items[1].Text != "${a}" {
		t.Errorf("got %+v", got)
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	var h hook
	text := "name: &v hunter2\nsecret: { value: *v }\n"
	if err := setting.Decode("c.yaml", []byte(text), &h, nil); err != nil {
		t.Fatal(err)
	}
	if h.Secret.Reveal() != "hunter2" {
		t.Fatal("not read")
	}
	h.Name = ""
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(form, h); strings.Contains(got, "hunter2") {
			t.Errorf("%s shows it: %s", form, got)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	got := setting.Keys(&config{})
	want := []string{
		"headers", "hooks[].name", "hooks[].secret", "hooks[].tries", "listen", "max", "on",
		"shape", "size", "topics", "upstream", "wait",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("listen: a\nhooks: [{name: b}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("<<: {<<: 1}"))
	f.Add([]byte("hooks: [&w { <<: *w, tries: 1 }]"))
	f.Add([]byte("x-a: &a {tries: 1}\nshape: &b {<<: [*a, *a], c: [*a, *b]}"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var c config
		_ = setting.Decode("c.yaml", text, &c, nil)
	})
}

// A part that a file may leave out as a whole has its own defaults if it is there.
func TestPartsThatMayBeLeftOut(t *testing.T) {
	t.Parallel()
	check := func(text string, want *hook) {
		t.Helper()
		var c struct {
			Part *hook `yaml:"part"`
			Of   int   `yaml:"of"`
		}
		if err := setting.Decode("c.yaml", []byte(text), &c, func(setting.Check) {}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, c.Part, cmpopts.IgnoreFields(hook{}, "Secret")); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	check("of: 1", nil)
	check("part:", nil)
	check("part: {}", &hook{Extra: Extra{Tries: 3}})
	check("part: { tries: 5, name: a }", &hook{Name: "a", Extra: Extra{Tries: 5}})
}

// TestUnresolved: what somebody else wrote makes nothing be read, and is checked
// all the same.
func TestUnresolved(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c config
	text := "hooks:\n- secret: { file: " + file + " }\n- secret: { env: PATH }\n- secret: { file: /no/such/file }\n- secret: { value: x }\n"
	if err := setting.DecodeUnresolved("c.yaml", []byte(text), &c, nil); err != nil || len(c.Hooks) != 4 {
		t.Fatal(err)
	}
	for _, hook := range c.Hooks {
		if hook.Secret.IsSet() {
			t.Errorf("a secret was read: %d bytes", len(hook.Secret.Reveal()))
		}
	}
	err := setting.DecodeUnresolved("c.yaml", []byte("hooks:\n- secret: { vault: x }\n"), &c, nil)
	if err == nil || !strings.Contains(err.Error(), "unknown key") {
		t.Error(err)
	}
}
