package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"cmstap/event"
	"cmstap/internal/expression"

	"github.com/go-json-experiment/json/jsontext"
)

// Knows tells whether the dialect has the route of an intent, which may have
// been recorded under another one.
func (r *Rules) Knows(intent *event.Intent) bool {
	route := r.dialect.named[intent.Route]
	return route != nil && (intent.Job == nil || route.job != nil)
}

// Derive returns the events of an exchange, none if its route is not known. One
// that is in doubt gives unconfirmed events. Links are what is known of aliases,
// and states what is known of the entities that Recall lists.
func (r *Rules) Derive(x *event.Exchange, links event.Links, states map[string]event.State) []event.Event {
	return r.derive(x, links, states, false).events
}

// derive makes the events, or lists only the keys of their entities.
func (r *Rules) derive(x *event.Exchange, links event.Links, states map[string]event.State, onlyKeys bool) *derivation {
	d := &derivation{
		dialect: r.dialect, filters: r.roots, largest: r.largest, x: x, links: links, states: states, onlyKeys: onlyKeys, times: map[string]int{},
	}
	of := r.dialect.named[x.Intent.Route]
	if of == nil {
		return d
	}
	if x = r.unwrap(x, of); x == nil {
		return d
	}
	d.x = x
	d.response, d.problem = of.answerOf(x)
	common := r.scopeOf(x, of, d.response)
	switch {
	case x.Intent.Job != nil && of.job == nil: // the dialect does not know such a job any more
	case x.Intent.Job != nil && len(of.after) > 0:
		d.addAll(common, of.after...)
	case x.Intent.Job != nil || of.job == nil:
		d.addAll(common, of)
	case d.response.JSON == nil: // nobody saw whether it promised a job
		d.unsure = len(of.after) == 0 && x.Status == statusAccepted
		d.addAll(common, of)
		d.unsure = true
		d.addAll(common.With(map[string]any{"status": 0}), of.after...)
	case len(of.after) > 0 || r.Job(x) == nil: // else its events come with the result
		d.addAll(common, of)
	}
	return d
}

// addAll makes the events of routes.
func (d *derivation) addAll(common *expression.Scope, routes ...*route) {
	for _, d.route = range routes {
		d.contents = d.route.contents(d.x, common)
		for _, item := range d.route.items(common) {
			d.add(common, item)
		}
	}
}

// scopeOf holds what expressions may read of an exchange, whose answer is
// response.
func (r *Rules) scopeOf(x *event.Exchange, of *route, response expression.Document) *expression.Scope {
	roots := r.dialect.rootsOf(x.Intent, of)
	roots["status"], roots["response"] = statusOf(x), response
	addLocation(roots, x)
	roots["before"] = expression.Document{Why: unseenBefore}
	if of.job == nil || len(of.job.read) == 0 {
		return expression.NewScope(roots)
	}
	read := map[string]any{}
	for name, path := range of.job.read {
		read[name] = expression.Document{Why: "it was not read"}
		if copied, there := x.Read[path.known(escaped(expression.NewScope(roots)))]; there {
			read[name] = readable(copied)
		}
	}
	roots["read"] = read
	return expression.NewScope(roots)
}

// derivation makes the events of one exchange.
type derivation struct {
	dialect  *Dialect
	filters  map[string]bool // the roots that filters read
	largest  int             // payload that is kept whole, in bytes
	route    *route
	x        *event.Exchange
	links    event.Links
	states   map[string]event.State
	onlyKeys bool // nothing but keys is to be filled in
	response expression.Document
	problem  string
	unsure   bool                           // nobody knows whether what the route says was done
	contents map[string]expression.Document // of the route's items, by id
	bytes    int                            // of payloads
	times    map[string]int                 // how often there was an action, by it and the address
	events   []event.Event
	keys     []string
}

// items are what the route makes an event of each: the items of its list, or what
// stands in the place of one. If nobody knows what that was, there is one item
// that is unknown; without a list, one that is nil.
func (r *route) items(v *expression.Scope) []any {
	if r.each == nil {
		return []any{nil}
	}
	raw, state, why := r.each.JSON(v)
	switch state {
	case expression.Present:
		return itemsOf(raw)
	case expression.Unknown:
		return []any{expression.Document{Why: why}}
	default:
		return []any{expression.Document{Why: "each is " + state.String() + ": " + why}}
	}
}

// maxItems bounds what one list may tell of; what comes after is one item that
// is unknown.
const maxItems = 10_000

// itemsOf are the items of a list, or the value itself; null has none.
func itemsOf(raw []byte) (items []any) {
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] != '[':
		return []any{whole(raw)}
	}
	list := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, _ = list.ReadToken() // the bracket
	for list.PeekKind() != ']' {
		if len(items) == maxItems {
			return append(items, expression.Document{Why: "the list has too many items"})
		}
		item, err := list.ReadValue()
		if err != nil {
			break // it can not be: the document is valid
		}
		items = append(items, whole(bytes.Clone(item)))
	}
	return items
}

