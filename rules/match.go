package rules

import (
	"slices"
	"strconv"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// Subscription is the part of a webhook's settings that says which events it
// wants. All of its conditions must hold.
type Subscription struct {
	// Topics are Type.Action with * on either side, in any case.
	Topics []string `yaml:"topics"`
	// Environments are those that the event was made in, as the dialect
	// compares them (match); none means all.
	Environments []string `yaml:"environments"`
	// Filter is an expression. One that reads a property which the entity does
	// not have is false; one that reads what was not seen is undecided.
	Filter string `yaml:"filter"`
	// OnUnknown is what an undecided filter means: deliver or skip.
	OnUnknown string `yaml:"on_unknown"`

	topics []topic
	filter *expression.Program
}

type topic struct{ typ, action string }

var filterRoots = []string{
	"type", "action", "topic", "space", "environment", "alias", "target", "entity", "actor", "payload", "before",
	"request", "confirmed", "accepted", "cause", "changes",
}

// Validate reports what is wrong and compiles the rest.
func (s *Subscription) Validate(check setting.Check) {
	if len(s.Topics) == 0 {
		check.Add("topics", `name at least one topic, for example [Entry.publish, "Asset.*"]; "*.*" is all`)
	}
	for i, text := range s.Topics {
		typ, action, found := strings.Cut(text, ".")
		if !found || typ == "" || action == "" || strings.Contains(action, ".") {
			check.Add(indexed("topics", i), `want Type.Action with * on either side, for example Entry.publish or "*.*", not %q`, text)
		}
		s.topics = append(s.topics, topic{typ, action})
	}
	for i, environment := range s.Environments {
		if environment == "" || environment == "*" {
			check.Add(indexed("environments", i), "is no name of an environment; leave environments out for all of them")
		}
	}
	if s.OnUnknown != "" && s.OnUnknown != "deliver" && s.OnUnknown != "skip" {
		check.Add("on_unknown", "must be deliver or skip")
	}
	if s.Filter != "" {
		s.filter = compile(place{Check: check}, "filter", s.Filter, filterRoots, true)
	}
}

// Decision says whether a webhook wants an event, and why.
type Decision struct {
	event.Want
	Wanted bool
	// Reason says why not, or why a filter could not be decided.
	Reason string

	filtered bool // the filter was asked
	doubtful bool
}

// Doubtful tells whether it could not be decided; on_unknown says what follows.
func (d Decision) Doubtful() bool { return d.doubtful }

// Match asks every webhook whether it wants the event. Links are what is known of
// aliases.
func (r *Rules) Match(e *event.Event, links event.Links) []Decision {
	scope := r.filterScope(e)
	decisions := make([]Decision, len(r.webhooks))
	for i := range r.webhooks {
		decisions[i] = r.webhooks[i].decide(e, r.dialect, links, scope)
	}
	return decisions
}

// inside tells whether an event's environment is one of those that a webhook
// names. If it is not, doubt says why it may be one all the same.
func (d *Dialect) inside(names []string, e *event.Event, links event.Links) (inside bool, doubt string) {
	if d.Match != "target" || e.Environment == "" {
		return slices.Contains(names, e.Environment), e.EnvironmentUnseen
	}
	environment := e.Resolved()
	for _, name := range names {
		target := name
		if slices.Contains(d.aliases, name) {
			target = links.Resolve(e.Space, name)
		}
		if target == environment {
			return true, ""
		}
		for _, one := range []string{target, environment} {
			if slices.Contains(d.aliases, one) {
				doubt = "nobody knows yet which environment " + one + " is"
			}
		}
	}
	return false, doubt
}

// compared is the name of an event's environment that environments name.
func (d *Dialect) compared(e *event.Event) string {
	if d.Match == "target" {
		return e.Resolved()
	}
	return e.Environment
}

func (w *Webhook) decide(e *event.Event, d *Dialect, links event.Links, scope *expression.Scope) Decision {
	s := &w.Subscription
	filtered := false
	no := func(reason string) Decision {
		return Decision{Want: event.Want{Webhook: w.Name}, Reason: reason, filtered: filtered}
	}
	if !slices.ContainsFunc(s.topics, func(t topic) bool { return t.covers(e) }) {
		return no("its topics do not include " + e.Topic())
	}
	where := "" // why it may be in one of the environments, if that is not known
	if len(s.Environments) > 0 {
		var inside bool
		if inside, where = d.inside(s.Environments, e, links); !inside && where == "" {
			return no("its environments do not include " + strconv.Quote(d.compared(e)))
		}
	}
	doubt := where
	if filtered = s.filter != nil; filtered {
		if readsGap(s.filter, e.Gaps) {
			scope = scope.With(map[string]any{"payload": expression.Document{JSON: e.Payload, Why: e.BeforeUnseen}})
		}
		switch result := s.filter.Run(scope); {
		case result.State == expression.Unknown:
			doubt = result.Detail
		case result.State != expression.Present:
			return no("its filter is " + result.State.String() + ": " + result.Detail)
		case !result.True():
			return no("its filter is false")
		}
	}
	if doubt != "" && s.OnUnknown == "skip" {
		skipped := no("what it asks for is unknown: " + doubt)
		skipped.doubtful = true
		return skipped
	}
	return Decision{
		Want: event.Want{Webhook: w.Name, Undecided: doubt}, Wanted: true, Reason: doubt, doubtful: doubt != "",
		filtered: filtered && (doubt == "" || doubt != where),
	}
}

// readsGap tells whether a filter reads what the payload lacks.
func readsGap(filter *expression.Program, gaps []string) bool {
	if len(gaps) == 0 {
		return false
	}
	for _, read := range filter.Paths() {
		path := strings.Join(read.Parts, ".") + "."
		for _, gap := range gaps {
			if read.Root == "payload" && (strings.HasPrefix(path, gap+".") || strings.HasPrefix(gap+".", path) || slices.Contains(read.Parts, "*")) {
				return true
			}
		}
	}
	return false
}

func (t topic) covers(e *event.Event) bool {
	return (t.typ == "*" || e.Type == "" || strings.EqualFold(t.typ, e.Type)) && (t.action == "*" || strings.EqualFold(t.action, e.Action))
}

// filterScope holds what filters may read of an event. A root that is empty is
// missing, or unknown where not all was seen.
func (r *Rules) filterScope(e *event.Event) *expression.Scope {
	roots := map[string]any{
		"type": e.Type, "action": e.Action, "topic": e.Topic(), "confirmed": e.Confirmed, "accepted": e.Accepted,
		"before": beforeOf(e), "changes": changesOf(e),
	}
	addText(roots, map[string]string{
		"space": e.Space, "environment": e.Environment, "alias": e.Alias, "target": e.Target, "cause": e.Cause,
	})
	if e.EnvironmentUnseen != "" {
		roots["environment"] = expression.Document{Why: e.EnvironmentUnseen}
	}
	switch {
	case e.Actor != "":
		roots["actor"] = e.Actor
	case e.Partial != "":
		roots["actor"] = expression.Document{Why: e.Partial}
	}
	if r.roots["entity"] {
		roots["entity"] = document(e.Entity, e.Partial)
	}
	if r.roots["request"] {
		roots["request"] = document(e.Request, "")
	}
	roots["payload"] = payloadOf(e)
	return expression.NewScope(roots)
}

// addText adds the texts that are not empty; the others are missing.
func addText(roots map[string]any, texts map[string]string) {
	for root, text := range texts {
		if text != "" {
			roots[root] = text
		}
	}
}

// payloadOf is the payload as filters see it: what could not be read was not
// seen.
func payloadOf(e *event.Event) expression.Document {
	why := e.Partial
	if e.PayloadError != "" {
		why = e.PayloadError
	}
	return expression.Document{JSON: e.Payload, Whole: why == "", Why: why}
}

func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
