package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"cmstap/internal/setting"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// Auth is how cmstap names itself to the receiver. At most one is given.
type Auth struct {
	Basic  Basic          `yaml:"basic"`
	Bearer setting.Secret `yaml:"bearer"` // a token, RFC 6750 section 2.1
	OAuth2 OAuth2         `yaml:"oauth2"`
}

// Basic is HTTP basic authentication, RFC 7617.
type Basic struct {
	Username string         `yaml:"username"`
	Password setting.Secret `yaml:"password"`
}

// OAuth2 asks a token endpoint for a bearer token by client credentials, RFC
// 6749 section 4.4.
type OAuth2 struct {
	TokenURL     setting.URL    `yaml:"token_url"`
	ClientID     string         `yaml:"client_id"`
	ClientSecret setting.Secret `yaml:"client_secret"`
	Scopes       []string       `yaml:"scopes"`
}

func (o OAuth2) isSet() bool {
	return o.TokenURL.URL != nil || o.ClientID != "" || o.ClientSecret.IsSet() || len(o.Scopes) > 0
}

func (e *Endpoint) validateAuth(check setting.Check) {
	if given := e.Credentials(); len(given) > 1 {
		check.Add(given[1], "%s says already who calls; keep one of them", given[0])
	}
	basic, o := e.Auth.Basic, e.Auth.OAuth2
	if basic.Password.IsSet() && basic.Username == "" {
		check.Add("auth.basic.username", "is missing")
	}
	if strings.Contains(basic.Username, ":") {
		check.Add("auth.basic.username", "must not have a colon")
	}
	if strings.ContainsFunc(e.Auth.Bearer.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		check.Add("auth.bearer", "must be printable ASCII without spaces: the token alone, without the word Bearer")
	}
	if !o.isSet() {
		return
	}
	switch {
	case o.TokenURL.URL == nil:
		check.Add("auth.oauth2.token_url", "name the address that gives tokens, for example https://id.example.com/oauth2/token")
	case o.TokenURL.User != nil:
		check.Add("auth.oauth2.token_url", "must not have a user; give client_id and client_secret")
	}
	if o.ClientID == "" {
		check.Add("auth.oauth2.client_id", "is missing")
	}
	if !o.ClientSecret.IsSet() {
		check.Add("auth.oauth2.client_secret", "is missing")
	}
}

// Credentials lists the settings that fill in the header Authorization.
func (e *Endpoint) Credentials() []string {
	var given []string
	if e.URL.URL != nil && e.URL.User != nil {
		given = append(given, "url")
	}
	for _, way := range []struct {
		path string
		set  bool
	}{
		{"auth.basic", e.Auth.Basic.Username != ""}, {"auth.bearer", e.Auth.Bearer.IsSet()}, {"auth.oauth2", e.Auth.OAuth2.isSet()},
	} {
		if way.set {
			given = append(given, way.path)
		}
	}
	for name := range e.Headers {
		if strings.EqualFold(name, "Authorization") {
			given = append(given, "headers."+name)
		}
	}
	return given
}

// tokens are the OAuth2 tokens of one webhook. The last one is used until it
// expires or the receiver refuses it.
type tokens struct {
	config clientcredentials.Config
	client *http.Client
	turn   chan struct{} // one caller asks, the others wait for what it gets
	last   atomic.Pointer[oauth2.Token]
	hides  atomic.Pointer[redactor] // the last two
}

// newTokens returns nil if the webhook asks for none.
func newTokens(e *Endpoint) *tokens {
	o := e.Auth.OAuth2
	if o.TokenURL.URL == nil {
		return nil
	}
	transport := &http.Transport{
		DialContext: e.tokenGuard().dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	t := &tokens{
		config: clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret.Reveal(), TokenURL: o.TokenURL.String(), Scopes: o.Scopes},
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		turn:   make(chan struct{}, 1),
	}
	t.hides.Store(newRedactor(nil))
	return t
}

// tokenGuard is the one for the token endpoint, which no template makes.
func (e *Endpoint) tokenGuard() guard { return e.Egress.guard(e.Imported) }

var errNoToken = errors.New("no token (webhooks[].auth.oauth2)")

// get returns a token, but not the one that the receiver refused.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", errNoToken, ctx.Err())
	}
	defer func() { <-t.turn }()
	last := t.last.Load()
	if last.Valid() && last.AccessToken != refused {
		return last.AccessToken, nil
	}
	token, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) { // its text has the address
			err = of.Err
		}
		return "", fmt.Errorf("%w: %w", errNoToken, err)
	}
	secrets := []string{token.AccessToken}
	if last != nil {
		secrets = append(secrets, last.AccessToken) // a call with it may be under way
	}
	t.hides.Store(newRedactor(secrets))
	t.last.Store(token)
	return token.AccessToken, nil
}

// call makes one call. A token that the receiver refuses is renewed once.
func (l *line) call(ctx context.Context, request func(token string) *http.Request) (*http.Response, error) {
	if l.tokens == nil {
		return l.transport.RoundTrip(request(l.webhook.Endpoint.Auth.Bearer.Reveal()))
	}
	token, err := l.tokens.get(ctx, "")
	if err != nil {
		return nil, err
	}
	response, err := l.transport.RoundTrip(request(token))
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	response.Body.Close()
	if token, err = l.tokens.get(ctx, token); err != nil {
		return nil, err
	}
	return l.transport.RoundTrip(request(token))
}

func (l *line) closeIdle() {
	l.transport.CloseIdleConnections()
	if l.tokens != nil {
		l.tokens.client.CloseIdleConnections()
	}
}
