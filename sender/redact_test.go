package sender

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

// A receiver may write a secret in an encoding of its own, and where it stops
// reading a secret may be cut.
func TestRedact(t *testing.T) {
	t.Parallel()
	const password = "pass/word+&= %\"ü-9"
	e := endpoint(t, "https://hooks.example.com/services/T0AAAA/wordless-9a8b7c?token=query%2Fsecret&u=1234", `
headers: { Authorization: Token header-secret, X-Team: web }
signing: { scheme: standard, secret: { value: whsec_c2lnbmluZy1zZWNyZXQtc2lnbmluZw== } }
`)
	r := newRedactor(append(e.secrets(), password))
	check := func(text, want string) {
		t.Helper()
		if got := r.redact(text, false); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	check("the build of web is broken: services, 1234", "the build of web is broken: services, 1234")
	for _, secret := range []string{
		password, url.QueryEscape(password), url.PathEscape(password), strings.ToLower(url.QueryEscape(password)), `pass/word+\u0026= %\"ü-9`, `pass\/word+&= %"ü-9`,
		"/services/T0AAAA/wordless-9a8b7c?token=query%2Fsecret&u=1234", "wordless-9a8b7c", "query/secret", "query%2Fsecret", "query%2fsecret",
		"header-secret", "Token header-secret", "c2lnbmluZy1zZWNyZXQtc2lnbmluZw==",
	} {
		check("a "+secret+" b", "a <secret> b")
	}
	for shift := range 3 { // in the middle of base64
		for _, of := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := of.EncodeToString([]byte(strings.Repeat("x", shift) + "header-secret" + "yy"))
			if got := r.redact(text, false); strings.Contains(got, text[4:16]) {
				t.Errorf("%d: %s became %s", shift, text, got)
			}
		}
	}
	for cut := shortest; cut < len("header-secret"); cut++ {
		if got := r.redact("said header-secret"[:cut+5], true); got != "said <secret>" {
			t.Error(got)
		}
	}
	if got := r.redact("said header", false); got != "said header" {
		t.Error(got)
	}
}

// The values of a template are content, the text around them may be secret.
func TestRedactTemplates(t *testing.T) {
	t.Parallel()
	e := endpoint(t, "https://user:pass-word@hooks.example.com/services/T0AAAA9a8b7c/${type}/x?token=query-secret&u=${action}", "")
	r := newRedactor(e.secrets())
	for text, want := range map[string]string{
		"a value of Entry":                  "a value of Entry",
		"in T0AAAA9a8b7c":                   "in <secret>",
		"query-secret, user:pass-word":      "<secret>, <secret>",
		"POST /services/T0AAAA9a8b7c/Entry": "POST <secret>Entry",
	} {
		if got := r.redact(text, false); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
