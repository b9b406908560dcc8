package rules

import (
	"cmp"
	"embed"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

//go:embed dialects/*.yaml
var embedded embed.FS

// Dialect is what cmstap knows of a CMS: which requests write, what they mean,
// and the form of the CMS's own webhooks. It is read from a YAML file;
// docs/dialects.md describes the language.
type Dialect struct {
	Name string `yaml:"name"`
	// Include names a built-in dialect whose resources come after the own ones,
	// and whose other settings hold where this file has none.
	Include string `yaml:"include"`
	// Host is which Host header the CMS gets unless the config says otherwise:
	// upstream or preserve.
	Host string `yaml:"host"`
	// Match is which name of an environment the environments of webhooks are
	// compared with: address, the one that the caller used, or target, the one
	// that an alias leads to.
	Match string `yaml:"match"`
	// Headers and Query name what expressions may read of a request's headers
	// and query. It is kept on disk with the intent.
	Headers map[string]string `yaml:"headers"`
	Query   map[string]string `yaml:"query"`
	// Method and URI are what is meant if it is not what the request line says.
	Method string `yaml:"method"`
	URI    string `yaml:"uri"`
	// Path gives the value of path parameters that a path form leaves out.
	Path map[string]string `yaml:"path"`
	// Skip is a condition on a request: it changes nothing.
	Skip string `yaml:"skip"`
	// Wrapped says of which requests the answer holds status and body of the one
	// that counts.
	Wrapped   wrappedConfig            `yaml:"wrapped"`
	Resources []resource               `yaml:"resources"`
	Routes    map[string][]routeConfig `yaml:"routes"`
	Event     map[string]string        `yaml:"event"`
	Payloads  map[string]setting.Tree  `yaml:"payloads"`
	// Without names the fields that no payload has, by their paths.
	Without []string     `yaml:"without"`
	Native  nativeConfig `yaml:"native"`
	Links   []linkConfig `yaml:"links"`
	// Before says how an entity is read before a write that needs it.
	Before beforeConfig `yaml:"before"`
	// Keeps names payloads that do not show the entity, though it is what it was.
	Keeps []string `yaml:"keeps"`
	// Credentials names the request headers that let a caller read, and Token
	// what recovery.token becomes.
	Credentials []string               `yaml:"credentials"`
	Token       map[string]string      `yaml:"token"`
	Checks      map[string]checkConfig `yaml:"checks"`
	// Jobs are the works that answers promise, by name, and Job the one that any
	// write may become.
	Jobs map[string]jobConfig `yaml:"jobs"`
	Job  string               `yaml:"job"`

	skips        []string        // the sources, of an included dialect too
	reads        map[string]bool // the roots that its expressions read
	before       *beforeConfig
	kept         []*node
	payloadReads map[string]map[string]bool // the same of its payloads
	check        place                      // while it is compiled
	method, uri  template
	skip         []*expression.Program
	event        eventTemplates
	routes       map[string][]*route // by method, in the order of the file
	named        map[string]*route
	payloads     map[string]*node
	without      [][]string
	links        []linkConfig
	aliases      []string // names that can be nothing but an alias
	token        map[string]template
	checks       map[string]*checkConfig
	jobs         map[string]*jobConfig
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
	slices.Sort(names)
	return names
}

// LoadDialect reads a built-in dialect by its name, or a user's own by the path
// of its file (it has a slash or ends in .yaml). The error names every mistake
// of the file with its line.
func LoadDialect(name string) (*Dialect, error) {
	if !strings.Contains(name, "/") && !strings.HasSuffix(name, ".yaml") {
		return loadBuiltin(name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("the dialect can not be read: %w", err)
	}
	return ParseDialect(name, text)
}

func loadBuiltin(name string) (*Dialect, error) {
	file := "dialects/" + name + ".yaml"
	text, err := embedded.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("there is no dialect %q; built in: %s; or give the path of a file, ./my-cms.yaml", name, strings.Join(Builtin(), ", "))
	}
	return ParseDialect(file, text)
}

// ParseDialect reads a dialect. The error is setting.Problems.
func ParseDialect(file string, text []byte) (*Dialect, error) {
	d := &Dialect{
		routes: map[string][]*route{}, named: map[string]*route{}, payloads: map[string]*node{},
		token: map[string]template{}, checks: map[string]*checkConfig{}, jobs: map[string]*jobConfig{},
	}
	if err := setting.Decode(file, text, d, d.compile); err != nil {
		return nil, err
	}
	return d, nil
}

// The names that expressions of a dialect may use, by where they stand.
var (
	headRoots    = []string{"header", "query"}
	skipRoots    = []string{"path", "header", "query", "uri"}
	bodyRoots    = []string{"path", "header", "query", "uri", "request"}
	requestRoots = []string{"path", "header", "query", "uri", "body"}
	answerRoots  = append(slices.Clone(requestRoots), "status", "response", "location", "item", "before", "job", "read")
	payloadRoots = append(slices.Clone(answerRoots), "set", "type", "action", "topic", "space", "environment", "target", "aliases", "links", "cause", "entity", "time", "id", "related")
)

// compile compiles the file: first what its routes refer to, then the routes.
func (d *Dialect) compile(from setting.Check) {
	d.reads = map[string]bool{}
	d.check = place{Check: from}.reading(d.reads)
	d.include()
	check := d.check.knowing("header", d.Headers).knowing("query", d.Query).knowing("entity", entityProperties).
		knowing("path", d.parameters()).knowing("set", d.values())
	d.check = check
	if d.Name == "" {
		check.Add("name", "give the dialect a name")
	}
	if d.Host = cmp.Or(d.Host, "upstream"); d.Host != "upstream" && d.Host != "preserve" {
		check.Add("host", "must be upstream or preserve")
	}
	if d.Match = cmp.Or(d.Match, "address"); d.Match != "address" && d.Match != "target" {
		check.Add("match", "must be address or target")
	}
	d.refuseCredentials("headers", d.Headers)
	d.refuseCredentials("query", d.Query)
	d.method = compileTemplate(check, "method", d.Method, headRoots)
	d.uri = compileTemplate(check, "uri", d.URI, headRoots)
	for _, source := range d.skips {
		d.skip = append(d.skip, compile(check, "skip", source, skipRoots, true))
	}
	d.payloadReads = map[string]map[string]bool{}
	for name, tree := range d.Payloads {
		d.payloadReads[name] = map[string]bool{}
		d.payloads[name] = compileTree(check.In("payloads."+name).reading(d.payloadReads[name]), "", tree)
	}
	for i, name := range d.Keeps {
		if d.payloads[name] == nil {
			check.Add(indexed("keeps", i), "there is no payload %q under payloads%s", name, didYouMean(name, d.payloads))
		}
		d.kept = append(d.kept, d.payloads[name])
	}
	d.before = d.compileBefore(check.In("before"), d.Before)
	for name, c := range d.Checks {
		d.checks[name] = compileCheck(check.In("checks."+name), c)
	}
	for name, c := range d.Jobs {
		d.jobs[name] = compileJob(check.In("jobs."+name), c)
	}
	if d.Job != "" && d.jobs[d.Job] == nil {
		check.Add("job", "there is no job %q under jobs%s", d.Job, didYouMean(d.Job, d.jobs))
	}
	for name, text := range d.Token {
		d.token[name] = compileTemplate(check, "token."+name, text, []string{"token"})
	}
	for i, c := range d.Links {
		link := compileLink(check.In(indexed("links", i)), c)
		d.links = append(d.links, link)
		if name, constant := link.alias.constant(); constant {
			d.aliases = append(d.aliases, name)
		}
	}
	d.event = eventTemplates{}.with(check.In("event"), d.Event)
	d.Native.compile(check.In("native"))
	d.Wrapped.compile(check.In("wrapped"))
	d.without = compileWithout(check, d.Without)
	d.compileRoutes()
}

// compileRoutes makes the routes. Groups are compiled once more by themselves, so
// that mistakes are found in those that no resource names.
func (d *Dialect) compileRoutes() {
	for name, routes := range d.Routes {
		for i := range routes {
			at := d.check.In(fmt.Sprintf("routes.%s[%d]", name, i))
			checkMethods(at, routes[i].On)
			d.compileRoute(at, &routes[i], route{event: d.event, before: &beforeConfig{}})
		}
	}
	for i := range d.Resources {
		d.addResource(d.check.In(indexed("resources", i)), &d.Resources[i])
	}
}

// include takes over what this file does not say from the dialect that it names.
func (d *Dialect) include() {
	if d.Skip != "" {
		d.skips = append(d.skips, d.Skip)
	}
	if d.Include == "" {
		return
	}
	base, err := loadBuiltin(d.Include)
	if err != nil {
		d.check.Add("include", "%v", err)
		return
	}
	d.skips = append(d.skips, base.skips...)
	for _, res := range base.Resources {
		res.included = true
		d.Resources = append(d.Resources, res)
	}
	d.Host, d.Match = cmp.Or(d.Host, base.Host), cmp.Or(d.Match, base.Match)
	d.Method, d.URI = cmp.Or(d.Method, base.Method), cmp.Or(d.URI, base.URI)
	if d.Wrapped == (wrappedConfig{}) {
		d.Wrapped = wrappedConfig{When: base.Wrapped.When, Status: base.Wrapped.Status, Answer: base.Wrapped.Answer}
	}
	inherit(&d.Headers, base.Headers)
	inherit(&d.Query, base.Query)
	inherit(&d.Path, base.Path)
	inherit(&d.Event, base.Event)
	inherit(&d.Routes, base.Routes)
	inherit(&d.Payloads, base.Payloads)
	inherit(&d.Checks, base.Checks)
	inherit(&d.Jobs, base.Jobs)
	d.Job = cmp.Or(d.Job, base.Job)
	d.Keeps = append(d.Keeps, base.Keeps...)
	if d.Before.Get == "" {
		d.Before = beforeConfig{Get: base.Before.Get, Payload: base.Before.Payload}
	}
	inherit(&d.Token, base.Token)
	d.Links = append(d.Links, base.Links...)
	if d.Without == nil {
		d.Without = base.Without
	}
	if d.Credentials == nil {
		d.Credentials = base.Credentials
	}
	if d.Native.Headers == nil && d.Native.PerCall == nil && d.Native.ContentType == "" {
		d.Native = nativeConfig{ContentType: base.Native.ContentType, Headers: base.Native.Headers, PerCall: base.Native.PerCall}
	}
}

// inherit adds to a map what it does not have.
func inherit[V any](own *map[string]V, base map[string]V) {
	all := maps.Clone(base)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, *own)
	*own = all
}

