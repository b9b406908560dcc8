package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cmstap/admin"
	"cmstap/internal/resolve"
	"cmstap/outbox"
	"cmstap/proxy"
	"cmstap/rules"
	"cmstap/sender"
)

// stepGrace is how long a step of a shutdown may take. Requests in flight have
// it to end; with the sender's grace a stop takes less than ten seconds.
const stepGrace = 5 * time.Second

// app is all of cmstap, wired.
type app struct {
	log      *slog.Logger
	outbox   *outbox.Outbox
	tap      *tap
	resolver *resolve.Resolver
	sender   *sender.Sender
	proxy    *proxy.Proxy
	admin    *admin.Admin
	ready    atomic.Bool
}

// newApp opens the store and takes the ports: all that can fail. It is long
// because it is the one place where the packages meet.
func newApp(c *Config, log *slog.Logger) (*app, error) {
	a := &app{log: log}
	names := make([]string, len(c.Webhooks))
	endpoints := make([]sender.Webhook, len(c.Webhooks))
	store := c.Outbox
	store.Queues = map[string]outbox.Queue{}
	for i, w := range c.Webhooks {
		names[i] = w.Name
		store.Queues[w.Name] = w.Queue
		endpoints[i] = sender.Webhook{Name: w.Name, Endpoint: w.Endpoint, Bundled: w.Batch != nil}
	}
	var err error
	if a.outbox, err = outbox.Open(store, names, log); err != nil {
		return nil, err
	}
	a.tap = &tap{
		rules: rules.New(c.dialect, c.subscribers()).Truncating(int(c.Outbox.MaxPayload)), outbox: a.outbox, log: log,
		metrics: newMetrics(names), bestEffort: c.Proxy.Durability == "best_effort", lookup: c.Lookup != "off",
	}
	a.tap.token = a.tap.rules.Credentials(c.Recovery.Token.Reveal())
	a.resolver = resolve.New(c.Recovery, a.tap, log)
	a.tap.resolver = a.resolver
	select {
	case <-a.outbox.Ready(): // before the first request comes
		a.adoptOrphans(context.Background())
	default:
	}
	last := &recent{by: map[string][]string{}}
	a.sender = sender.New(endpoints, countedStore{a.outbox, a.tap.metrics, last}, log)
	a.tap.metrics.registry.MustRegister(gauges{a.outbox, a.sender})
	c.Proxy.MaxCopy = int(c.Outbox.MaxPayload) + 1<<20 // an answer may wrap the entity
	a.proxy = proxy.New(c.Proxy, a.tap, log)
	a.tap.fetch = a.proxy.Fetch
	operations := &operations{a.outbox, c, a.tap, a.sender, last, log}
	if a.admin, err = admin.New(c.Admin, admin.Parts{
		Ready: a.ready.Load, Store: operations, Operator: operations, Metrics: a.tap.metrics.handler(),
	}); err != nil {
		return nil, errors.Join(err, a.outbox.Close())
	}
	if err = a.proxy.Listen(); err != nil {
		return nil, errors.Join(err, a.admin.Close(), a.outbox.Close())
	}
	return a, nil
}

// stop is one step of a shutdown.
type stop struct {
	name string
	do   func(context.Context) error
}

// run serves until ctx ends or a listener fails, and stops in reverse order.
func (a *app) run(ctx context.Context) error {
	failed := make(chan error, 2)
	var running sync.WaitGroup
	background := func(run func(context.Context)) func(context.Context) error {
		own, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); run(own) }()
		return func(context.Context) error { cancel(); <-done; return nil }
	}
	serve := func(name string, do func() error) {
		running.Go(func() {
			if err := do(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	stops := []stop{{"outbox", a.closeOutbox}}
	stops = append(stops,
		stop{"sender", background(a.sender.Run)},
		stop{"resolver", background(a.resolver.Run)},
		stop{"orphans", background(a.adoptOrphans)},
		stop{"admin", func(context.Context) error { return a.admin.Close() }},
		stop{"proxy", a.proxy.Shutdown},
	)
	serve("admin", a.admin.Serve)
	serve("proxy", a.proxy.Serve)
	a.ready.Store(true)
	a.log.Info("started", "version", version, "listen", a.proxy.Addr(), "admin", a.admin.Addr())

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.ready.Store(false)
	err = errors.Join(err, a.stopAll(stops))
	running.Wait()
	return err
}

// adoptOrphans gives the resolver what an earlier process left, once the store
// is open: on a full disk that is later.
func (a *app) adoptOrphans(ctx context.Context) {
	select {
	case <-a.outbox.Ready():
		a.resolver.AddOrphans(a.outbox.Orphans(), time.Now().UTC())
	case <-ctx.Done():
	}
}

// closeOutbox says what the next start will go on with.
func (a *app) closeOutbox(context.Context) error {
	deliveries, writes, err := a.outbox.Waiting()
	if err == nil {
		a.log.Info("waiting", "deliveries", deliveries, "writes", writes)
	} else if errors.Is(err, outbox.ErrNoSpace) { // it was never open
		err = nil
	}
	return errors.Join(err, a.outbox.Close())
}

// stopAll runs the steps last in, first out, each in its own time. One that
// fails does not keep the others from running.
func (a *app) stopAll(stops []stop) error {
	var errs error
	for i := len(stops) - 1; i >= 0; i-- {
		ctx, cancel := context.WithTimeout(context.Background(), stepGrace)
		if err := stops[i].do(ctx); err != nil {
			errs = errors.Join(errs, fmt.Errorf("stopping the %s: %w", stops[i].name, err))
		}
		cancel()
	}
	if errs == nil {
		a.log.Info("stopped")
	}
	return errs
}
