package rules

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

//go:embed dialects/*.yaml
var embedded embed.FS

// Dialect is what cmstap knows of a CMS: which requests write, what they mean,
// and the form of the CMS's own webhooks. It is read from a YAML file.
type Dialect struct {
	Name string `yaml:"name"`
	// Host is which Host header the CMS gets unless the config says otherwise:
	// upstream or preserve.
	Host string `yaml:"host"`
	// Path gives the value of path parameters that a path form leaves out.
	Path      map[string]string        `yaml:"path"`
	Headers   map[string]string        `yaml:"headers"`
	Skip      string                   `yaml:"skip"`
	Resources []resource               `yaml:"resources"`
	Routes    map[string][]routeConfig `yaml:"routes"`
	Event     eventConfig              `yaml:"event"`
	Payloads  map[string]setting.Tree  `yaml:"payloads"`
	Native    nativeConfig             `yaml:"native"`
	Links     []linkConfig             `yaml:"links"`
	// Credentials names the request headers that let a caller read, and Token
	// what recovery.token becomes.
	Credentials []string               `yaml:"credentials"`
	Token       map[string]string      `yaml:"token"`
	Checks      map[string]checkConfig `yaml:"checks"`

	skip     *expression.Program
	routes   map[string][]*route // by method
	payloads map[string]*node
	links    []linkConfig
	token    map[string]template
	checks   map[string]*checkConfig
}

type resource struct {
	Type   string            `yaml:"type"`
	Paths  []string          `yaml:"paths"`
	Routes []string          `yaml:"routes"`
	Set    map[string]string `yaml:"set"`
	// Event gives settings of the dialect's event another value for this
	// resource; an empty one means that its events have none.
	Event map[string]string `yaml:"event"`
}

type routeConfig struct {
	On      string         `yaml:"on"`
	Success []int          `yaml:"success"`
	Final   []int          `yaml:"final"`
	Action  string         `yaml:"action"`
	Actions []actionConfig `yaml:"actions"`
	Payload string         `yaml:"payload"`
	// Check names how a doubt is settled; without one, doubts stay.
	Check string `yaml:"check"`
	// Gone says that the entity is no more afterwards.
	Gone bool `yaml:"gone"`
}

type actionConfig struct {
	Action string `yaml:"action"`
	When   string `yaml:"when"`

	when *expression.Program
}

type eventConfig struct {
	Space       string `yaml:"space"`
	Environment string `yaml:"environment"`
	// Alias and Target are for changes of an alias; else what is known of the
	// environment fills them in.
	Alias       string `yaml:"alias"`
	Target      string `yaml:"target"`
	ID          string `yaml:"id"`
	ContentType string `yaml:"content_type"`
	Version     string `yaml:"version"`
	Actor       string `yaml:"actor"`

	space, environment, alias, target, id, contentType, version, actor template
}

type nativeConfig struct {
	ContentType string            `yaml:"content_type"`
	Headers     map[string]string `yaml:"headers"`
	PerCall     map[string]string `yaml:"per_call"`

	headers []nativeHeader
}

type nativeHeader struct {
	name  string
	value template
}

// Builtin lists the dialects that come with cmstap, sorted.
func Builtin() []string {
	files, _ := embedded.ReadDir("dialects")
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(file.Name(), ".yaml")
	}
	return names
}

