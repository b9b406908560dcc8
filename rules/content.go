package rules

import (
	"net/url"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// contentConfig says how the entities are read that a result only names.
type contentConfig struct {
	// Get is a path with ${ids}: up to 100 ids, with commas between them.
	Get string `yaml:"get"`
	// Each is the list in the answer, and ID the id of an item of it.
	Each string `yaml:"each"`
	ID   string `yaml:"id"`

	get, id template
	each    *expression.Program
}

// maxIDs is how many entities are asked for at a time, maxReads how many times.
const (
	maxIDs   = 100
	maxReads = 20
)

func compileContent(check place, c contentConfig) *contentConfig {
	if c.Get == "" && c.Each == "" && c.ID == "" {
		return nil
	}
	if !strings.Contains(c.Get, "ids") {
		check.Add("get", `want a path with ids in it, for example "/posts?ids=${ids}", not %q`, c.Get)
	}
	c.get = compileTemplate(check, "get", c.Get, append(slices.Clone(jobRoots), "ids"))
	c.each = compile(check, "each", c.Each, []string{"response"}, false)
	c.id = compileTemplate(check, "id", c.ID, []string{"item"})
	return &c
}

// Reads lists the paths that a job which was done wants to be read, as far as
// they are not in the exchange. Ask again once they are: what is read may name
// more.
func (r *Rules) Reads(x *event.Exchange) []string {
	of := r.dialect.named[x.Intent.Route]
	if of == nil || of.job == nil || x.Intent.Job == nil || x.Outcome != event.Done || len(x.Read) >= maxReads {
		return nil
	}
	response, _ := answerOf(x)
	common := r.scopeOf(x, of, response)
	var wanted []string
	want := func(path string) {
		if _, there := x.Read[path]; path != "" && !there && !slices.Contains(wanted, path) && len(x.Read)+len(wanted) < maxReads {
			wanted = append(wanted, path)
		}
	}
	for _, path := range of.job.read {
		want(path.known(escaped(common)))
	}
	if len(wanted) > 0 {
		return wanted
	}
	for _, route := range of.after {
		for _, path := range route.contentPaths(common) {
			want(path)
		}
	}
	return wanted
}

// contentPaths are the paths under which the entities of the route's items are.
func (r *route) contentPaths(common *expression.Scope) (paths []string) {
	if r.content == nil {
		return nil
	}
	var ids []string
	for _, item := range r.items(common) {
		if id := r.event["id"].known(common.With(map[string]any{"item": item})); id != "" {
			ids = append(ids, url.QueryEscape(id))
		}
	}
	for some := range slices.Chunk(ids, maxIDs) {
		paths = append(paths, r.content.get.known(escaped(common).With(map[string]any{"ids": strings.Join(some, ",")})))
	}
	return paths
}

// escaped is a scope whose path parameters are written as in a path.
func escaped(common *expression.Scope) *expression.Scope {
	root, _ := common.Root("path")
	plain, _ := root.(map[string]string)
	params := map[string]string{}
	for name, value := range plain {
		params[name] = url.PathEscape(value)
	}
	return common.With(map[string]any{"path": params})
}

// contents are the entities that were read for the route's items, by their ids.
func (r *route) contents(x *event.Exchange, common *expression.Scope) map[string]expression.Document {
	if r.content == nil {
		return nil
	}
	found := map[string]expression.Document{}
	for _, path := range r.contentPaths(common) {
		read, there := x.Read[path]
		if !there {
			continue
		}
		raw, state, _ := r.content.each.JSON(expression.NewScope(map[string]any{"response": readable(read)}))
		if state != expression.Present {
			continue
		}
		for _, item := range itemsOf(raw) {
			id := r.content.id.known(expression.NewScope(map[string]any{"item": item}))
			found[id], _ = item.(expression.Document)
		}
	}
	return found
}
