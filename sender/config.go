package sender

import (
	"crypto/tls"
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
	TLS     setting.ClientTLS       `yaml:"tls"`
	// Proxy is an HTTP proxy that makes the calls. Which addresses it calls is up
	// to it.
	Proxy setting.URL `yaml:"proxy"`
	// Imported says that the definition was taken from elsewhere, so that its
	// address is judged (Egress).
	Imported bool `yaml:"imported"`

	Retry   Retry            `yaml:"retry"`
	Breaker Breaker          `yaml:"breaker"`
	Rate    Rate             `yaml:"rate"`
	Timeout setting.Duration `yaml:"timeout"`
	// Concurrency is how many calls may run at a time.
	Concurrency int `yaml:"concurrency"`

	headers map[string]shape.Template // those that have values of the event

	// Egress is the config's, for all webhooks.
	Egress Egress `yaml:"-"`

	tls *tls.Config
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
	e.validateAuth(check)
	e.validateEgress(check)
	e.Signing.validate(check.In("signing"))
	e.Retry.validate(check.In("retry"))
	e.Breaker.validate(check.In("breaker"))
}

// reserved are the headers that the config can not set.
var reserved = []string{
	"Content-Length", "Host", "Transfer-Encoding", "Connection", "Trailer", "Upgrade",
	"Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection",
	"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature",
	"X-Contentful-Signature", "X-Contentful-Signed-Headers", "X-Contentful-Timestamp", "X-Hub-Signature-256",
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
