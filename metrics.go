package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"cmstap/event"
	"cmstap/outbox"
	"cmstap/sender"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics counts what the packages do, for Prometheus. docs/metrics.md lists all
// of it.
type metrics struct {
	registry *prometheus.Registry
	requests [event.Write + 1]prometheus.Counter // by class
	writes   *prometheus.CounterVec              // by outcome
	events   *prometheus.CounterVec              // by topic
	gaps     prometheus.Counter
	commits  prometheus.Histogram
	attempts *prometheus.CounterVec   // by webhook and result
	calls    *prometheus.HistogramVec // by webhook

	mu     sync.Mutex
	topics map[string]bool // that have a series of their own
}

// maxTopics bounds the series of events: what comes after so many topics counts
// as other.
const maxTopics = 100

// newMetrics returns counters that all begin at 0, also of what has not happened
// yet: else the first time would not be a change.
func newMetrics(webhooks []string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), topics: map[string]bool{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(vec)
		return vec
	}
	requests := counter("cmstap_requests_total", "Requests by class: pass, observe or write.", "class")
	for class := range m.requests {
		m.requests[class] = requests.WithLabelValues(event.Class(class).String())
	}
	m.writes = counter("cmstap_writes_total", "Forwarded writes by outcome: done, refused, not_sent, cut or unknown.", "outcome")
	for outcome := event.Unknown; outcome <= event.Done; outcome++ {
		m.writes.WithLabelValues(outcome.String())
	}
	m.events = counter("cmstap_events_total", "Events that were stored, by topic.", "topic")
	m.gaps = counter("cmstap_gaps_total", "Writes that may have no event.").WithLabelValues()
	m.attempts = counter("cmstap_attempts_total", "Attempts of deliveries by webhook and result: delivered, retrying or failed.", "webhook", "result")
	m.commits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cmstap_commit_duration_seconds", Help: "How long it took to store the events of a write.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
	})
	m.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cmstap_attempt_duration_seconds", Help: "How long calls took, by webhook, until the head of the answer came.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"webhook"})
	for _, webhook := range webhooks {
		for result := event.Delivered; result <= event.GiveUp; result++ {
			m.attempts.WithLabelValues(webhook, result.String())
		}
		m.calls.WithLabelValues(webhook)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cmstap_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.commits, m.calls, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler answers with all of it.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// request counts a request once its class is known.
func (m *metrics) request(p event.Plan) {
	if !p.Body {
		m.requests[p.Class].Inc()
	}
}

// event counts a stored event.
func (m *metrics) event(topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.topics[topic] && len(m.topics) >= maxTopics {
		topic = "other"
	} else {
		m.topics[topic] = true
	}
	m.events.WithLabelValues(topic).Inc()
}

// committed takes in how long a commit took.
func (m *metrics) committed(start time.Time) { m.commits.Observe(time.Since(start).Seconds()) }

// countedStore is the outbox as the sender sees it, with settled attempts
// counted.
type countedStore struct {
	*outbox.Outbox
	metrics *metrics
	recent  *recent
}

// SettleAll implements sender.Store.
func (s countedStore) SettleAll(ctx context.Context, deliveries []event.Delivery, end event.Settlement) error {
	err := s.Outbox.SettleAll(ctx, deliveries, end)
	if err == nil {
		webhook := deliveries[0].Webhook
		s.metrics.attempts.WithLabelValues(webhook, end.Result.String()).Add(float64(len(deliveries)))
		s.recent.add(webhook, end.Result)
		s.metrics.calls.WithLabelValues(webhook).Observe(end.Attempt.Duration.Seconds())
	}
	return err
}

// gauges are what is read when somebody asks.
type gauges struct {
	outbox *outbox.Outbox
	sender *sender.Sender
}

var (
	openWrites    = prometheus.NewDesc("cmstap_open_writes", "Writes whose outcome is not known or not stored yet.", nil, nil)
	outboxBytes   = prometheus.NewDesc("cmstap_outbox_bytes", "Size of the outbox's tables on disk.", nil, nil)
	waiting       = prometheus.NewDesc("cmstap_deliveries_waiting", "Deliveries without a result, by webhook.", []string{"webhook"}, nil)
	oldestWaiting = prometheus.NewDesc("cmstap_deliveries_oldest_waiting_seconds", "Age of the event that has waited longest, by webhook; 0 if nothing waits.", []string{"webhook"}, nil)
	deadLetters   = prometheus.NewDesc("cmstap_deliveries_dead", "Deliveries that were given up and are still kept, by webhook.", []string{"webhook"}, nil)
	pausedWebhook = prometheus.NewDesc("cmstap_webhook_paused", "1 if an operator paused the webhook.", []string{"webhook"}, nil)
	breakerState  = prometheus.NewDesc("cmstap_breaker_state", "1 for the state that a webhook's breaker is in: closed, open or half_open.", []string{"webhook", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (gauges) Describe(into chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{openWrites, outboxBytes, waiting, oldestWaiting, deadLetters, pausedWebhook, breakerState} {
		into <- desc
	}
}

// Collect implements prometheus.Collector. What can not be read is left out.
func (g gauges) Collect(into chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(openWrites, float64(g.outbox.Open()))
	gauge(outboxBytes, float64(g.outbox.Bytes()))
	backlogs, _ := g.outbox.Backlogs() // the log says why
	for _, b := range backlogs {
		age := 0.0
		if !b.Oldest.IsZero() {
			age = max(time.Since(b.Oldest).Seconds(), 0)
		}
		gauge(waiting, float64(b.Waiting), b.Webhook)
		gauge(oldestWaiting, age, b.Webhook)
		gauge(deadLetters, float64(b.Dead), b.Webhook)
		paused := 0.0
		if b.Paused {
			paused = 1
		}
		gauge(pausedWebhook, paused, b.Webhook)
	}
	for webhook, is := range g.sender.Breakers() {
		for _, state := range sender.BreakerStates {
			value := 0.0
			if state == is {
				value = 1
			}
			gauge(breakerState, value, webhook, state)
		}
	}
}
