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

	level     *slog.LevelVar
	load      func() (*Config, error)
	config    atomic.Pointer[Config] // the one in force
	reloading sync.Mutex
}

// newApp opens the store and takes the ports: all that can fail. It is long
// because it is the one place where the packages meet. load reads the config again.
func newApp(c *Config, log *appLog, load func() (*Config, error)) (*app, error) {
	a := &app{log: log.logger, level: &log.level, load: load}
	a.config.Store(c)
	store := c.Outbox
	store.Queues = c.queues()
	var err error
	if a.outbox, err = outbox.Open(store, c.names(), a.log); err != nil {
		return nil, err
	}
	a.tap = &tap{outbox: a.outbox, log: a.log, metrics: newMetrics(), bestEffort: c.Proxy.Durability == "best_effort"}
	a.tap.metrics.begin(c.names())
	a.tap.ruling.Store(newRuling(c))
	a.resolver = resolve.New(c.Recovery, a.tap, a.log)
	a.tap.resolver = a.resolver
	select {
	case <-a.outbox.Ready(): // before the first request comes
		a.adoptOrphans(context.Background())
	default:
	}
	last := &recent{by: map[string][]string{}}
	a.sender = sender.New(c.endpoints(), countedStore{a.outbox, a.tap.metrics, last}, a.log)
	a.tap.metrics.registry.MustRegister(gauges{a.outbox, a.sender})
	front := c.Proxy
	front.MaxCopy = int(c.Outbox.MaxPayload) + 1<<20 // an answer may wrap the entity
	a.proxy = proxy.New(front, a.tap, a.log)
	a.tap.fetch = a.proxy.Fetch
	operations := &operations{Outbox: a.outbox, config: &a.config, tap: a.tap, sender: a.sender, recent: last, log: a.log}
	parts := admin.Parts{Ready: a.ready.Load, Store: operations, Operator: operations, Control: a, Metrics: a.tap.metrics.handler(), Log: a.log}
	if a.admin, err = admin.New(c.Admin, parts); err != nil {
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
		stop{"backlogs", background(a.sayBacklogs)},
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