func (d *Dialect) refuseCredentials(path string, names map[string]string) {
	for name, of := range names {
		stack := path == "headers" && of == "api_key" // Contentstack names the stack by it, in every webhook too
		if holdsCredential(of) && !stack {
			d.check.Add(path+"."+name, "%s holds a credential, and what a dialect reads is kept on disk; leave it out", of)
		}
	}
}

// holdsCredential tells from a name whether its value must not be kept.
func holdsCredential(name string) bool {
	plain := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	switch plain {
	case "cookie", "setcookie", "session", "sessionid", "sig", "jwt", "pwd", "otp", "pin":
		return true
	}
	for _, word := range []string{"authoriz", "token", "secret", "apikey", "accesskey", "password", "passwd", "credential", "signature"} {
		if strings.Contains(plain, word) {
			return true
		}
	}
	return false
}

// eventSettings are the keys of event.
var eventSettings = []string{"actor", "alias", "cause", "content_type", "environment", "id", "locale", "space", "target", "version", "within"}

// eventTemplates fill in who and what; a setting that is not there has no value.
type eventTemplates map[string]template

// with returns the templates after those that a resource or a route has of its
// own.
func (e eventTemplates) with(check place, own map[string]string) eventTemplates {
	if len(own) == 0 {
		return e
	}
	changed := maps.Clone(e)
	for name, source := range own {
		if !slices.Contains(eventSettings, name) {
			check.Add(name, "unknown key; known here: %s", strings.Join(eventSettings, ", "))
			continue
		}
		changed[name] = compileTemplate(check, name, source, answerRoots)
	}
	return changed
}

