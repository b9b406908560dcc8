package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// resource is a kind of entity: where it is, and which routes it has.
type resource struct {
	Type   string            `yaml:"type"` // may hold expressions: ${path.collection}
	Paths  []string          `yaml:"paths"`
	Routes []string          `yaml:"routes"`
	Set    map[string]string `yaml:"set"`
	// Event gives settings of the dialect's event another value for this
	// resource; an empty one means that its events have none.
	Event map[string]string `yaml:"event"`
	// Skip is a condition on a request: it changes nothing.
	Skip string `yaml:"skip"`
	// Before takes the place of the dialect's.
	Before beforeConfig `yaml:"before"`
	// Related is another entity whose state payloads may read.
	Related struct {
		Type string `yaml:"type"`
		ID   string `yaml:"id"`
	} `yaml:"related"`

	included bool // it is of the included dialect
}

// routeConfig is what a request means that has one of these methods and ends.
type routeConfig struct {
	On []string `yaml:"on"` // PUT /{id}
	// When is a condition on the request; if it is false the next route is
	// tried. Pass says that the request changes nothing.
	When string `yaml:"when"`
	Pass bool   `yaml:"pass"`
	// Success and Final are statuses (201) and classes (2xx) that mean that it
	// happened, or did not.
	Success []string `yaml:"success"`
	Final   []string `yaml:"final"`
	// Body names what is read from the request's body before it is forwarded.
	Body map[string]string `yaml:"body"`
	// Each is a list: every item is an event of its own.
	Each string `yaml:"each"`
	Type string `yaml:"type"`
	// Types are what a type with expressions in it may be.
	Types   []string          `yaml:"types"`
	Event   map[string]string `yaml:"event"`
	Action  []string          `yaml:"action"`
	Actions []actionConfig    `yaml:"actions"`
	Payload string            `yaml:"payload"`
	// Content says how the entities of a job's result are read.
	Content contentConfig `yaml:"content"`
	// Format is what the answer is: json, text or event-stream.
	Format string `yaml:"format"`
	// Accepted says that the answer only promises.
	Accepted bool `yaml:"accepted"`
	// Needs may be before: if it is not known what the entity was, it is read
	// before the request is forwarded.
	Needs string `yaml:"needs"`
	// Check names how a doubt is settled; without one, doubts stay.
	Check string `yaml:"check"`
	// Job names the work that the write may become, if it is not the dialect's.
	Job string `yaml:"job"`
	// Gone says that the entity is no more afterwards.
	Gone bool `yaml:"gone"`

	result bool // it is what the result of a job means
}

// actionConfig is what happened, under a condition. Several actions are several
// events of one entity.
type actionConfig struct {
	Action []string `yaml:"action"`
	When   string   `yaml:"when"`
}

// route is a routeConfig of one resource, for one method and path form.
type route struct {
	name    string // no other route of the dialect has it; intents keep it
	pattern pattern
	set     map[string]string

	when    *expression.Program   // nil: always
	skip    []*expression.Program // any of them
	pass    bool
	success statuses
	final   statuses
	body    map[string]*expression.Program
	each    *expression.Program
	typ     template
	types   []string
	event   eventTemplates
	actions []action
	payload *node // nil: the answer, or the item, as it is
	content *contentConfig
	check   *checkConfig
	job     *jobConfig
	after   []*route // what the result of the job means; none: the same

	related struct {
		typ string
		id  template // nil: there is none
	}
	before *beforeConfig // of the resource or the dialect
	needs  *beforeConfig // nil: nothing is read before
	// readsBefore says that an action or the payload depends on what was, and
	// readsRelated that the payload depends on the related entity.
	readsBefore, readsRelated bool

	format         string
	accepted, gone bool
}

type action struct {
	names []string
	when  *expression.Program // nil: always
}

// statuses are what a list such as [200, 2xx] stands for.
type statuses []string

func (s statuses) contain(status int) bool {
	text := strconv.Itoa(status)
	return slices.Contains(s, text) || len(text) == 3 && slices.Contains(s, text[:1]+"xx")
}

// The answers that mean success unless the route says otherwise. 202 is not one
// of them: it only promises.
var usualSuccess = statuses{"200", "201", "204"}