// add makes the events of one item. If nobody knows of what type it is, there
// are events of each that it may be.
func (d *derivation) add(common *expression.Scope, item any) {
	v := common
	if item != nil {
		v = common.With(map[string]any{"item": item})
	}
	if d.route.content != nil {
		v = v.With(map[string]any{"response": d.read(v)})
	}
	typ := d.route.typ.known(v)
	if typ != "" || len(d.route.types) == 0 {
		d.addOne(v, item, typ)
		return
	}
	for _, typ := range d.route.types {
		d.addOne(v, item, typ)
	}
}

// read is the entity of an item, as it was read afterwards.
func (d *derivation) read(v *expression.Scope) expression.Document {
	if content, there := d.contents[d.route.event["id"].known(v)]; there {
		return content
	}
	return expression.Document{Why: "the entity could not be read"}
}

// addOne makes the events of an item: first who and what, then what follows
// from that.
func (d *derivation) addOne(v *expression.Scope, item any, typ string) {
	x, r := d.x, d.route
	e := event.Event{
		Time: x.Time.UTC(), Type: typ, Confirmed: x.Outcome == event.Done && !d.unsure, PayloadError: d.problem, Truncated: x.Answer.Cut,
		Accepted: r.accepted, Gone: r.gone,
		Request: event.Request{
			Method: x.Intent.Method, Path: x.Intent.Path, ID: x.Intent.ID,
			Traceparent: x.Intent.Traceparent, UserAgent: x.Intent.UserAgent,
		},
	}
	r.event.fill(&e, v)
	switch {
	case x.Resolved:
		e.Entity.Version = x.Version
	case r.content != nil: // it was read later: another write may have made that version
		e.Entity.Version = 0
	}
	if follow(&e, d.links); x.Intent.Target != "" && e.Environment != "" { // an alias may have moved since
		e.Alias, e.Target = e.Environment, x.Intent.Target
	}
	related := d.relatedKey(&e, v)
	if d.onlyKeys {
		if e.Entity.ID != "" { // else nothing is kept of it
			d.keys = append(d.keys, e.Key())
		}
		if related != "" {
			d.keys = append(d.keys, related)
		}
		return
	}
	d.recall(&e, v)
	v = v.With(map[string]any{"before": beforeOf(&e), "related": d.relatedState(related)})
	actions := r.happened(v)
	if slices.Contains(actions, "create") {
		e.Before, e.BeforeUnseen, e.BeforeEvent = none, "", event.NoEvent
		v = v.With(map[string]any{"before": nil})
	}
	for _, action := range actions {
		d.finish(e, action, v, item)
	}
}

// finish gives an event its action, its id, its payload and its native form.
func (d *derivation) finish(e event.Event, action string, v *expression.Scope, item any) {
	e.Action = action
	address := e.Address()
	e.ID = event.NewID(d.x.Intent.ID, e.Topic(), address, d.times[action+" "+address])
	d.times[action+" "+address]++
	v = v.With(d.roots(&e))
	d.fillPayload(&e, v, item)
	d.truncate(&e, v)
	e.Payload = without(e.Payload, d.dialect.without)
	if d.filters["changes"] {
		compare(&e)
	}
	if !d.filters["before"] && !d.filters["changes"] && !d.route.readsBefore { // nobody asked
		e.Before, e.BeforeUnseen = nil, ""
	}
	e.Native = d.dialect.Native.fill(v)
	d.events = append(d.events, e)
}

