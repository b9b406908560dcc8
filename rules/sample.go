package rules

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/internal/expression"
)

// Has tells whether there is a webhook of that name.
func (r *Rules) Has(webhook string) bool {
	return slices.ContainsFunc(r.webhooks, func(w Webhook) bool { return w.Name == webhook })
}

// Sample makes up an event of the dialect that a webhook wants by its topics and
// environments, to try the webhook. Its payload only names its entity. Found is
// false if there is no such webhook.
func (r *Rules) Sample(webhook string, now time.Time) (e event.Event, found bool) {
	i := slices.IndexFunc(r.webhooks, func(w Webhook) bool { return w.Name == webhook })
	if i < 0 {
		return e, false
	}
	s := &r.webhooks[i].Subscription
	e = event.Event{
		Time: now, Confirmed: true, Environment: "master",
		Request: event.Request{Method: "PUT", Path: "/cmstap-test", ID: "cmstap-test"},
	}
	e.Type, e.Action = s.sampleTopic(r.dialect.Topics())
	if len(s.Environments) > 0 {
		e.Environment = s.Environments[0]
	}
	e.Entity = event.Entity{Type: e.Type, ID: "cmstap-test", Version: 1}
	e.ID = event.NewID("cmstap-test/"+now.Format(time.RFC3339Nano), e.Topic(), e.Address(), 0)
	d := &derivation{dialect: r.dialect, route: &route{}}
	v := expression.NewScope(map[string]any{"status": 0}).With(d.roots(&e))
	if identity := r.dialect.payloads["identity"]; identity != nil {
		e.Payload, _ = identity.fillOrNot(v, &gaps{})
	}
	e.Partial = "it was made up to try the webhook"
	e.Native = r.dialect.Native.fill(v)
	e.Native.ContentType = cmp.Or(e.Native.ContentType, r.dialect.Native.ContentType)
	return e, true
}

// sampleTopic is one of the topics that is wanted, Entry.publish where that says
// nothing.
func (s *Subscription) sampleTopic(topics []string) (typ, action string) {
	for _, want := range s.topics {
		for _, text := range topics {
			typ, action, _ = strings.Cut(text, ".")
			if meet(want.typ, typ) && meet(want.action, action) {
				return named(want.typ, typ, "Entry"), named(want.action, action, "publish")
			}
		}
	}
	return "Entry", "publish"
}

// meet tells whether two patterns have a word in common.
func meet(a, b string) bool { return a == "*" || b == "*" || strings.EqualFold(a, b) }

// named is the first that is a word.
func named(want, is, otherwise string) string {
	for _, word := range []string{is, want} {
		if word != "*" {
			return word
		}
	}
	return otherwise
}
