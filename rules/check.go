package rules

import (
	"net/url"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// checkConfig says how a write whose outcome nobody saw is settled: what the
// entity, read later, must show.
type checkConfig struct {
	// Version is the version that the write makes, if the request tells.
	Version    string `yaml:"version"`
	Applied    string `yaml:"applied"`
	NotApplied string `yaml:"not_applied"`

	version             template
	applied, notApplied *expression.Program
}

// The names that a check may use: what the request said, the status and the
// answer of reading the entity, when the write began by the CMS's clock, the
// version of the entity's last event, then and now, and how many versions had an
// event in between.
var checkRoots = append(slices.Clone(requestRoots), "status", "response", "began", "known", "seen", "others")

func compileCheck(at place, c checkConfig) *checkConfig {
	c.version = compileTemplate(at, "version", c.Version, checkRoots)
	for _, condition := range []struct {
		key, source string
		into        **expression.Program
	}{{"applied", c.Applied, &c.applied}, {"not_applied", c.NotApplied, &c.notApplied}} {
		if condition.source == "" {
			at.Add(condition.key, "say what the entity shows then, for example status == 404")
			continue
		}
		*condition.into = compile(at, condition.key, condition.source, checkRoots, true)
	}
	return &c
}

// Question returns the path of the entity that a write is about, for a GET
// that settles a doubt. It is not ok if the dialect knows no way to settle it.
func (r *Rules) Question(intent *event.Intent) (path string, ok bool) {
	route := r.dialect.named[intent.Route]
	if route == nil || route.check == nil {
		return "", false
	}
	return route.pattern.through(r.dialect.again(intent).path, "id")
}

// Key is the key of the entity that an intent is about, by what is known of
// aliases now.
func (r *Rules) Key(intent *event.Intent, links event.Links) string {
	route := r.dialect.named[intent.Route]
	if route == nil {
		return ""
	}
	key, _ := route.entity(r.dialect.rootsOf(intent, route), links)
	return key
}

// Credentials returns the headers that recovery.token stands for.
func (r *Rules) Credentials(token string) event.Credentials {
	if token == "" {
		return nil
	}
	headers := event.Credentials{}
	v := expression.NewScope(map[string]any{"token": token})
	for name, t := range r.dialect.token {
		headers[name] = t.known(v)
	}
	return headers
}

// Resolve says what the entity tells of a write in doubt. If the write was
// done, the exchange to go on with is returned too.
func (r *Rules) Resolve(x *event.Exchange, f event.Finding) (event.Verdict, *event.Exchange) {
	route := r.dialect.named[x.Intent.Route]
	if route == nil || route.check == nil || f.Status != statusOK && f.Status != statusNotFound {
		return event.Doubt, x
	}
	check := route.check
	roots := r.dialect.rootsOf(x.Intent, route)
	roots["status"], roots["response"] = f.Status, entityOf(f)
	roots["known"], roots["seen"] = int(x.Intent.Last.Version), int(f.Last.Version)
	roots["others"] = int(f.Last.Count - x.Intent.Last.Count)
	if !f.Began.IsZero() {
		roots["began"] = timestamp(f.Began)
	}
	v := expression.NewScope(roots)
	switch {
	case check.notApplied.Run(v).True():
		return event.Rejected, x
	case check.applied.Run(v).True():
		return event.Accepted, route.resolved(x, f, v)
	default:
		return event.Doubt, x
	}
}

// resolved is the exchange of a write that turned out to be done. The entity
// counts as its answer unless it has changed again since.
func (r *route) resolved(x *event.Exchange, f event.Finding, v *expression.Scope) *event.Exchange {
	done := *x
	done.Outcome, done.Resolved, done.Status, done.Answer = event.Done, true, 0, event.Copy{}
	done.Version = versionOf(r.check.version.known(v))
	if f.Status != statusOK {
		return &done
	}
	version := versionOf(r.event["version"].known(v))
	if done.Version == 0 || done.Version == version {
		done.Version, done.Answer = version, f.Entity
	} else {
		done.Answer = event.Copy{Err: "the entity changed again before it could be read"}
	}
	return &done
}

func entityOf(f event.Finding) expression.Document {
	if f.Status != statusOK {
		return expression.Document{Why: "there is no such entity"}
	}
	return readable(f.Entity)
}

// through returns the path up to and with that parameter.
func (p *pattern) through(path, param string) (string, bool) {
	path = strings.TrimRight(path, "/")
	rest := p.end(path)
	result := path[:len(path)-len(rest)]
	for _, segment := range p.segments {
		var text string
		text, rest = nextSegment(rest)
		result += "/" + url.PathEscape(unescape(text))
		if segment.param && segment.text == param {
			return result, true
		}
	}
	return "", false
}
