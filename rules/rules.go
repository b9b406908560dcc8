// Package rules decides: what a request means (Classify), which events an
// exchange makes (Derive), and which webhooks want an event (Match). What it
// knows of a CMS is data, a Dialect. It is pure: no I/O, no clock, no
// goroutine, and it keeps nothing between calls.
package rules

import (
	"cmstap/event"
	"cmstap/internal/expression"
)

// Rules are a dialect and the webhooks of a config. They never change and may
// be used from any goroutine.
type Rules struct {
	dialect  *Dialect
	webhooks []Webhook
	roots    map[string]bool // what the filters read
}

// Webhook is what rules know of a webhook.
type Webhook struct {
	Name         string
	Subscription Subscription
}

// New returns rules for a dialect and webhooks whose subscriptions have been
// validated.
func New(dialect *Dialect, webhooks []Webhook) *Rules {
	r := &Rules{dialect: dialect, webhooks: webhooks, roots: map[string]bool{}}
	for _, webhook := range webhooks {
		for _, root := range filterRoots {
			if filter := webhook.Subscription.filter; filter != nil && filter.Reads(root) {
				r.roots[root] = true
			}
		}
	}
	return r
}

// Classify decides from a request's head alone what it means. The plan of a
// write carries the intent, without id and time; links are what is known of
// aliases.
func (r *Rules) Classify(head event.Head, links event.Links) event.Plan {
	d := r.dialect
	route, params := d.find(head.Method, head.Path)
	if route == nil {
		return d.observation(head)
	}
	headers := d.headersOf(head.Headers)
	if d.skip != nil && d.skip.Run(d.headScope(params, headers)).True() {
		return event.Plan{}
	}
	return event.Plan{
		Class: event.Write, Judge: route, Credentials: d.Credentials,
		Intent: &event.Intent{
			Dialect: d.Name, Method: clone(head.Method), Path: clone(head.Path), Route: route.name, Headers: headers,
			Entity:      d.entityKey(route, params, headers, links),
			Traceparent: clone(head.Headers.Get("traceparent")), UserAgent: clone(head.Headers.Get("User-Agent")),
		},
	}
}

// observation is the plan for a request that changes nothing.
func (d *Dialect) observation(head event.Head) event.Plan {
	if !d.observes(head.Method, resolveDots(head.Path)) {
		return event.Plan{}
	}
	return event.Plan{
		Class: event.Observe, Judge: anySuccess{},
		Intent: &event.Intent{Dialect: d.Name, Method: clone(head.Method), Path: clone(head.Path)},
	}
}

// anySuccess is the judge of requests that are only observed.
type anySuccess struct{}

// Judge implements event.Judge.
func (anySuccess) Judge(status int) event.Verdict {
	if status >= 200 && status < 300 {
		return event.Accepted
	}
	return event.Rejected
}

// entityKey is the key of the entity that a write is about, "" if only the
// answer will tell.
func (d *Dialect) entityKey(r *route, params, headers map[string]string, links event.Links) string {
	unseen := expression.Document{Why: "no answer was seen"}
	scope := expression.NewScope(map[string]any{"path": params, "header": headers, "status": 0, "response": unseen})
	e := event.Event{Type: r.typ}
	d.Event.fill(&e, &values{scope: scope, response: unseen})
	if e.Entity.ID == "" {
		return ""
	}
	follow(&e, links)
	return e.Key()
}
