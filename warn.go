package main

import (
	"fmt"
	"slices"
	"strings"

	"cmstap/internal/setting"
	"cmstap/rules"
)

// warn reports what run accepts, but what is hardly meant. Each package knows
// that of its settings; here is what concerns several.
func (c *Config) warn(check setting.Check) {
	c.warnUpstream(check)
	if c.Proxy.Durability == "best_effort" {
		check.Warn("proxy.durability", "a write that can not be recorded passes, and its event is lost; required answers 503 before the CMS sees it")
	}
	if !c.Outbox.Sync {
		check.Warn("outbox.sync", "a power cut may lose the events of the last moments; leave it out to wait for the disk")
	}
	c.Proxy.Warn(check.In("proxy"))
	c.Outbox.Warn(check.In("outbox"))
	c.Admin.Warn(check.In("admin"))
	twins := map[string]string{}
	for i := range c.Webhooks {
		w, path := &c.Webhooks[i], fmt.Sprintf("webhooks[%d]", i)
		at := check.In(path)
		if c.dialect != nil {
			w.Subscription.Warn(at, c.dialect)
			w.warnHeaders(at.In("headers"), c.dialect)
		}
		w.Endpoint.Warn(at)
		if given := w.Credentials(); len(given) > 0 && w.URL.URL != nil && w.URL.Scheme == "http" && !isLocal(w.URL.Hostname()) {
			at.Warn("url", "http:// sends what %s says unencrypted; use https://", given[0])
		}
		if token := w.Auth.OAuth2.TokenURL; token.URL != nil && token.Scheme == "http" && !isLocal(token.Hostname()) {
			at.Warn("auth.oauth2.token_url", "http:// sends client_secret unencrypted; use https://")
		}
		if leadsTo(w.URL.URL, c.Proxy.Listen) {
			at.Warn("url", "leads to proxy.listen: cmstap would call itself, and the CMS with it; name the receiver's own address")
		}
		if twin, found := twins[w.wants()]; found {
			at.Warn("url", "gets the same events as %s under the same address: each comes twice; remove one of them", twin)
		}
		twins[w.wants()] = path
	}
}

func (c *Config) warnUpstream(check setting.Check) {
	upstream := c.Proxy.Upstream.URL
	if upstream == nil {
		return
	}
	if upstream.Scheme == "http" && !isLocal(upstream.Hostname()) {
		check.Warn("proxy.upstream", "http:// sends your clients' tokens to the CMS unencrypted; use https://")
	}
	if leadsTo(upstream, c.Proxy.Listen) {
		check.Warn("proxy.upstream", "leads to proxy.listen: cmstap would call itself; name the CMS's own address")
	}
}

// warnHeaders reports headers that take the place of the CMS's.
func (w *Webhook) warnHeaders(check setting.Check, dialect *rules.Dialect) {
	for name := range w.Headers {
		if dialect.Sends(name) {
			check.Warn(name, "the CMS's own webhooks have this header, and yours takes its place; give it another name")
		}
	}
}

// wants is how a webhook is called and for what, to compare. It holds secrets.
func (w *Webhook) wants() string {
	if w.URL.URL == nil {
		return w.Name
	}
	topics, environments := slices.Sorted(slices.Values(w.Topics)), slices.Sorted(slices.Values(w.Environments))
	var headers []string
	for name, value := range w.Headers {
		headers = append(headers, strings.ToLower(name)+": "+value.Reveal())
	}
	slices.Sort(headers)
	return fmt.Sprintf("%s %q %q %v %q %q %q %q %q %q %q %q %q", w.URL, w.Form.Method, w.Form.ContentType+w.Form.Payload, w.Form.Body, strings.ToLower(strings.Join(topics, " ")), environments, w.Filter,
		headers, w.Auth.Basic.Username, w.Auth.Basic.Password.Reveal(), w.Auth.Bearer.Reveal(), w.Auth.OAuth2.ClientID, w.Signing.Secret.Reveal())
}
