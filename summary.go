package main

import (
	"fmt"
	"io"
	"strings"

	"cmstap/internal/setting"
)

// summarize says in short what run would do. It shows no secret and, of
// addresses, no more than the host: paths and queries may be secret.
func (c *Config) summarize(file string, out io.Writer) error {
	upstream := c.Proxy.Upstream
	lines := []string{
		fmt.Sprintf("cmstap %s, %s: run would accept it", version, file),
		fmt.Sprintf("proxy      %s%s -> %s://%s", c.Proxy.Listen, either(c.Proxy.TLS.Cert != "", " (TLS)", ""), upstream.Scheme, upstream.Host),
		fmt.Sprintf("dialect    %s: %d topics", c.dialect.Name, len(c.dialect.Topics())),
		fmt.Sprintf("durability %s; sync %v", c.Proxy.Durability, c.Outbox.Sync),
		fmt.Sprintf("outbox     %s: at most %v and %d open writes; keeps what was delivered for %v, what failed for %v",
			c.Outbox.Path, c.Outbox.MaxSize, c.Outbox.MaxOpen, c.Outbox.Retention.Delivered, c.Outbox.Retention.Failed),
		"recovery   " + either(c.Recovery.Token.IsSet(), "with a token", "no token: what is in doubt after a restart goes out unconfirmed"),
		fmt.Sprintf("aliases    %d configured; others are learned", countAliases(c.Aliases)),
		fmt.Sprintf("admin      %s", either(c.Admin.Listen != "", c.Admin.Listen, "none")),
		fmt.Sprintf("log        %s, level %s, to %s", c.Log.Format, c.Log.Level, either(c.Log.File != "", c.Log.File, "standard error")),
	}
	for i := range c.Webhooks {
		lines = append(lines, "webhook    "+c.Webhooks[i].summary())
	}
	if len(c.Webhooks) == 0 {
		lines = append(lines, "webhook    none: nobody is called")
	}
	lines = append(lines, "not seen   "+notSeen(upstream))
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

func (w *Webhook) summary() string {
	return fmt.Sprintf("%s -> %s: %s; %s; %s; %v; %s", w.Name, either(w.TemplatedHost(), "a host that a template makes", w.URL.Host), strings.Join(w.Topics, ", "),
		either(len(w.Environments) > 0, "in "+strings.Join(w.Environments, ", "), "in every environment"),
		either(w.Filter != "", "filtered", "no filter"), w.Retry, either(w.Signing.Scheme != "", "signed", "not signed"))
}

func countAliases(aliases map[string]map[string]string) int {
	count := 0
	for _, ofSpace := range aliases {
		count += len(ofSpace)
	}
	return count
}

// hosted are the domains of systems whose web app does not come through here.
var hosted = []string{"contentful.com", "datocms.com", "contentstack.io", "contentstack.com"}

// notSeen says what goes past cmstap.
func notSeen(upstream setting.URL) string {
	if hasDomain(upstream.Hostname(), hosted...) {
		return "changes in the vendor's own web app; what schedules do later; clients that call the CMS directly"
	}
	return "clients that call the CMS directly; what schedules do later; changes in the CMS's database"
}

// either is yes or no, by a condition.
func either[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}
