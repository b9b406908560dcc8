package event

import (
	"maps"
	"slices"
	"time"
)

// Place is an environment of a space, or an alias that leads to one.
type Place struct{ Space, Name string }

// Links says which environment each alias leads to. A Links never changes;
// With makes another one.
type Links map[Place]string

// Link is what an answer told about a name: the environment that it leads to,
// or, with an empty Target, that it is no alias.
type Link struct {
	Space  string `json:"space"`
	Alias  string `json:"alias"`
	Target string `json:"target,omitempty"`
	// Time is when the answer was true, as far as that is known; UTC. What is
	// older than what is known teaches nothing.
	Time time.Time `json:"time,omitzero"`
}

// Place is the place that the link is about.
func (l Link) Place() Place { return Place{l.Space, l.Alias} }

// Resolve returns the environment that a name leads to: the name itself unless
// it is known to be an alias.
func (l Links) Resolve(space, name string) string {
	if target := l[Place{space, name}]; target != "" {
		return target
	}
	return name
}

// Aliases returns the names that are known to lead to an environment, sorted.
func (l Links) Aliases(space, environment string) []string {
	names := []string{}
	for place, target := range l {
		if target != "" && place.Space == space && target == environment {
			names = append(names, place.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Of returns where the aliases of a space lead to, by name.
func (l Links) Of(space string) map[string]string {
	targets := map[string]string{}
	for place, target := range l {
		if target != "" && place.Space == space {
			targets[place.Name] = target
		}
	}
	return targets
}

// News returns those of the links that say something else than l.
func (l Links) News(learned []Link) []Link {
	var news []Link
	for _, link := range learned {
		if l[link.Place()] != link.Target {
			news = append(news, link)
		}
	}
	return news
}

// With returns the links as they are after others were learned.
func (l Links) With(learned []Link) Links {
	links := maps.Clone(l)
	if links == nil {
		links = Links{}
	}
	for _, link := range learned {
		links[link.Place()] = link.Target
	}
	return links
}