// compileRoute compiles what a route says; base holds what its resource says.
func (d *Dialect) compileRoute(check place, c *routeConfig, base route) route {
	r := base
	reads := map[string]bool{}
	check = check.knowing("body", c.Body).reading(reads)
	if len(c.On) == 0 {
		check.Add("on", "want a method and what follows the path, for example PUT /{id}")
	}
	if c.When != "" {
		r.when = compile(check, "when", c.When, requestRoots, true)
	}
	r.pass, r.accepted, r.gone = c.Pass, c.Accepted, c.Gone
	r.format = checkFormat(check, c.Format)
	r.success, r.final = usualSuccess, compileStatuses(check, "final", c.Final)
	if len(c.Success) > 0 {
		r.success = compileStatuses(check, "success", c.Success)
	}
	r.body = compileBody(check, c.Body)
	if c.Each != "" {
		r.each = compile(check, "each", c.Each, answerRoots, false)
	}
	if c.Type != "" {
		r.typ = compileTemplate(check, "type", c.Type, answerRoots)
	}
	r.types = c.Types
	checkTypes(check, c.Types)
	r.event = base.event.with(check.In("event"), c.Event)
	r.actions = compileActions(check, c)
	r.content = compileContent(check.In("content"), c.Content)
	if r.payload = d.payloads[c.Payload]; c.Payload != "" && r.payload == nil {
		check.Add("payload", "there is no payload %q under payloads%s", c.Payload, didYouMean(c.Payload, d.payloads))
	}
	inPayload := d.payloadReads[c.Payload]
	r.readsBefore, r.readsRelated = reads["before"] || inPayload["before"], inPayload["related"]
	if r.needs = r.before; c.Needs == "" {
		r.needs = nil
	} else if c.Needs != "before" {
		check.Add("needs", "must be before, or left out")
	} else if r.before == nil {
		check.Add("needs", "say under before how the entity is read, for example before: { get: /posts/${path.id} }")
	}
	if r.check = d.checks[c.Check]; c.Check != "" && r.check == nil {
		check.Add("check", "there is no check %q under checks%s", c.Check, didYouMean(c.Check, d.checks))
	}
	if !c.result {
		d.compileRouteJob(check, c, &r, base)
	}
	return r
}

// compileRouteJob compiles what the result of a route's job means.
func (d *Dialect) compileRouteJob(check place, c *routeConfig, r *route, base route) {
	name := cmp.Or(c.Job, d.Job)
	r.job = d.jobs[name]
	if c.Job != "" && r.job == nil {
		check.Add("job", "there is no job %q under jobs%s", c.Job, didYouMean(c.Job, d.jobs))
	}
	if r.job == nil {
		return
	}
	for i, events := range r.job.Events {
		events.On, events.Body, events.result = c.On, c.Body, true
		after := d.compileRoute(d.check.In(fmt.Sprintf("jobs.%s.events[%d]", name, i)), &events, base)
		r.after = append(r.after, &after)
	}
}

func checkTypes(check place, types []string) {
	for i, typ := range types {
		if !isWord(typ) {
			check.Add(indexed("types", i), "want a word of letters, digits, - and _, not %q; it is the first half of a topic", typ)
		}
	}
}

func compileStatuses(check place, path string, list []string) statuses {
	for i, text := range list {
		if len(text) != 3 || text[0] < '1' || text[0] > '9' || text[1:] != "xx" && strings.Trim(text, "0123456789") != "" {
			check.Add(indexed(path, i), "want a status such as 201, or a class such as 2xx, not %q", text)
		}
	}
	return list
}

func compileBody(check place, sources map[string]string) map[string]*expression.Program {
	if len(sources) == 0 {
		return nil
	}
	body := map[string]*expression.Program{}
	for name, source := range sources {
		program := compile(check, "body."+name, source, bodyRoots, false)
		if program == nil {
			continue
		}
		body[name] = program
		if strings.TrimSpace(source) == "request" {
			check.Add("body."+name, "it is all of the body, and what a dialect reads is kept on disk; name what is needed of it")
		}
		for _, read := range program.Paths() {
			if slices.ContainsFunc(read.Parts, holdsCredential) {
				check.Add("body."+name, "%s holds a credential, and what a dialect reads is kept on disk; leave it out", read)
			}
		}
	}
	return body
}

func compileActions(check place, c *routeConfig) []action {
	list := slices.Clone(c.Actions)
	if len(c.Action) > 0 {
		list = append(list, actionConfig{Action: c.Action})
	}
	if len(list) == 0 && !c.Pass {
		check.Add("", "name the action, or a list of actions; or say pass: true if nothing changes")
	}
	actions := make([]action, len(list))
	for i, one := range list {
		path := indexed("actions", i)
		actions[i].names = one.Action
		if len(one.Action) == 0 {
			check.Add(path, "name the action")
		}
		for _, name := range one.Action {
			if !isWord(name) {
				check.Add(path, "want a word of letters, digits, - and _, not %q; it is the second half of a topic", name)
			}
		}
		if one.When != "" {
			actions[i].when = compile(check, path+".when", one.When, answerRoots, true)
		} else if i < len(list)-1 {
			check.Add(path, "only the last action may stand without a when")
		}
	}
	return actions
}

