package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"cmstap/admin"
	"cmstap/internal/setting"
	"cmstap/outbox"
	"cmstap/sender"
)

// needRestart are the parts of a config that are read at a start only, as far as the keys
// go that they name; lively are the exceptions.
var (
	needRestart = []string{"proxy", "recovery", "outbox", "aliases", "admin", "log"}
	lively      = []string{"proxy.dialect", "log.level"}
)

// Reload implements admin.Control.
func (a *app) Reload() (admin.Reloaded, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	config, err := a.load()
	if err == nil {
		err = a.replaceable(config)
	}
	var done admin.Reloaded
	if err == nil {
		done, err = a.replace(config)
	}
	a.tap.metrics.reloaded(err)
	if err != nil {
		a.log.Error("reload", "error", err, "hint", "nothing was changed; the config stays in force as it was")
		return done, err
	}
	config.sayWarnings(a.log)
	a.log.Info("reloaded", "webhooks", done.Webhooks, "changed", len(done.Changed))
	return done, nil
}

// replaceable names what can not be changed while cmstap runs.
func (a *app) replaceable(c *Config) error {
	var names []string
	for _, path := range setting.Changed(a.config.Load(), c) {
		if isAt(path, needRestart) && !isAt(path, lively) {
			names = append(names, path)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("%s can be changed by a restart only", strings.Join(names, ", "))
	}
	if names = a.outbox.Unlike(c.queues()); len(names) > 0 {
		return fmt.Errorf("order, superseded and batch of the webhook %s can be changed by a restart only", strings.Join(names, ", "))
	}
	return nil
}

// isAt tells whether a path is one of others, or below one.
func isAt(path string, others []string) bool {
	for _, other := range others {
		if rest, found := strings.CutPrefix(path, other); found && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// replace puts a config in force, however long the disk takes: half of it is never in
// force. The store comes first: what follows may ask it for any webhook. What waits is
// sent with the new settings.
func (a *app) replace(c *Config) (admin.Reloaded, error) {
	if err := a.outbox.Replace(c.queues()); err != nil {
		return admin.Reloaded{}, fmt.Errorf("the webhooks can not be stored: %w", err)
	}
	a.tap.metrics.begin(c.names())
	a.tap.ruling.Store(newRuling(c))
	a.sender.Replace(c.endpoints())
	a.level.Set(levels[c.Log.Level])
	done := admin.Reloaded{Webhooks: len(c.Webhooks), Changed: setting.Changed(a.config.Load(), c)}
	a.config.Store(c)
	return done, nil
}

func (c *Config) sayWarnings(log *slog.Logger) {
	for _, w := range c.warnings {
		log.Warn("config", "file", w.File, "line", w.Line, "setting", w.Path, "hint", w.Text)
	}
}

// Settings implements admin.Control.
func (a *app) Settings() []setting.Shown { return setting.Show(a.config.Load()) }

// Level implements admin.Control.
func (a *app) Level() string { return strings.ToLower(a.level.Level().String()) }

// SetLevel implements admin.Control.
func (a *app) SetLevel(name string) bool {
	level, known := levels[name]
	if known {
		a.level.Set(level)
		a.log.Log(context.Background(), level, "level", "level", name)
	}
	return known
}

// names are the webhooks' names.
func (c *Config) names() []string {
	names := make([]string, len(c.Webhooks))
	for i, w := range c.Webhooks {
		names[i] = w.Name
	}
	return names
}

// queues are the webhooks as the outbox knows them.
func (c *Config) queues() map[string]outbox.Queue {
	queues := map[string]outbox.Queue{}
	for _, w := range c.Webhooks {
		queues[w.Name] = w.Queue
	}
	return queues
}

// endpoints are the webhooks as the sender knows them.
func (c *Config) endpoints() []sender.Webhook {
	endpoints := make([]sender.Webhook, len(c.Webhooks))
	for i, w := range c.Webhooks {
		endpoints[i] = sender.Webhook{Name: w.Name, Endpoint: w.Endpoint, Bundled: w.Batch != nil}
	}
	return endpoints
}

type reloadCommand struct {
	window `embed:""`
}

// run has the cmstap that runs read its config file again.
func (c *reloadCommand) run(ctx context.Context, out io.Writer) error {
	var done admin.Reloaded
	if err := c.do(ctx, http.MethodPost, "/api/reload", nil, &done); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(out, done)
	}
	fmt.Fprintf(out, "webhooks in force: %d\n", done.Webhooks)
	for _, path := range done.Changed {
		fmt.Fprintf(out, "changed: %s\n", printable(path))
	}
	return nil
}