// LoadDialect reads a built-in dialect by its name, or a user's own by the path
// of its file (it has a slash or ends in .yaml). The error names every mistake
// of the file with its line.
func LoadDialect(name string) (*Dialect, error) {
	file := "dialects/" + name + ".yaml"
	text, err := embedded.ReadFile(file)
	if strings.Contains(name, "/") || strings.HasSuffix(name, ".yaml") {
		file = name
		text, err = os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("the dialect can not be read: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("there is no dialect %q; built in: %s; or give the path of a file, ./my-cms.yaml", name, strings.Join(Builtin(), ", "))
	}
	return ParseDialect(file, text)
}

// ParseDialect reads a dialect. The error is setting.Problems.
func ParseDialect(file string, text []byte) (*Dialect, error) {
	d := &Dialect{
		Host: "upstream", routes: map[string][]*route{}, payloads: map[string]*node{},
		token: map[string]template{}, checks: map[string]*checkConfig{},
	}
	if err := setting.Decode(file, text, d, d.compile); err != nil {
		return nil, err
	}
	return d, nil
}

// The names that expressions of a dialect may use, by where they stand.
var (
	headRoots    = []string{"path", "header"}
	answerRoots  = []string{"path", "header", "status", "response"}
	payloadRoots = []string{"path", "header", "status", "response", "before", "set", "type", "action", "topic", "space", "environment", "entity", "time", "id"}
)

func (d *Dialect) compile(check setting.Check) {
	if d.Name == "" {
		check.Add("name", "give the dialect a name")
	}
	if d.Host != "upstream" && d.Host != "preserve" {
		check.Add("host", "must be upstream or preserve")
	}
	if d.Skip != "" {
		d.skip = compile(check, "skip", d.Skip, headRoots, true)
	}
	for name, header := range d.Headers {
		if holdsCredential(header) {
			check.Add("headers."+name, "the header %s holds a credential, and what a dialect reads is kept on disk; leave it out", header)
		}
	}
	for name, tree := range d.Payloads {
		d.payloads[name] = compileTree(check.In("payloads."+name), tree)
	}
	for name, c := range d.Checks {
		d.checks[name] = compileCheck(check.In("checks."+name), c)
	}
	for name, text := range d.Token {
		d.token[name] = compileTemplate(check, "token."+name, text, []string{"token"})
	}
	for i, c := range d.Links {
		d.links = append(d.links, compileLink(check.In(indexed("links", i)), c))
	}
	for name, routes := range d.Routes {
		for i := range routes {
			d.compileRoute(check.In(fmt.Sprintf("routes.%s[%d]", name, i)), &routes[i])
		}
	}
	d.Event.compile(check.In("event"))
	for i, res := range d.Resources {
		d.addResource(check.In(fmt.Sprintf("resources[%d]", i)), res)
	}
	d.Native.compile(check.In("native"))
}

// holdsCredential tells from a header's name whether its value must not be kept.
func holdsCredential(header string) bool {
	name := strings.ToLower(header)
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	for _, word := range []string{"token", "secret", "api-key", "apikey", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func (d *Dialect) compileRoute(check setting.Check, r *routeConfig) {
	if method, _, _ := strings.Cut(r.On, " "); method == "" || method != strings.ToUpper(method) {
		check.Add("on", "want a method and what follows the path, for example PUT /{id}, not %q", r.On)
	}
	if len(r.Success) == 0 {
		check.Add("success", "list the statuses that mean it happened, for example [200]")
	}
	if r.Payload != "" && d.payloads[r.Payload] == nil {
		check.Add("payload", "there is no payload %q under payloads", r.Payload)
	}
	if r.Check != "" && d.checks[r.Check] == nil {
		check.Add("check", "there is no check %q under checks", r.Check)
	}
	compileActions(check, r)
}

func compileActions(check setting.Check, r *routeConfig) {
	if r.Action != "" {
		r.Actions = append(r.Actions, actionConfig{Action: r.Action})
	}
	if len(r.Actions) == 0 {
		check.Add("", "name the action, or a list of actions")
	}
	for i := range r.Actions {
		if when := r.Actions[i].When; when != "" {
			r.Actions[i].when = compile(check, fmt.Sprintf("actions[%d].when", i), when, answerRoots, true)
		} else if i < len(r.Actions)-1 {
			check.Add(fmt.Sprintf("actions[%d]", i), "only the last action may stand without a when")
		}
	}
}

// addResource makes a route of each path form and each route of the groups
// that the resource names.
func (d *Dialect) addResource(check setting.Check, res resource) {
	if res.Type == "" {
		check.Add("type", "name the type of the entities")
	}
	own := d.Event.with(check.In("event"), res.Event)
	for i, group := range res.Routes {
		if _, known := d.Routes[group]; !known {
			check.Add(fmt.Sprintf("routes[%d]", i), "there is no group %q; known: %s", group, strings.Join(slices.Sorted(maps.Keys(d.Routes)), ", "))
		}
		for _, config := range d.Routes[group] {
			method, rest, _ := strings.Cut(config.On, " ")
			for n, path := range res.Paths {
				pattern, err := parsePattern(path + rest)
				if err != nil {
					check.Add(fmt.Sprintf("paths[%d]", n), "%v", err)
					continue
				}
				d.routes[method] = append(d.routes[method], &route{
					name: method + " " + path + rest, typ: res.Type, pattern: pattern, config: config, set: res.Set, event: own,
				})
			}
		}
	}
}

func (e *eventConfig) compile(check setting.Check) {
	e.space = compileTemplate(check, "space", e.Space, answerRoots)
	e.environment = compileTemplate(check, "environment", e.Environment, answerRoots)
	e.alias = compileTemplate(check, "alias", e.Alias, answerRoots)
	e.target = compileTemplate(check, "target", e.Target, answerRoots)
	e.id = compileTemplate(check, "id", e.ID, answerRoots)
	e.contentType = compileTemplate(check, "content_type", e.ContentType, answerRoots)
	e.version = compileTemplate(check, "version", e.Version, answerRoots)
	e.actor = compileTemplate(check, "actor", e.Actor, answerRoots)
}

// with returns the settings after those that a resource has of its own.
func (e *eventConfig) with(check setting.Check, own map[string]string) *eventConfig {
	if len(own) == 0 {
		return e
	}
	changed := *e
	settings := map[string]*template{
		"space": &changed.space, "environment": &changed.environment, "alias": &changed.alias, "target": &changed.target,
		"id": &changed.id, "content_type": &changed.contentType, "version": &changed.version, "actor": &changed.actor,
	}
	for name, source := range own {
		if settings[name] == nil {
			check.Add(name, "unknown key; known here: %s", strings.Join(slices.Sorted(maps.Keys(settings)), ", "))
			continue
		}
		*settings[name] = compileTemplate(check, name, source, answerRoots)
	}
	return &changed
}

func (n *nativeConfig) compile(check setting.Check) {
	for _, name := range slices.Sorted(maps.Keys(n.Headers)) {
		n.headers = append(n.headers, nativeHeader{name, compileTemplate(check, "headers."+name, n.Headers[name], payloadRoots)})
	}
	for name, value := range n.PerCall {
		if call := event.PerCall(value); call != event.CallWebhook && call != event.CallAttempt {
			check.Add("per_call."+name, "must be %s or %s", event.CallWebhook, event.CallAttempt)
		}
	}
}

// compile compiles an expression and reports what is wrong with it.
func compile(check setting.Check, path, source string, roots []string, boolean bool) *expression.Program {
	program, err := expression.Compile(source, expression.Options{Roots: roots, Bool: boolean})
	if err != nil {
		check.Add(path, "in %q: %v", source, err)
	}
	return program
}

// route is one method and path form of a dialect.
type route struct {
	name    string
	typ     string
	pattern pattern
	config  routeConfig
	set     map[string]string
	event   *eventConfig
}

// Statuses that mean something by themselves; net/http stays out of this
// package.
const (
	statusOK                 = 200
	statusNotFound           = 404
	statusNotImplemented     = 501
	statusServiceUnavailable = 503
)

// Judge tells what a status means: the dialect's list of successes, and what
// everyone agrees to be a refusal. Other answers leave doubt.
func (r *route) Judge(status int) event.Verdict {
	switch {
	case slices.Contains(r.config.Success, status):
		return event.Accepted
	case status >= 400 && status < 500, status == statusNotImplemented, status == statusServiceUnavailable,
		slices.Contains(r.config.Final, status):
		return event.Rejected
	default:
		return event.Doubt
	}
}

// find returns the route of a request and its path parameters, or nil.
func (d *Dialect) find(method, path string) (*route, map[string]string) {
	path = resolveDots(path)
	for _, r := range d.routes[method] {
		if r.pattern.matches(path) {
			params := r.pattern.params(path)
			for name, value := range d.Path {
				if _, given := params[name]; !given {
					params[name] = value
				}
			}
			return r, params
		}
	}
	return nil, nil
}

// headersOf copies the headers that the dialect names.
func (d *Dialect) headersOf(from event.Headers) map[string]string {
	found := map[string]string{}
	for name, header := range d.Headers {
		if value := from.Get(header); value != "" {
			found[name] = clone(value)
		}
	}
	return found
}

func (d *Dialect) headScope(params, headers map[string]string) *expression.Scope {
	return expression.NewScope(map[string]any{"path": params, "header": headers})
}

func clone(s string) string { return strings.Clone(s) }