// isWord tells whether a text may be half of a topic.
func isWord(text string) bool {
	return text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// addResource makes a route of each path form and each route of the groups that
// the resource names.
func (d *Dialect) addResource(check place, res *resource) {
	if res.Type == "" {
		check.Add("type", "name the type of the entities")
	} else if !strings.Contains(res.Type, "${") && !isWord(res.Type) {
		check.Add("type", "want a word of letters, digits, - and _, not %q; it is the first half of a topic", res.Type)
	}
	if len(res.Paths) == 0 {
		check.Add("paths", "name the path, for example [/api/posts]")
	}
	base := route{
		set: res.Set, skip: slices.Clip(d.skip), typ: compileTemplate(check, "type", res.Type, answerRoots),
		event: d.event.with(check.In("event"), res.Event),
	}
	if base.related.typ = res.Related.Type; res.Related.ID != "" {
		base.related.id = compileTemplate(check.In("related"), "id", res.Related.ID, answerRoots)
	}
	if base.before = d.compileBefore(check.In("before"), res.Before); base.before == nil {
		base.before = d.before
	}
	if res.Skip != "" {
		base.skip = append(base.skip, compile(check, "skip", res.Skip, skipRoots, true))
	}
	for i, group := range res.Routes {
		routes, known := d.Routes[group]
		if !known {
			check.Add(indexed("routes", i), "there is no group %q under routes%s", group, didYouMean(group, d.Routes))
		}
		for n := range routes {
			compiled := d.compileRoute(d.check.In(fmt.Sprintf("routes.%s[%d]", group, n)), &routes[n], base)
			for _, on := range routes[n].On {
				d.addRoutes(check, compiled, on, res.Paths, res.included)
			}
		}
	}
}

// addRoutes adds a route under every path form of its resource.
func (d *Dialect) addRoutes(check place, r route, on string, paths []string, included bool) {
	method, rest, _ := strings.Cut(on, " ")
	for n, path := range paths {
		p, err := parsePattern(path + rest)
		if err != nil {
			check.Add(indexed("paths", n), "%v", err)
			continue
		}
		r.pattern, r.name = p, method+" "+path+rest
		for _, before := range d.routes[method] {
			if before.when == nil && len(before.skip) == len(d.skip) && before.pattern.covers(&p) && !included {
				check.Add(indexed("paths", n), "%s is never reached: %s comes before it", r.name, before.name)
			}
		}
		d.add(method, r)
	}
}

// add adds a route, and to a name that is taken a number.
func (d *Dialect) add(method string, r route) {
	name := r.name
	for twin := 2; d.named[r.name] != nil; twin++ {
		r.name = fmt.Sprintf("%s #%d", name, twin)
	}
	d.named[r.name] = &r
	d.routes[method] = append(d.routes[method], &r)
}

func checkMethods(check place, on []string) {
	for _, text := range on {
		if method, _, _ := strings.Cut(text, " "); method == "" || method != strings.ToUpper(method) {
			check.Add("on", "want a method and what follows the path, for example PUT /{id}, not %q", text)
		}
	}
}

// didYouMean names the known word that a mistyped one stands for, or all.
func didYouMean[V any](word string, known map[string]V) string {
	names := slices.Sorted(maps.Keys(known))
	if near := setting.Nearest(word, names); near != "" {
		return "; did you mean " + near + "?"
	}
	if len(names) == 0 {
		return "; there is none"
	}
	return "; known: " + strings.Join(names, ", ")
}

// Statuses that mean something by themselves; net/http stays out of this
// package.
const (
	statusOK                 = 200
	statusAccepted           = 202
	statusNotFound           = 404
	statusNotImplemented     = 501
	statusServiceUnavailable = 503
)

// Judge tells what a status means: the dialect's list of successes, and what
// everyone agrees to be a refusal. Other answers leave doubt.
func (r *route) Judge(status int) event.Verdict {
	switch {
	case r.success.contain(status):
		return event.Accepted
	case r.final.contain(status), status >= 400 && status < 500, status == statusNotImplemented, status == statusServiceUnavailable:
		return event.Rejected
	default:
		return event.Doubt
	}
}

// skipped returns the condition by which a request changes nothing, nil if there
// is none.
func (r *route) skipped(scope *expression.Scope) *expression.Program {
	for _, skip := range r.skip {
		if skip != nil && skip.Run(scope).True() {
			return skip
		}
	}
	return nil
}

// happened returns the actions of the first condition that holds. If none does,
// the last one counts where it could not be decided: doubt delivers.
func (r *route) happened(scope *expression.Scope) []string {
	for i, a := range r.actions {
		if a.when == nil {
			return a.names
		}
		result := a.when.Run(scope)
		if result.True() || i == len(r.actions)-1 && undecided(result) {
			return a.names
		}
	}
	return nil
}
