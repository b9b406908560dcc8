package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"
)

// maxDifferences bounds what a comparison lists.
const maxDifferences = 1000

// Compare implements admin.Operator.
func (o *operations) Compare(ctx context.Context, config []byte, query event.Query, report func(event.Comparison)) (event.Comparison, error) {
	result := event.Comparison{Differences: []event.Difference{}}
	if !o.comparing.TryLock() {
		return result, event.Refuse(event.Conflict, "another config is being tried; wait for that")
	}
	defer o.comparing.Unlock()
	other, aliases, err := o.config.Load().posted(config)
	if err != nil {
		return result, err
	}
	if err := o.knows(query.Webhook); err != nil && !other.Has(query.Webhook) {
		return result, err
	}
	links := o.Links()
	otherLinks := maps.Clone(links)
	for place, target := range aliases {
		if _, learned := links[place]; !learned {
			otherLinks = otherLinks.With([]event.Link{{Space: place.Space, Alias: place.Name, Target: target}})
		}
	}
	err = o.Walk(ctx, query, func(events []event.Event) error {
		for i := range events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			e := &events[i]
			other.Restore(e)
			o.tap.now().Restore(e)
			compareOne(&result, e, query.Webhook, o.tap.now().Match(e, links), other.Match(e, otherLinks))
		}
		report(result)
		return nil
	})
	result.Done = err == nil
	return result, err
}

// compareOne adds what two configs make of an event.
func compareOne(result *event.Comparison, e *event.Event, only string, running, other []rules.Decision) {
	result.Events++
	result.Time = e.Time
	wanted := func(list []rules.Decision) map[string]bool {
		names := map[string]bool{}
		for _, d := range list {
			if d.Wanted && (only == "" || only == d.Webhook) {
				names[d.Webhook] = true
			}
		}
		return names
	}
	is, would := wanted(running), wanted(other)
	for _, name := range slices.Sorted(maps.Keys(would)) {
		if is[name] {
			result.Same++
			continue
		}
		result.Appear++
		differ(result, e, name, "appears")
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if !would[name] {
			result.Disappear++
			differ(result, e, name, "disappears")
		}
	}
	if slices.ContainsFunc(other, func(d rules.Decision) bool { return d.Doubtful() && (only == "" || only == d.Webhook) }) {
		result.Undecided++
	}
}

func differ(result *event.Comparison, e *event.Event, webhook, change string) {
	if result.Cut = len(result.Differences) >= maxDifferences; !result.Cut {
		result.Differences = append(result.Differences, event.Difference{
			Event: e.ID, Time: e.Time, Topic: e.Topic(), Entity: e.Entity.ID, Webhook: webhook, Change: change,
		})
	}
}

// posted are the rules and aliases of a config that somebody else wrote. No file
// and no variable that it names is read, so only what decides counts.
func (c *Config) posted(text []byte) (*rules.Rules, event.Links, error) {
	other := defaultConfig()
	var aliases event.Links
	err := setting.DecodeUnresolved("config", text, other, func(check setting.Check) {
		switch name := other.Proxy.Dialect; {
		case name == c.Proxy.Dialect:
			other.dialect = c.dialect
		case slices.Contains(rules.Builtin(), name):
			var err error
			if other.dialect, err = rules.LoadDialect(name); err != nil {
				check.Add("proxy.dialect", "%v", err)
			}
		default:
			check.Add("proxy.dialect", "a file is not read here; name a built-in dialect, or the one that runs (%s)", c.Proxy.Dialect)
		}
		aliases = other.links(check.In("aliases"))
		for i := range other.Webhooks {
			w, at := &other.Webhooks[i], check.In(fmt.Sprintf("webhooks[%d]", i))
			if w.Name == "" || slices.ContainsFunc(other.Webhooks[:i], func(one Webhook) bool { return one.Name == w.Name }) {
				at.Add("name", "give each webhook a name of its own")
			}
			w.Subscription.Validate(at)
		}
	})
	var problems setting.Problems
	if errors.As(err, &problems) {
		return nil, nil, event.Refuse(event.Invalid, "%v", problems)
	}
	if err != nil {
		return nil, nil, err
	}
	subscribers := make([]rules.Webhook, len(other.Webhooks))
	for i, w := range other.Webhooks {
		subscribers[i] = rules.Webhook{Name: w.Name, Subscription: w.Subscription}
	}
	return rules.New(other.dialect, subscribers), aliases, nil
}
