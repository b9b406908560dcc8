package shape

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// Address is where a webhook is called: an http or https URL that may be a
// template. Then its URL has the word value in the place of each value.
type Address struct {
	*url.URL
	source   string
	template Template
	places   []place // of each part
}

// place is the part of a URL that a part of its template is in.
type place uint8

const (
	inHost place = iota
	inPath
	inQuery
)

// UnmarshalText reads an address, and compiles it if it is a template. Neither
// the scheme nor what is before an @ can be made by one.
func (a *Address) UnmarshalText(text []byte) error {
	template, err := CompileTemplate(string(text))
	if err != nil {
		return err
	}
	outline := outlineOf(template)
	host, path, query := sections(outline)
	if strings.Contains(outline[:host], value) {
		return errors.New("a template can not make the scheme or the user; write https:// before it, and the user under auth.basic")
	}
	var u setting.URL
	if err := u.UnmarshalText([]byte(strings.ReplaceAll(outline, value, "value"))); err != nil {
		return err
	}
	if !template.IsConstant() && hasDots(u.URL) {
		return errors.New("the path of a template must not have . or .. in it")
	}
	*a = Address{URL: u.URL, source: string(text), template: template}
	at := 0
	for _, p := range template.parts {
		a.places = append(a.places, placeAt(at, path, query))
		at += max(len(p.text), len(value))
	}
	return nil
}

// value stands for a value in the outline of a template. No URL has it.
const value = "\x00"

func outlineOf(t Template) string {
	var b strings.Builder
	for _, p := range t.parts {
		if b.WriteString(p.text); p.program != nil {
			b.WriteString(value)
		}
	}
	return b.String()
}

// sections finds where the host, the path and the query of a URL begin.
func sections(text string) (host, path, query int) {
	host = strings.Index(text, "://") + len("://")
	if host < len("://") {
		return len(text), len(text), len(text)
	}
	path = host + len(text[host:])
	if i := strings.IndexAny(text[host:], "/?"); i >= 0 {
		path = host + i
	}
	query = path + len(text[path:])
	if i := strings.Index(text[path:], "?"); i >= 0 {
		query = path + i
	}
	return host + strings.LastIndex(text[host:path], "@") + 1, path, query
}

func placeAt(at, path, query int) place {
	switch {
	case at < path:
		return inHost
	case at < query:
		return inPath
	}
	return inQuery
}

// hasDots tells whether a path has segments that lead somewhere else (RFC 3986
// section 5.2.4).
func hasDots(u *url.URL) bool {
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if plain, _ := url.PathUnescape(segment); plain == "." || plain == ".." {
			return true
		}
	}
	return false
}

// String is the address as the config has it. It may hold secrets.
func (a Address) String() string { return a.source }

// Shown returns the address without what may be secret.
func (a Address) Shown() string {
	if a.TemplatedHost() {
		return a.Scheme + "://<secret>"
	}
	return setting.URL{URL: a.URL}.Shown()
}

// TemplatedHost tells whether a template makes the host or a part of it, so
// that nobody knows before a call who is called.
func (a *Address) TemplatedHost() bool {
	for i, p := range a.template.parts {
		if p.program != nil && a.places[i] == inHost {
			return true
		}
	}
	return false
}

// Literals are the texts of path and query around the values, which may be
// secret.
func (a *Address) Literals() []string {
	outline := outlineOf(a.template)
	_, path, _ := sections(outline)
	return strings.Split(outline[path:], value)
}

// fill gives the address of a call. A value is escaped, and can neither be
// empty nor make another path, query or host than the template says.
func (a *Address) fill(s *expression.Scope) (*url.URL, error) {
	if a.template.IsConstant() {
		return a.URL, nil
	}
	var b strings.Builder
	for i, p := range a.template.parts {
		text, err := p.fill(s)
		if err == nil && p.program != nil {
			text, err = escape(text, a.places[i])
		}
		if err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	var u setting.URL
	if err := u.UnmarshalText([]byte(b.String())); err != nil {
		return nil, fmt.Errorf("the template of the URL gives none: %w", err)
	}
	if hasDots(u.URL) {
		return nil, errors.New("the template of the URL gives a path with . or .. in it")
	}
	return u.URL, nil
}

// hostForm is what a value may add to a host: parts of names (RFC 1123 section
// 2.1) with dots between them.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$`)

func escape(text string, at place) (string, error) {
	switch {
	case text == "":
		return "", errors.New("a value in the template of the URL is empty or missing")
	case at == inPath:
		return url.PathEscape(text), nil
	case at == inQuery:
		return url.QueryEscape(text), nil
	case !hostForm.MatchString(text):
		return "", errors.New("a value in the template of the URL can not be part of a host")
	}
	return text, nil
}