func (n *nativeConfig) compile(check place) {
	for _, name := range slices.Sorted(maps.Keys(n.Headers)) {
		n.headers = append(n.headers, nativeHeader{name, compileTemplate(check, "headers."+name, n.Headers[name], payloadRoots)})
	}
	for name, value := range n.PerCall {
		if call := event.PerCall(value); call != event.CallWebhook && call != event.CallAttempt {
			check.Add("per_call."+name, "must be %s or %s", event.CallWebhook, event.CallAttempt)
		}
	}
}

// place is a place in a file, and which names there are below the roots of
// expressions there, as far as that is known.
type place struct {
	setting.Check
	known map[string]map[string]string
	reads []map[string]bool // the roots that expressions read, filled in
}

// In is the place of a part.
func (p place) In(path string) place { return place{p.Check.In(path), p.known, p.reads} }

// reading is the place with another map of the roots that are read.
func (p place) reading(also map[string]bool) place {
	return place{p.Check, p.known, append(slices.Clip(p.reads), also)}
}

// knowing is the place with the names that are known below a root.
func (p place) knowing(root string, names map[string]string) place {
	known := maps.Clone(p.known)
	if known == nil {
		known = map[string]map[string]string{}
	}
	known[root] = names
	return place{p.Check, known, p.reads}
}

