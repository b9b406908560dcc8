package rules

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/internal/expression"
	"cmstap/internal/setting"
)

// jobConfig is a work that the CMS promises in its answer and does later: how
// its result is found, and what that means.
type jobConfig struct {
	// When is a condition on the answer: it promises a job.
	When string `yaml:"when"`
	// Job is its id, and Poll the path of its result: /jobs/{job}. Other
	// parameters are those of the write's path.
	Job      string           `yaml:"job"`
	Poll     string           `yaml:"poll"`
	Deadline setting.Duration `yaml:"deadline"`
	// Running and Failed are conditions on the result, a 2xx answer; 404 means
	// that it runs. Unsure means that nobody can tell what was done.
	// Done is one that must be true; a result that none of them is for, or that
	// running and failed can not be asked, decides nothing.
	Running string `yaml:"running"`
	Failed  string `yaml:"failed"`
	Done    string `yaml:"done"`
	Unsure  string `yaml:"unsure"`
	// Answer is what counts as the answer of the write then; without it, the
	// result as it is.
	Answer string `yaml:"answer"`
	// Read names what else is read once it was done: paths, as templates.
	Read map[string]string `yaml:"read"`
	// Events are what the result means, if that is not what the route says. Then
	// the route's own events come at once.
	Events []routeConfig `yaml:"events"`

	when, running, failed, done, unsure *expression.Program
	id, answer                          template
	poll                                pattern
	read                                map[string]template
}

// usualDeadline is how long a job may take unless the dialect says otherwise.
const usualDeadline = time.Hour

var jobRoots = []string{"path", "header", "query", "uri", "body", "status", "response"}

func compileJob(check place, c jobConfig) *jobConfig {
	condition := func(key, source string) *expression.Program {
		if source == "" {
			return nil
		}
		return compile(check, key, source, jobRoots, true)
	}
	c.when, c.running, c.failed = condition("when", c.When), condition("running", c.Running), condition("failed", c.Failed)
	c.done, c.unsure = condition("done", c.Done), condition("unsure", c.Unsure)
	if c.Job == "" {
		check.Add("job", "say what the job's id is, for example ${response.data.id}")
	}
	c.id = compileTemplate(check, "job", c.Job, jobRoots)
	c.answer = compileTemplate(check, "answer", c.Answer, jobRoots)
	c.read = map[string]template{}
	for name, path := range c.Read {
		c.read[name] = compileTemplate(check, "read."+name, path, append(slices.Clone(jobRoots), "job"))
	}
	var err error
	if c.poll, err = parsePattern(c.Poll); err != nil || c.poll.open || !strings.Contains(c.Poll, "{job}") {
		check.Add("poll", "want the path of a job's result, for example /jobs/{job}, not %q", c.Poll)
	}
	c.Deadline = cmp.Or(c.Deadline, setting.Duration(usualDeadline))
	return &c
}

// Job returns the open job that an accepted write has become, nil if it is none.
// Its id follows from the intent's.
func (r *Rules) Job(x *event.Exchange) *event.Intent {
	route := r.dialect.named[x.Intent.Route]
	if route == nil || route.job == nil || x.Outcome != event.Done || x.Intent.Job != nil {
		return nil
	}
	c := route.job
	response, _ := answerOf(x)
	roots := r.dialect.rootsOf(x.Intent, route)
	roots["status"], roots["response"] = x.Status, response
	v := expression.NewScope(roots)
	id := c.id.known(v)
	if id == "" || c.when != nil && !c.when.Run(v).True() {
		return nil
	}
	params := r.dialect.params(route, r.dialect.again(x.Intent).path)
	params["job"] = id
	job := *x.Intent
	job.ID += "/job"
	job.Unrecorded = false
	job.Job = &event.Job{ID: id, Poll: c.poll.path(params), Until: x.Time.Add(c.Deadline.Std())}
	return &job
}

// Result says what a job's result tells. If the job was done, the exchange to go
// on with is returned too.
func (r *Rules) Result(x *event.Exchange, f event.Finding) (event.Verdict, *event.Exchange) {
	route := r.dialect.named[x.Intent.Route]
	if route == nil || route.job == nil || f.Status < 200 || f.Status > 299 {
		return event.Doubt, x
	}
	c := route.job
	roots := r.dialect.rootsOf(x.Intent, route)
	response := readable(f.Entity)
	roots["status"], roots["response"] = f.Status, response
	v := expression.NewScope(roots)
	is := func(p *expression.Program) bool { return p != nil && p.Run(v).True() }
	mute := func(p *expression.Program) bool { return p != nil && p.Run(v).State != expression.Present }
	switch {
	case response.JSON == nil, mute(c.running), mute(c.failed), is(c.running), c.done != nil && !is(c.done) && !is(c.failed):
		return event.Doubt, x
	case is(c.failed):
		return event.Rejected, x
	}
	done := *x
	if is(c.unsure) {
		return event.Accepted, &done // it goes out unconfirmed
	}
	done.Outcome, done.Status, done.Answer = event.Done, f.Status, f.Entity
	if c.answer != nil {
		raw, _, why := c.answer.json(v)
		done.Answer = event.Copy{Bytes: raw, Err: why}
		if raw != nil {
			done.Answer.Err = ""
		}
	}
	return event.Accepted, &done
}

// readable is a body as expressions see it.
func readable(body event.Copy) expression.Document {
	if body.Err != "" {
		return expression.Document{Why: body.Err}
	}
	if problem := jsonProblem(body.Bytes); problem != "" {
		return expression.Document{Why: "it " + problem}
	}
	return whole(body.Bytes)
}

// polls tells whether a request asks for the result of a job. One with a query
// may get only a part of it.
func (d *Dialect) polls(method, path string) bool {
	if method != "GET" {
		return false
	}
	segments := countSegments(path)
	for _, job := range d.jobs {
		if job.poll.mayMatch(segments) && job.poll.matches(path) {
			return true
		}
	}
	return false
}

// Poll is the path of the result that an observed request asked for, as an open
// job has it; "" if it asked for none.
func (r *Rules) Poll(x *event.Exchange) string {
	in := r.dialect.again(x.Intent)
	for _, job := range r.dialect.jobs {
		if in.method == "GET" && job.poll.matches(in.path) {
			return job.poll.path(job.poll.params(in.path))
		}
	}
	return ""
}
