package sender

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmstap/internal/setting"
	"cmstap/sender/shape"
)

// Endpoint is the part of a webhook's settings that says how it is called.
type Endpoint struct {
	URL     setting.URL             `yaml:"url"`
	Headers map[string]setting.Text `yaml:"headers"`
	Auth    Auth                    `yaml:"auth"`
	Signing Signing                 `yaml:"signing"`
	Retry   Retry                   `yaml:"retry"`
	Timeout setting.Duration        `yaml:"timeout"`
	// Concurrency is how many calls may run at a time.
	Concurrency int `yaml:"concurrency"`
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

// Retry says when a failed call is made again.
type Retry struct {
	// Delays are the waits before the second, third, ... attempt.
	Delays []setting.Duration `yaml:"delays"`
	// On lists what is retried: timeout, connection, a status (429), a class
	// (5xx). Other failures are final.
	On []string `yaml:"on"`
}

// standardDelays make 8 attempts over 27 h 35 min; the schedule is Svix's.
var standardDelays = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
}

const maxDelay = 30 * 24 * time.Hour

// everyFailure retries all that may succeed later. 410 means that the receiver
// is gone for good.
var everyFailure = []string{"timeout", "connection", "3xx", "4xx", "5xx"}

// UnmarshalText reads the name of a preset.
func (r *Retry) UnmarshalText(text []byte) error {
	if string(text) != "standard" {
		return fmt.Errorf("want standard, or { delays: [5s, 1m, 10m], on: [timeout, connection, 429, 5xx] }, not %q", text)
	}
	*r = standardRetry()
	return nil
}

func standardRetry() Retry {
	r := Retry{On: everyFailure}
	for _, delay := range standardDelays {
		r.Delays = append(r.Delays, setting.Duration(delay))
	}
	return r
}

// SetDefaults fills in what a webhook that says nothing gets.
func (e *Endpoint) SetDefaults() {
	e.Retry = standardRetry()
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

func (r *Retry) validate(check setting.Check) {
	if len(r.On) == 0 && len(r.Delays) > 0 {
		check.Add("on", "names nothing; list what is retried, or give delays: [] for no second attempt")
	}
	if len(r.Delays) > 100 {
		check.Add("delays", "at most 100")
	}
	for i, delay := range r.Delays {
		if delay.Std() > maxDelay {
			check.Add(fmt.Sprintf("delays[%d]", i), "at most %v", setting.Duration(maxDelay))
		}
	}
	for i, class := range r.On {
		if !validClass(class) {
			check.Add(fmt.Sprintf("on[%d]", i), "want timeout, connection, a status such as 429 or a class such as 5xx, not %q", class)
		}
	}
}

func validClass(class string) bool {
	switch class {
	case "timeout", "connection", "3xx", "4xx", "5xx":
		return true
	}
	status, err := strconv.Atoi(class)
	return err == nil && status >= 300 && status <= 599
}