// entityProperties are what templates may read of the event's entity.
var entityProperties = map[string]string{"type": "", "id": "", "content_type": "", "version": "", "locale": ""}

var parameter = regexp.MustCompile(`\{([\w-]+)\}`)

// parameters are the names of all parameters of paths.
func (d *Dialect) parameters() map[string]string {
	found := maps.Clone(d.Path)
	if found == nil {
		found = map[string]string{}
	}
	add := func(paths []string) {
		for _, match := range parameter.FindAllStringSubmatch(strings.Join(paths, " "), -1) {
			found[match[1]] = ""
		}
	}
	for _, res := range d.Resources {
		add(res.Paths)
	}
	for _, routes := range d.Routes {
		for _, r := range routes {
			add(r.On)
		}
	}
	for _, link := range d.Links {
		add(link.On)
	}
	return found
}

// values are the names of everything that resources set.
func (d *Dialect) values() map[string]string {
	found := map[string]string{}
	for _, res := range d.Resources {
		maps.Copy(found, res.Set)
	}
	return found
}

// compile compiles an expression and reports what is wrong with it.
func compile(check place, path, source string, roots []string, boolean bool) *expression.Program {
	program, err := expression.Compile(source, expression.Options{Roots: roots, Bool: boolean})
	if err != nil {
		hint := ""
		if strings.HasSuffix(err.Error(), "unexpected token EOF") {
			hint = "; it ends too early: in YAML a # after a space begins a comment, unless all is in quotes"
		}
		check.Add(path, "in %q: %v%s", source, err, hint)
		return nil
	}
	for _, read := range program.Paths() {
		for _, reads := range check.reads {
			reads[read.Root] = true
		}
		names, known := check.known[read.Root]
		if !known || len(read.Parts) == 0 || read.Parts[0] == "*" {
			continue
		}
		if _, there := names[read.Parts[0]]; !there {
			check.Add(path, "in %q: there is no %s.%s%s", source, read.Root, read.Parts[0], didYouMean(read.Parts[0], names))
		}
	}
	return program
}
