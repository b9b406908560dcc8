// Package rules decides: what a request means (Classify), which events an
// exchange makes (Derive), and which webhooks want an event (Match). What it
// knows of a CMS is data, a Dialect. It is pure: no I/O, no clock, no
// goroutine, and it keeps nothing between calls.
package rules

import (
	"iter"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// Rules are a dialect and the webhooks of a config. They never change and may
// be used from any goroutine.
type Rules struct {
	dialect  *Dialect
	webhooks []Webhook
	roots    map[string]bool // what the filters read
	largest  int             // payload that is kept whole, in bytes
}

// Webhook is what rules know of a webhook.
type Webhook struct {
	Name         string
	Subscription Subscription
	// Reads tells whether what the webhook is sent tells something of a root of
	// expressions; nil if it tells nothing besides the payload.
	Reads func(root string) bool
}

// New returns rules for a dialect and webhooks whose subscriptions have been
// validated.
func New(dialect *Dialect, webhooks []Webhook) *Rules {
	r := &Rules{dialect: dialect, webhooks: webhooks, roots: map[string]bool{}, largest: maxPayloads}
	for _, webhook := range webhooks {
		for _, root := range filterRoots {
			if filter := webhook.Subscription.filter; filter != nil && filter.Reads(root) {
				r.roots[root] = true
			}
			if root == "changes" && webhook.Reads != nil && webhook.Reads(root) {
				r.roots[root] = true
			}
		}
	}
	return r
}

// Truncating sets how many bytes a payload may have; of a larger one an event
// keeps only what names the entity. It is for the start, before any other use.
func (r *Rules) Truncating(largest int) *Rules {
	r.largest = largest
	return r
}

// Classify decides from a request's head what it means. The plan of a write
// carries the intent, without id and time; links are what is known of aliases.
// If the plan asks for the body, Identify decides.
func (r *Rules) Classify(head event.Head, links event.Links) event.Plan {
	return r.dialect.plan(head, nil, links)
}

// Identify is Classify once the body was read, as far as that went.
func (r *Rules) Identify(head event.Head, body event.Copy, links event.Links) event.Plan {
	return r.dialect.plan(head, &body, links)
}

// plan looks for the first route that is for the request.
func (d *Dialect) plan(head event.Head, body *event.Copy, links event.Links) event.Plan {
	in := incoming{method: head.Method, path: strings.ToValidUTF8(head.Path, "\uFFFD")}
	if d.method != nil || d.uri != nil {
		in.read(d, head)
		d.meant(&in)
	}
	in.path = resolveDots(in.path)
	for route := range d.candidates(&in, head.Method) {
		if route.body != nil && body == nil {
			return event.Plan{Class: event.Write, Body: true}
		}
		if in.headers == nil {
			in.read(d, head)
		}
		if found := d.planOf(route, &in, head, body, links); found != nil {
			return *found
		}
	}
	return d.observation(&in, head)
}

// candidates are the routes for a method and a path. If another method is meant
// than that of the request line, and no route is for it, the latter counts.
func (d *Dialect) candidates(in *incoming, method string) iter.Seq[*route] {
	return func(yield func(*route) bool) {
		segments := countSegments(in.path)
		found := false
		for range 2 {
			for _, route := range d.routes[in.method] {
				if !route.pattern.mayMatch(segments) || !route.pattern.matches(in.path) {
					continue
				}
				if found = true; !yield(route) {
					return
				}
			}
			if found || in.method == method {
				return
			}
			in.method = method
		}
	}
}

// planOf is the plan for a request if it is the route's, else nil.
func (d *Dialect) planOf(r *route, in *incoming, head event.Head, body *event.Copy, links event.Links) *event.Plan {
	intent := &event.Intent{Dialect: d.Name, Route: r.name, Headers: in.headers, Query: in.query}
	params := d.params(r, in.path)
	roots := map[string]any{"path": params, "header": in.headers, "query": in.query, "uri": uriOf(in.path)}
	if r.skipped(expression.NewScope(roots)) != nil {
		return &event.Plan{}
	}
	if r.body != nil {
		r.readBody(intent, roots, bodyDocument(*body, head.Headers.Get("Content-Type")))
		roots["body"] = bodyOf(intent)
	}
	if r.when != nil {
		if result := r.when.Run(expression.NewScope(roots)); !result.True() && !undecided(result) {
			return nil
		}
	}
	if r.pass {
		observed := d.observation(in, head)
		return &observed
	}
	intent.Method, intent.Path = clone(head.Method), clone(strings.ToValidUTF8(head.Path, "\uFFFD"))
	intent.Traceparent, intent.UserAgent = clone(head.Headers.Get("traceparent")), clone(head.Headers.Get("User-Agent"))
	intent.Entity, intent.Target = r.entity(roots, links)
	return &event.Plan{Class: event.Write, Judge: r, Credentials: d.Credentials, Intent: intent}
}

// undecided tells whether nobody knows what a condition gives: it read what was
// not seen, or something else than it was made for.
func undecided(r expression.Result) bool {
	return r.State == expression.Unknown || r.State == expression.Failed
}

// observation is the plan for a request that changes nothing.
func (d *Dialect) observation(in *incoming, head event.Head) event.Plan {
	if !d.observes(in.method, in.path) && (head.Query != "" || !d.polls(in.method, in.path)) {
		return event.Plan{}
	}
	if in.headers == nil {
		in.read(d, head)
	}
	return event.Plan{
		Class: event.Observe, Judge: anySuccess{},
		Intent: &event.Intent{Dialect: d.Name, Method: clone(head.Method), Path: clone(head.Path), Headers: in.headers, Query: in.query},
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

// entity is the key of the entity that a write is about, "" if only the answer
// or a list will tell, and the target of its environment if that is an alias.
func (r *route) entity(roots map[string]any, links event.Links) (key, target string) {
	unseen := expression.Document{Why: "no answer was seen"}
	roots["status"], roots["response"], roots["location"], roots["before"] = 0, unseen, unseen, unseen
	v := expression.NewScope(roots)
	e := event.Event{Type: r.typ.known(v)}
	r.event.fill(&e, v)
	follow(&e, links)
	if e.Entity.ID != "" && r.each == nil {
		key = e.Key()
	}
	return key, e.Target
}
