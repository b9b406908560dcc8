package rules

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"cmstap/event"
	"cmstap/internal/expression"
)

// Derive returns the events of an exchange. One that is in doubt gives
// unconfirmed events. An exchange that the dialect does not know (any more)
// gives none. Links are what is known of aliases.
func (r *Rules) Derive(x *event.Exchange, links event.Links) []event.Event {
	route, params := r.dialect.find(x.Intent.Method, x.Intent.Path)
	if route == nil {
		return nil
	}
	return []event.Event{r.dialect.derive(x, route, params, links)}
}

// derive makes the event of a route: first who and what, then what follows
// from that.
func (d *Dialect) derive(x *event.Exchange, r *route, params map[string]string, links event.Links) event.Event {
	response, status, problem := answerOf(x)
	roots := map[string]any{"path": params, "header": x.Intent.Headers, "status": status, "response": response}
	v := &values{scope: expression.NewScope(roots), response: response}

	e := event.Event{
		Time: x.Time.UTC(), Type: r.typ, Confirmed: x.Outcome == event.Done, PayloadError: problem, Gone: r.config.Gone,
		Request: event.Request{
			Method: x.Intent.Method, Path: x.Intent.Path, ID: x.Intent.ID,
			Traceparent: x.Intent.Traceparent, UserAgent: x.Intent.UserAgent,
		},
	}
	r.event.fill(&e, v)
	if x.Resolved {
		e.Entity.Version = x.Version
	}
	follow(&e, links)
	e.Action = r.action(v.scope)
	e.ID = event.NewID(x.Intent.ID, e.Topic(), e.Address(), 0)

	maps.Copy(roots, map[string]any{
		"set": r.set, "type": e.Type, "action": e.Action, "topic": e.Topic(), "entity": document(e.Entity, ""), "id": e.ID,
		"time": timestamp(e.Time), "before": expression.Document{Why: "the state before is not known"},
	})
	addText(roots, map[string]string{"space": e.Space, "environment": e.Environment})
	v.scope = expression.NewScope(roots)
	d.fillPayload(&e, r, v)
	e.Native = d.Native.fill(v)
	return e
}

// follow says which environment the event's is an alias of, if it is one.
func follow(e *event.Event, links event.Links) {
	if target := links.Resolve(e.Space, e.Environment); target != e.Environment {
		e.Alias, e.Target = e.Environment, target
	}
}

// timestamp writes a time as CMSes do, in UTC with milliseconds; such texts
// compare as the times do.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// answerOf is the answer as expressions see it: only one that says that the
// write happened counts, else the status is 0. Problem says why such an answer
// could not be used.
func answerOf(x *event.Exchange) (response expression.Document, status int, problem string) {
	if x.Outcome != event.Done {
		return expression.Document{Why: "no answer was seen"}, 0, ""
	}
	switch {
	case x.Resolved && x.Answer.Err != "":
		return expression.Document{Why: x.Answer.Err}, x.Status, ""
	case x.Answer.Err != "":
		problem = x.Answer.Err
	case len(x.Answer.Bytes) == 0:
		return expression.Document{Why: "the answer has no body"}, x.Status, ""
	case !json.Valid(x.Answer.Bytes):
		problem = "the answer is not JSON"
	default:
		return expression.Document{JSON: x.Answer.Bytes, Whole: true}, x.Status, ""
	}
	return expression.Document{Why: problem}, x.Status, problem
}

// action is the first one whose condition holds.
func (r *route) action(scope *expression.Scope) string {
	last := len(r.config.Actions) - 1
	for _, a := range r.config.Actions[:last] {
		if a.when.Run(scope).True() {
			return a.Action
		}
	}
	return r.config.Actions[last].Action
}

// fill sets what the templates give; what they do not know stays empty.
func (c *eventConfig) fill(e *event.Event, v *values) {
	known := func(t template) string {
		text, _, _ := t.text(v)
		return text
	}
	e.Space, e.Actor, e.Alias, e.Target = known(c.space), known(c.actor), known(c.alias), known(c.target)
	environment, state, why := c.environment.text(v)
	e.Environment = environment
	if state == expression.Unknown {
		e.EnvironmentUnseen = why
	}
	version, _ := strconv.ParseInt(known(c.version), 10, 64)
	e.Entity = event.Entity{Type: e.Type, ID: known(c.id), ContentType: known(c.contentType), Version: version}
}

// fillPayload makes the payload: the template that the route names, the answer
// as it is, or, if there is none, the identity.
func (d *Dialect) fillPayload(e *event.Event, r *route, v *values) {
	n := d.payloads[r.config.Payload]
	if n == nil && v.response.JSON != nil {
		e.Payload = v.response.JSON
		return
	}
	if n == nil {
		e.Partial = v.response.Why
		n = d.payloads["identity"]
	}
	if n != nil {
		e.Payload, _ = n.fill(nil, v, &e.Partial)
	}
}

func (n *nativeConfig) fill(v *values) event.Native {
	native := event.Native{ContentType: n.ContentType}
	for _, h := range n.headers {
		if value, state, _ := h.value.text(v); state == expression.Present {
			native.Headers = append(native.Headers, event.Header{Name: h.name, Value: value})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.PerCall)) {
		native.Headers = append(native.Headers, event.Header{Name: name, PerCall: event.PerCall(n.PerCall[name])})
	}
	return native
}

// document is a value as expressions see it. If partial is not empty, what the
// value lacks was not seen, for that reason.
func document(value any, partial string) expression.Document {
	text, err := json.Marshal(value)
	if err != nil {
		return expression.Document{Why: err.Error()}
	}
	return expression.Document{JSON: text, Whole: partial == "", Why: partial}
}
