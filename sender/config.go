package sender

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"cmstap/internal/setting"
	"cmstap/sender/shape"
)

// Endpoint is the part of a webhook's settings that says how it is called.
type Endpoint struct {
	URL     shape.Address           `yaml:"url"`
	Headers map[string]setting.Text `yaml:"headers"`
	Form    shape.Form              `yaml:",inline"`
	Auth    Auth                    `yaml:"auth"`
	Signing Signing                 `yaml:"signing"`
	Retry   Retry                   `yaml:"retry"`
	Breaker Breaker                 `yaml:"breaker"`
	Rate    Rate                    `yaml:"rate"`
	Timeout setting.Duration        `yaml:"timeout"`
	// Concurrency is how many calls may run at a time.
	Concurrency int `yaml:"concurrency"`
	// Imported says that the settings were made from a vendor's webhook, and not
	// written by the operator.
	Imported bool `yaml:"imported"`

	headers map[string]shape.Template // those that have values of the event
}

// Auth is how cmstap names itself to the receiver.
type Auth struct {
	Basic Basic `yaml:"basic"`
}

// Basic is HTTP basic authentication.
type Basic struct {
	Username string         `yaml:"username"`
	Password setting.Secret `yaml:"password"`
}

// Signing is how calls are signed.
type Signing struct {
	Scheme string         `yaml:"scheme"` // standard: Standard Webhooks 1.0
	Secret setting.Secret `yaml:"secret"`
}

// SetDefaults fills in what a webhook that says nothing gets.
func (e *Endpoint) SetDefaults() {
	e.Retry = presets[standard]
	e.Breaker = Breaker{Failures: 10, Wait: setting.Duration(time.Minute)}
	e.Timeout = setting.Duration(30 * time.Second)
	e.Concurrency = 8
}

// Validate reports what is wrong.
func (e *Endpoint) Validate(check setting.Check) {
	if e.URL.URL == nil {
		check.Add("url", "name the address that is called, for example https://hooks.example.com/build")
	}
	if e.Timeout <= 0 || e.Timeout.Std() > 10*time.Minute {
		check.Add("timeout", "must be longer than 0s and at most 10m")
	}
	if e.Concurrency < 1 || e.Concurrency > 1000 {
		check.Add("concurrency", "must be from 1 to 1000")
	}
	for name, value := range e.Headers {
		validateHeader(check.In("headers"), name, value.Reveal())
	}
	e.compileTemplates(check)
	if given := e.Credentials(); len(given) > 1 {
		check.Add(given[1], "%s says already who calls; keep one of them", given[0])
	}
	if e.Auth.Basic.Password.IsSet() && e.Auth.Basic.Username == "" {
		check.Add("auth.basic.username", "is missing")
	}
	if strings.Contains(e.Auth.Basic.Username, ":") {
		check.Add("auth.basic.username", "must not have a colon")
	}
	if e.Signing.Scheme != "" && e.Signing.Scheme != "standard" {
		check.Add("signing.scheme", "must be standard")
	}
	if (e.Signing.Scheme != "") != e.Signing.Secret.IsSet() {
		check.Add("signing", "needs both a scheme and a secret")
	}
	if _, err := shape.Key(e.Signing.Secret.Reveal()); err != nil {
		check.Add("signing.secret", "%v", err)
	}
	e.Retry.validate(check.In("retry"))
	e.Breaker.validate(check.In("breaker"))
}

// Credentials lists the settings that fill in the header Authorization.
func (e *Endpoint) Credentials() []string {
	var given []string
	if e.URL.URL != nil && e.URL.User != nil {
		given = append(given, "url")
	}
	if e.Auth.Basic.Username != "" {
		given = append(given, "auth.basic")
	}
	for name := range e.Headers {
		if strings.EqualFold(name, "Authorization") {
			given = append(given, "headers."+name)
		}
	}
	return given
}

// reserved are the headers that the config can not set.
var reserved = []string{
	"Content-Length", "Host", "Transfer-Encoding", "Connection", "Trailer", "Upgrade",
	"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature",
}

func isReserved(name string) bool {
	name = http.CanonicalHeaderKey(name)
	return slices.Contains(reserved, name) || strings.HasPrefix(name, "X-Cmstap-")
}

func validateHeader(check setting.Check, name, value string) {
	switch {
	case textproto.TrimString(name) != name || !validToken(name):
		check.Add(name, "is not a valid header name")
	case isReserved(name):
		check.Add(name, "is set by cmstap and can not be given")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
		check.Add(name, "the value must be printable ASCII on one line")
	}
}

// validToken tells whether a text is a token by RFC 9110 section 5.6.2.
func validToken(text string) bool {
	const marks = "!#$%&'*+-.^_`|~"
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(marks, r)
	})
}
