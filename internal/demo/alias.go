package demo

import (
	"encoding/json"
	"maps"
	"slices"
)

const (
	environmentsOf = "/environments"
	aliasesOf      = "/environment_aliases"
)

// target is the environment that a name stands for: that of an alias, or its own. The caller holds the lock.
func (a *ContentAPI) target(space, name string) string {
	if alias, ok := a.things["/spaces/"+space+aliasesOf+"/"+name]; ok {
		return alias.environment()
	}
	return name
}

// environment is the target of an alias.
func (t thing) environment() string {
	var to link
	// What is no link leads to no environment.
	_ = json.Unmarshal(t.body["environment"], &to)
	return to.Sys.ID
}

// environments returns the environments of a space as the API lists them: those that were made, master and the
// targets of aliases, each with its aliases; and each alias as an environment. The caller holds the lock.
func (a *ContentAPI) environments(space string) []thing {
	names := []string{"master"}
	for _, made := range a.all("/spaces/" + space + environmentsOf) {
		names = append(names, made.id)
	}
	to := map[string]string{}
	for _, alias := range a.all("/spaces/" + space + aliasesOf) {
		to[alias.id] = alias.environment()
		names = append(names, alias.environment(), alias.id)
	}
	slices.Sort(names)
	var found []thing
	for _, name := range slices.Compact(names) {
		found = append(found, a.environmentNamed(space, name, to))
	}
	return found
}

// environmentNamed is an environment, whether it was made or not; an alias looks like its target, but for its id and
// the link. To is what aliases stand for.
func (a *ContentAPI) environmentNamed(space, name string, to map[string]string) thing {
	target, isAlias := to[name]
	if !isAlias {
		target = name
	}
	t, made := a.things["/spaces/"+space+environmentsOf+"/"+target]
	if !made {
		t = thing{version: 1, body: map[string]json.RawMessage{"name": encode(target)}}
	}
	aliases := []link{}
	for _, alias := range slices.Sorted(maps.Keys(to)) {
		if to[alias] == target {
			aliases = append(aliases, linkTo("EnvironmentAlias", alias))
		}
	}
	t.id = name
	t.sys = map[string]any{"status": linkTo("Status", "ready"), "aliases": aliases}
	if isAlias {
		t.sys["aliasedEnvironment"] = linkTo("Environment", target)
	}
	return t
}
