// Package sender calls the webhooks: next, shape, send, judge, settle. Each
// webhook has its own goroutines and connections, so that one that hangs costs
// the others nothing.
package sender

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Webhook is what the sender knows of a webhook.
type Webhook struct {
	Name     string   `yaml:"name"`
	Endpoint Endpoint `yaml:",inline"`
	// Bundled says that what the store hands out at a time goes in one call.
	Bundled bool `yaml:"bundled"`
}

// isLike tells whether two webhooks have the same settings. Files of certificates
// may have others in them by now.
func (w Webhook) isLike(other Webhook) bool {
	a, b := w.Endpoint, other.Endpoint
	return a.TLS == setting.ClientTLS{} && len(setting.Changed(w, other)) == 0 && len(setting.Changed(a.Egress, b.Egress)) == 0
}

// Store is the outbox as the sender sees it; the outbox's package comment says
// what its methods promise.
type Store interface {
	Next(ctx context.Context, webhook string, limit int) ([]event.Delivery, error)
	SettleAll(ctx context.Context, deliveries []event.Delivery, s event.Settlement) error
	Release(d event.Delivery)
}

// Sender calls the webhooks of a config.
type Sender struct {
	store Store
	log   *slog.Logger

	mu      sync.Mutex
	lines   map[string]*line
	begin   func(*line) // set while Run runs
	running sync.WaitGroup
}

// New returns a sender for webhooks whose endpoints have been validated.
func New(webhooks []Webhook, store Store, log *slog.Logger) *Sender {
	s := &Sender{store: store, log: log}
	s.Replace(webhooks)
	return s
}

// Replace goes on with other webhooks. One whose settings did not change is left
// alone; of the others the calls in flight end as they began.
func (s *Sender) Replace(webhooks []Webhook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make(map[string]*line, len(webhooks))
	for _, w := range webhooks {
		l := s.lines[w.Name]
		if l != nil && l.webhook.isLike(w) {
			delete(s.lines, w.Name)
		} else {
			l = newLine(w, s.store, s.log)
		}
		lines[w.Name] = l
	}
	for name, old := range s.lines {
		if old.stop != nil {
			old.stop()
		}
		if l := lines[name]; l != nil {
			l.follow(old)
		}
	}
	s.lines = lines
	for _, l := range s.lines {
		if s.begin != nil && l.stop == nil {
			s.begin(l)
		}
	}
}

// stopGrace is how long calls in flight may go on after a stop.
const stopGrace = 3 * time.Second

// Run delivers until ctx ends. Then it claims nothing more, waits a little for
// the calls in flight, and returns.
func (s *Sender) Run(ctx context.Context) {
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	s.mu.Lock()
	s.begin = func(l *line) {
		claiming, stop := context.WithCancel(ctx)
		l.stop = stop
		s.running.Go(func() { l.run(claiming, calls) })
	}
	for _, l := range s.lines {
		s.begin(l)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.begin = nil
	s.mu.Unlock()
	s.running.Wait()
}
