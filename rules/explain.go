package rules

import (
	"fmt"
	"slices"
	"strconv"

	"cmstap/event"
	"cmstap/internal/expression"
)

// Tried is a route whose method and path are those of a request.
type Tried struct {
	Route string `json:"route"`
	Means string `json:"means"` // write, or why it is none
}

// Tried returns the routes that are looked at for a request, up to the one that
// takes it. Without any, others says which methods the path has.
func (r *Rules) Tried(head event.Head, body event.Copy) (tried []Tried, others []string) {
	d := r.dialect
	in := &incoming{method: head.Method, path: head.Path}
	in.read(d, head)
	d.meant(in)
	in.path = resolveDots(in.path)
	for route := range d.candidates(in, head.Method) {
		plan := d.planOf(route, in, head, &body, nil)
		switch {
		case plan == nil:
			tried = append(tried, Tried{route.name, "not this one: its condition is not true: " + route.when.String()})
			continue
		case plan.Class == event.Write:
			tried = append(tried, Tried{route.name, "write" + route.undecided(plan.Intent)})
		case route.pass:
			tried = append(tried, Tried{route.name, "it changes nothing (pass)"})
		default:
			scope := expression.NewScope(map[string]any{
				"path": d.params(route, in.path), "header": in.headers, "query": in.query, "uri": uriOf(in.path),
			})
			tried = append(tried, Tried{route.name, "it changes nothing: " + route.skipped(scope).String()})
		}
		return tried, nil
	}
	for method, routes := range d.routes {
		if slices.ContainsFunc(routes, func(r *route) bool { return r.pattern.matches(in.path) }) {
			others = append(others, method)
		}
	}
	slices.Sort(others)
	return tried, others
}

// undecided says that a route took a write because its condition could not be
// decided.
func (r *route) undecided(intent *event.Intent) string {
	if r.when == nil || intent.BodyUnseen == "" || !r.when.Reads("body") {
		return ""
	}
	return ", because its condition can not be decided (" + r.when.String() + "): " + intent.BodyUnseen
}

// UsualStatus is the first status by which the route of an intent succeeds.
func (r *Rules) UsualStatus(intent *event.Intent) int {
	route := r.dialect.named[intent.Route]
	if route == nil {
		return statusOK
	}
	for _, text := range route.success {
		if status, err := strconv.Atoi(text); err == nil {
			return status
		}
	}
	return statusOK
}

// Explain is Match with the reasons: for each webhook yes, no or undecided.
func (r *Rules) Explain(e *event.Event, links event.Links) []event.Explained {
	scope := r.filterScope(e)
	explained := make([]event.Explained, len(r.webhooks))
	for i := range r.webhooks {
		w := &r.webhooks[i]
		decision := w.decide(e, r.dialect, links, scope)
		one := event.Explained{Webhook: w.Name, Called: decision.Wanted, Reason: decision.Reason, Answer: "no"}
		switch {
		case decision.Undecided != "":
			one.Answer = "undecided"
		case decision.Wanted:
			one.Answer = "yes"
		}
		if w.Subscription.filter != nil && decision.filtered {
			var reads []expression.Reading
			one.Part, reads = w.Subscription.filter.Explain(scope)
			for _, reading := range reads {
				one.Reads = append(one.Reads, event.Reading(reading))
			}
		}
		explained[i] = one
	}
	return explained
}

// Summary says what a dialect is, in short: how many routes and topics it has.
func (d *Dialect) Summary() string {
	return fmt.Sprintf("%s: %d routes, %d topics", d.Name, len(d.named), len(d.Topics()))
}
