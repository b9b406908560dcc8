package sender

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hidden stands for a secret in what is logged and kept.
const hidden = "<secret>"

// shortest is the length of the shortest text that counts as a secret: less is
// a word of a text perhaps.
const shortest = 5

// shortestPart is the same for a part of a path: oauth2 is none.
const shortestPart = 7

// redactor takes out of a text what may be secret: the addresses but for their
// hosts, and what the config sends along. A receiver may have echoed it, in an
// encoding of its own.
type redactor struct {
	forms    []string // the longest first
	replacer *strings.Replacer
}

func newRedactor(secrets []string) *redactor {
	r := &redactor{}
	for _, secret := range secrets {
		for _, form := range formsOf(secret) {
			if len(form) >= shortest {
				r.forms = append(r.forms, form)
			}
		}
	}
	slices.SortFunc(r.forms, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	r.forms = slices.Compact(r.forms)
	var pairs []string
	for _, form := range r.forms {
		pairs = append(pairs, form, hidden)
	}
	r.replacer = strings.NewReplacer(pairs...)
	return r
}

// redact does that. A text that goes on may end in the middle of a secret.
func (r *redactor) redact(text string, goesOn bool) string {
	text = r.replacer.Replace(text)
	if !goesOn {
		return text
	}
	for _, form := range r.forms {
		for n := min(len(form)-1, len(text)); n >= shortest; n-- {
			if strings.HasSuffix(text, form[:n]) {
				return text[:len(text)-n] + hidden
			}
		}
	}
	return text
}

// formsOf lists how a text looks when it is written in other texts.
func formsOf(secret string) []string {
	quoted, _ := json.Marshal(secret)
	forms := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), (&url.URL{Path: secret}).EscapedPath(),
		strings.Trim(string(quoted), `"`), strings.ReplaceAll(secret, "/", `\/`), strings.Trim(strconv.Quote(secret), `"`),
	}
	forms = append(forms, inBase64(secret)...)
	if plain, err := url.PathUnescape(secret); err == nil {
		forms = append(forms, plain)
	}
	for _, form := range forms {
		forms = append(forms, escapes.ReplaceAllStringFunc(form, strings.ToLower))
	}
	return forms
}

// inBase64 lists how a text looks in base64, alone and in the middle of a longer
// text, where its first and last bytes share a character with what is beside it.
func inBase64(secret string) []string {
	var forms []string
	for _, of := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, of.EncodeToString([]byte(secret)))
		for shift := range 3 {
			whole := (len(secret) + shift) / 3 * 4
			if text := of.EncodeToString([]byte("xx"[:shift%3] + secret)); whole > 8 {
				forms = append(forms, text[4*min(shift, 1):whole])
			}
		}
	}
	return forms
}

var escapes = regexp.MustCompile(`%[0-9A-F]{2}`)

// secrets are what the config says that no log may show.
func (e *Endpoint) secrets() []string {
	basic, o := e.Auth.Basic, e.Auth.OAuth2
	secrets := []string{
		basic.Password.Reveal(), basic.Username + ":" + basic.Password.Reveal(), e.Auth.Bearer.Reveal(),
		o.ClientSecret.Reveal(), o.ClientID + ":" + o.ClientSecret.Reveal(),
		url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret.Reveal()), // RFC 6749 section 2.3.1
		e.Signing.Secret.Reveal(), e.Signing.Previous.Reveal(),
		strings.TrimPrefix(e.Signing.Secret.Reveal(), "whsec_"), strings.TrimPrefix(e.Signing.Previous.Reveal(), "whsec_"),
	}
	for _, header := range e.Headers {
		value := header.Reveal()
		_, credentials, _ := strings.Cut(value, " ") // Bearer TOKEN
		secrets = append(secrets, value, credentials)
	}
	for _, text := range e.literals() {
		secrets = append(append(secrets, text), tokensOf(text)...)
	}
	for _, u := range []*url.URL{e.fixedURL(), e.Proxy.URL, o.TokenURL.URL} {
		if u != nil {
			secrets = append(secrets, secretsOfURL(u)...)
		}
	}
	return secrets
}

// fixedURL is the address without what a template makes a part of: there words
// stand for the values.
func (e *Endpoint) fixedURL() *url.URL {
	if e.URL.URL == nil || len(e.URL.Literals()) < 2 {
		return e.URL.URL
	}
	return &url.URL{User: e.URL.User}
}

// secretsOfURL are the user, the path and the query as a whole, the values of
// the query, and the parts of the path that look like tokens.
func secretsOfURL(u *url.URL) []string {
	secrets := []string{u.RequestURI(), u.Path, u.RawQuery}
	if u.User != nil {
		password, _ := u.User.Password()
		secrets = append(secrets, u.User.String(), u.User.Username(), password, u.User.Username()+":"+password)
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	return append(secrets, tokensOf(u.Path)...)
}

// tokensOf are the values of a query, and the parts of a path that look like
// tokens.
func tokensOf(text string) (tokens []string) {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("/?&", r) }) {
		if _, value, isQuery := strings.Cut(part, "="); isQuery {
			tokens = append(tokens, value)
		} else if len(part) >= shortestPart && !word.MatchString(part) {
			tokens = append(tokens, part)
		}
	}
	return tokens
}

// word is a part of a path that is a word and not a token: build, webhooks,
// build-hooks.
var word = regexp.MustCompile(`^([a-z_-]{0,15}|[A-Z]?[a-z]{0,15})$`)
