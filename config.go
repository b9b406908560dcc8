package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cmstap/admin"
	"cmstap/event"
	"cmstap/internal/resolve"
	"cmstap/internal/setting"
	"cmstap/outbox"
	"cmstap/proxy"
	"cmstap/rules"
	"cmstap/sender"
)

// Config is the whole config file. Each package owns its part.
type Config struct {
	Proxy    proxy.Config   `yaml:"proxy"`
	Recovery resolve.Config `yaml:"recovery"`
	Outbox   outbox.Config  `yaml:"outbox"`
	// Aliases tells what environment aliases lead to, by space and alias, until
	// the CMS's answers tell otherwise.
	Aliases map[string]map[string]string `yaml:"aliases"`
	// Lookup is whether an entity is read before it is written, where something
	// depends on what it was and that is not kept: needed or off.
	Lookup   string        `yaml:"lookup"`
	Egress   sender.Egress `yaml:"egress"`
	Webhooks []Webhook     `yaml:"webhooks"`
	Admin    admin.Config  `yaml:"admin"`
	Log      LogConfig     `yaml:"log"`

	dialect  *rules.Dialect
	warnings setting.Problems // what is allowed, but hardly meant
}

// Webhook is one webhook: which events it wants, and how it is called.
type Webhook struct {
	Name               string `yaml:"name"`
	rules.Subscription `yaml:",inline"`
	sender.Endpoint    `yaml:",inline"`
	outbox.Queue       `yaml:",inline"`
}

// LogConfig is the part log of the config file.
type LogConfig struct {
	Format string `yaml:"format"` // text (logfmt) or json
	Level  string `yaml:"level"`  // debug, info, warn or error
	File   string `yaml:"file"`   // empty: standard error
}

// concise is the dialect whose payloads have a short form.
const concise = "contentstack-concise"

// maxWebhooks bounds the goroutines and the size of a commit, and maxConfig, in
// bytes, what reading a file takes.
const (
	maxWebhooks = 1000
	maxConfig   = 4 << 20
)

// AtMost is how many webhooks a file may have.
func (Webhook) AtMost() int { return maxWebhooks }

func defaultConfig() *Config {
	return &Config{
		Proxy: proxy.DefaultConfig(), Recovery: resolve.DefaultConfig(), Outbox: outbox.DefaultConfig(), Admin: admin.DefaultConfig(),
		Lookup: "needed", Log: LogConfig{Format: "text", Level: "info"},
	}
}

// loadConfig reads and checks the config file; flags win over it. The error
// lists every mistake, also those that more checks find.
func loadConfig(file string, flags *runCommand, more ...func(*Config, setting.Check)) (*Config, error) {
	if file == "" {
		return nil, errors.New("name the config file: -c cmstap.yaml")
	}
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("the config can not be read: %w", err)
	}
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s: the file is larger than %d MiB, which is room for %d webhooks, and there can be no more", file, maxConfig>>20, maxWebhooks)
	}
	return parseConfig(file, text, flags, more...)
}

// readFile reads a little more than a config may have.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxConfig+1))
}

func parseConfig(file string, text []byte, flags *runCommand, more ...func(*Config, setting.Check)) (*Config, error) {
	c := defaultConfig()
	err := setting.Decode(file, text, c, func(check setting.Check) {
		c.override(flags, check)
		c.validate(check)
		c.warn(check)
		for _, also := range more {
			also(c, check)
		}
		c.warnings = check.Warnings()
	})
	return c, err
}

func (c *Config) override(flags *runCommand, check setting.Check) {
	if flags.Listen != "" {
		c.Proxy.Listen = flags.Listen
	}
	if flags.Data != "" {
		c.Outbox.Path = flags.Data
	}
	if flags.Upstream != "" {
		if err := c.Proxy.Upstream.UnmarshalText([]byte(flags.Upstream)); err != nil {
			check.Add("proxy.upstream", "--upstream: %v", err)
		}
	}
}

func (c *Config) validate(check setting.Check) {
	c.Proxy.Validate(check.In("proxy"))
	c.Recovery.Validate(check.In("recovery"))
	c.Outbox.Validate(check.In("outbox"))
	c.Outbox.Links = c.links(check.In("aliases"))
	c.Admin.Validate(check.In("admin"))
	if sameListener(c.Proxy.Listen, c.Admin.Listen) {
		check.Add("admin.listen", "the port is that of proxy.listen; give it another one")
	}
	if c.Lookup != "needed" && c.Lookup != "off" {
		check.Add("lookup", "must be needed or off")
	}
	c.Log.validate(check.In("log"))
	check.File("proxy.dialect", c.Proxy.Dialect)
	var err error
	if c.dialect, err = rules.LoadDialect(c.Proxy.Dialect); err != nil {
		check.Add("proxy.dialect", "%v", err)
	} else if c.Proxy.Host == "" {
		c.Proxy.Host = c.dialect.Host
	}
	c.validateWebhooks(check)
}

// links are the aliases of the config.
func (c *Config) links(check setting.Check) event.Links {
	var links event.Links
	for space, aliases := range c.Aliases {
		for alias, target := range aliases {
			if target == "" || target == alias {
				check.Add(space+"."+alias, "name the environment that the alias leads to")
			}
			links = links.With([]event.Link{{Space: space, Alias: alias, Target: target}})
		}
	}
	return links
}

func (c *Config) validateWebhooks(check setting.Check) {
	first := map[string]int{}
	for i := range c.Webhooks {
		w, at := &c.Webhooks[i], check.In(fmt.Sprintf("webhooks[%d]", i))
		other, taken := first[w.Name]
		switch {
		case w.Name == "":
			at.Add("name", "give the webhook a name; the log and the outbox know it by that")
		case w.Name == "." || w.Name == "..":
			at.Add("name", "%q means a folder in addresses; give the webhook another name", w.Name)
		case strings.ContainsFunc(w.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(w.Name) > 100:
			at.Add("name", "must be at most 100 bytes without control characters")
		case taken:
			at.Add("name", "the name %q is taken by webhooks[%d]", w.Name, other)
		default:
			first[w.Name] = i
		}
		w.Subscription.Validate(at)
		w.Egress = c.Egress
		w.Endpoint.Validate(at)
		w.Queue.Validate(at)
		if w.WantsConcise() && c.dialect != nil && c.dialect.Name != concise {
			at.Add("payload", "only the dialect %s has a concise form, and it is for all webhooks: set proxy.dialect, and leave payload out", concise)
		}
		if w.Batch != nil {
			w.ValidateBundled(at)
			if w.Skips() {
				at.Add("superseded", "a batch is one call already, and one that failed comes again as it was: leave it out")
			}
		}
		if w.Skips() && c.dialect != nil && strings.HasPrefix(c.dialect.Name, "contentstack") {
			at.Add("superseded", "events of Contentstack name their locale in the payload only, so what looks superseded may be of another locale; leave it out")
		}
	}
}

// subscribers are the webhooks as rules know them.
func (c *Config) subscribers() []rules.Webhook {
	subscribers := make([]rules.Webhook, len(c.Webhooks))
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		subscribers[i] = rules.Webhook{Name: w.Name, Subscription: w.Subscription, Reads: w.Reads}
		if w.Batch != nil {
			subscribers[i].Reads = w.ReadsBundled
		}
	}
	return subscribers
}

func (c *LogConfig) validate(check setting.Check) {
	check.File("file", c.File)
	if c.Format != "text" && c.Format != "json" {
		check.Add("format", "must be text or json")
	}
	if _, known := levels[c.Level]; !known {
		check.Add("level", "must be debug, info, warn or error")
	}
}
