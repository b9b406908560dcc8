package contentful_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"cmstap/internal/contentful"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// Whatever the file holds: it is refused, or what is written is YAML that says
// the same.
func FuzzWebhooks(f *testing.F) {
	text, err := os.ReadFile("../../testdata/contentful/webhook_definitions.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"name":"\u0085<<","url":"https://x.example/{ /payload/a }","topics":["*.*"],"filters":[{"in":[{"doc":"a b.c"},["'\""]]}],
		"headers":[{"key":"","value":"\u007f"}],"transformation":{"body":{"a":[1e3,{"":"${"}]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		definitions, err := contentful.Parse(text)
		if err != nil {
			return
		}
		written, err := contentful.Webhooks(definitions, contentful.FromEnvironment)
		if err != nil {
			return
		}
		var config struct {
			Webhooks []struct {
				Name, URL string
				Topics    []string
				Body      any
			}
		}
		if err := yaml.Unmarshal([]byte(written), &config); err != nil {
			if !strings.Contains(err.Error(), "already defined") { // JSON may have a key twice
				t.Fatalf("%v in\n%s", err, written)
			}
			return
		}
		i := 0
		for _, d := range definitions {
			if d.Active != nil && !*d.Active {
				continue
			}
			w := config.Webhooks[i]
			i++
			if unescaped(w.URL) != d.URL || fmt.Sprint(w.Topics) != fmt.Sprint(d.Topics) || w.Name == "" || len(w.Name) > 100 {
				t.Errorf("%+v became %+v", d, w)
			}
			checkBody(t, d, w.Body)
		}
	})
}

func unescaped(template string) string { return strings.ReplaceAll(template, `${"${"}`, "${") }

// checkBody compares all but numbers, which YAML reads in its own way.
func checkBody(t *testing.T, d contentful.Definition, got any) {
	t.Helper()
	if d.Transformation.Method == "GET" || d.Transformation.Method == "DELETE" || len(d.Transformation.Body) == 0 {
		return
	}
	var want any
	if err := json.Unmarshal(d.Transformation.Body, &want); err != nil {
		return
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("%s: %s", d.Transformation.Body, diff)
	}
}

func plain(value any) any {
	switch value := value.(type) {
	case string:
		return unescaped(value)
	case []any:
		items := []any{}
		for _, item := range value {
			items = append(items, plain(item))
		}
		return items
	case map[string]any:
		fields := map[string]any{}
		for name, field := range value {
			fields[name] = plain(field)
		}
		return fields
	case nil, bool:
		return value
	}
	return "a number"
}

// Two secrets are never one variable.
func TestVariablesAreUnique(t *testing.T) {
	t.Parallel()
	definitions, err := contentful.Parse([]byte(`[
		{"name":"日本","url":"https://a.example","topics":["*.*"],"httpBasicUsername":"u","httpBasicPassword":"p"},
		{"name":"русский","url":"https://b.example","topics":["*.*"],"httpBasicUsername":"u","httpBasicPassword":"q"},
		{"name":"a b","url":"https://c.example","topics":["*.*"],"headers":[{"key":"X-Key","value":"1","secret":true},{"key":"X_Key","value":"2","secret":true}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if _, err := contentful.Webhooks(definitions, func(_, name string) string { names = append(names, name); return "{ env: " + name + " }" }); err != nil {
		t.Fatal(err)
	}
	want := []string{"CMSTAP_WEBHOOK_PASSWORD", "CMSTAP_WEBHOOK_PASSWORD_2", "CMSTAP_A_B_X_KEY", "CMSTAP_A_B_X_KEY_2"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