// roots are what payloads and native headers may read of an event besides.
func (d *derivation) roots(e *event.Event) map[string]any {
	roots := map[string]any{
		"set": d.route.set, "type": e.Type, "action": e.Action, "topic": e.Topic(), "id": e.ID, "time": timestamp(e.Time),
	}
	if d.dialect.reads["entity"] {
		roots["entity"] = document(e.Entity, "")
	}
	if d.dialect.reads["aliases"] {
		roots["aliases"] = document(d.links.Aliases(e.Space, e.Resolved()), "")
	}
	if d.dialect.reads["links"] {
		roots["links"] = document(d.links.Of(e.Space), "nobody knows yet where it leads to")
	}
	addText(roots, map[string]string{"space": e.Space, "environment": e.Environment, "target": e.Target, "cause": e.Cause})
	return roots
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

// statusOf is the status of an answer that says that the write happened, else 0.
func statusOf(x *event.Exchange) int {
	if x.Outcome == event.Done {
		return x.Status
	}
	return 0
}

// answerOf is the answer as expressions see it: only one that says that the
// write happened counts. Problem says why such an answer could not be used.
func answerOf(x *event.Exchange) (response expression.Document, problem string) {
	if x.Outcome != event.Done {
		return expression.Document{Why: "no answer was seen"}, ""
	}
	switch {
	case x.Resolved && x.Answer.Err != "":
		return expression.Document{Why: x.Answer.Err}, ""
	case x.Answer.Err != "":
		problem = x.Answer.Err
	case len(x.Answer.Bytes) == 0:
		return expression.Document{Why: "the answer has no body"}, ""
	default:
		if problem = jsonProblem(x.Answer.Bytes); problem == "" {
			return whole(x.Answer.Bytes), ""
		}
		problem = "the answer " + problem
	}
	return expression.Document{Why: problem}, problem
}

// fill sets what the templates give; what they do not know stays empty.
func (t eventTemplates) fill(e *event.Event, v *expression.Scope) {
	e.Space, e.Actor, e.Alias, e.Target = t["space"].known(v), t["actor"].known(v), t["alias"].known(v), t["target"].known(v)
	e.Cause = t["cause"].known(v)
	environment, state, why := t["environment"].text(v)
	e.Environment = environment
	if state == expression.Unknown {
		e.EnvironmentUnseen = why
	}
	e.Entity = event.Entity{
		Type: e.Type, ID: t["id"].known(v), Within: t["within"].known(v), ContentType: t["content_type"].known(v), Locale: t["locale"].known(v),
		Version: versionOf(t["version"].known(v)),
	}
}

// versionOf reads a version: a number, or the time of the change (RFC 3339) in
// milliseconds since 1970; 0 if it is neither.
func versionOf(text string) int64 {
	if version, err := strconv.ParseInt(text, 10, 64); err == nil {
		return version
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UnixMilli()
	}
	return 0
}

// maxPayloads bounds the bytes of the payloads that are made of one answer.
const maxPayloads = 32 << 20

// fillPayload makes the payload: the template that the route names; without one
// the item, or the answer, as it is; and if there is none, the identity.
func (d *derivation) fillPayload(e *event.Event, v *expression.Scope, item any) {
	n, identity := d.route.payload, d.dialect.payloads["identity"]
	content, unseen := d.content(v, item)
	switch {
	case slices.Contains(d.dialect.kept, n), d.route.content != nil:
		e.Shows = event.ShowsSame
	case n != identity && content != nil && e.PayloadError == "" && d.bytes <= maxPayloads:
		e.Shows = event.ShowsAll
	}
	switch {
	case d.bytes > maxPayloads:
		e.Truncated = true
		n, e.Partial = identity, "the payloads of one answer would be too large"
	case n == nil:
		if e.Payload, e.Partial = content, unseen; e.Payload != nil {
			d.bytes += len(e.Payload)
			return
		}
		n = identity
	case n == identity:
		e.Partial = "only what names it was seen"
	}
	gaps := gaps{now: e.Partial}
	payload, ok := n.fillOrNot(v, &gaps)
	if !ok { // a payload that is nothing but an expression without a value
		gaps.now = cmp.Or(gaps.now, "the payload has no value")
		payload, _ = identity.fillOrNot(v, &gaps)
		if e.Shows == event.ShowsAll {
			e.Shows = event.ShowsNothing
		}
	}
	e.Payload, e.Partial, e.Gaps = payload, gaps.now, gaps.before
	d.bytes += len(payload)
}

// truncate leaves of a payload that is too large only what names the entity.
func (d *derivation) truncate(e *event.Event, v *expression.Scope) {
	if len(e.Payload) > d.largest {
		gaps := gaps{now: fmt.Sprintf("the payload is larger than %d bytes (outbox.max_payload)", d.largest)}
		e.Payload, _ = d.dialect.payloads["identity"].fillOrNot(v, &gaps)
		e.Partial, e.Gaps, e.Shows, e.Truncated = gaps.now, gaps.before, event.ShowsNothing, true
	}
}

// content is the item, if there is a list, or the answer. Without it, partial
// says why.
func (d *derivation) content(v *expression.Scope, item any) (content []byte, partial string) {
	if item == nil || d.route.content != nil {
		root, _ := v.Root("response")
		document, _ := root.(expression.Document)
		return document.JSON, document.Why
	}
	document, _ := item.(expression.Document)
	if d.route.each.Reads("response") && bytes.HasPrefix(bytes.TrimLeft(document.JSON, " \t\r\n"), []byte("{")) {
		return document.JSON, ""
	}
	return nil, cmp.Or(document.Why, "only what names it was seen")
}

func (n *nativeConfig) fill(v *expression.Scope) event.Native {
	native := event.Native{ContentType: n.ContentType}
	for _, h := range n.headers {
		if value, state, _ := h.value.text(v); state == expression.Present && value != "" {
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
