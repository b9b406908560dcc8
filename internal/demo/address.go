package demo

import (
	"net/http"
	"strings"
)

// kind is a type of entity and what is special about it.
type kind struct {
	segment string // in the path
	name    string // in sys.type
	fields  string // how the JSON of fields begins
	content bool   // written by editors: archived, translated, tagged. A content type is none of these.
}

var (
	entries      = kind{segment: "entries", name: "Entry", fields: "{", content: true}
	assets       = kind{segment: "assets", name: "Asset", fields: "{", content: true}
	contentTypes = kind{segment: "content_types", name: "ContentType", fields: "["}
)

// key names one entity; without the id, all of one kind in one environment.
type key struct {
	space       string
	environment string
	kind        kind
	id          string
}

// form is the shape of a path after the environment.
type form string

const (
	collection form = "/%s"
	single     form = "/%s/:id"
	published  form = "/%s/:id/published"
	archived   form = "/%s/:id/archived"
	processed  form = "/%s/:id/files/:locale/process"
)

// address is what a path names.
type address struct {
	key
	called string // the environment as the caller named it, which may be an alias
	form   form
	locale string // of an asset file
	route  string // the path with names in place of ids, as X-Contentful-Route tells it
}

// parseAddress reads /spaces/{space}[/environments/{environment}]/{kind}..., where an absent environment is master.
func parseAddress(path string) (address, bool) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, s := range segments {
		if s == "" {
			return address{}, false
		}
	}
	if len(segments) < 3 || segments[0] != "spaces" {
		return address{}, false
	}
	at := address{key: key{space: segments[1], environment: "master"}, called: "master", route: "/spaces/:space"}
	rest := segments[2:]
	if rest[0] == "environments" && len(rest) > 2 {
		at.environment = rest[1]
		at.called = rest[1]
		at.route += "/environments/:environment"
		rest = rest[2:]
	}
	return at.within(rest)
}

// within completes an address with the segments after the environment.
func (at address) within(rest []string) (address, bool) {
	for _, k := range []kind{entries, assets, contentTypes} {
		if k.segment == rest[0] {
			at.kind = k
		}
	}
	if len(rest) > 1 {
		at.id = rest[1]
	}
	switch {
	case at.kind.segment == "":
		return address{}, false
	case len(rest) == 1:
		at.form = collection
	case len(rest) == 2:
		at.form = single
	case len(rest) == 3 && rest[2] == "published":
		at.form = published
	case len(rest) == 3 && rest[2] == "archived" && at.kind.content:
		at.form = archived
	case len(rest) == 5 && rest[2] == "files" && rest[4] == "process" && at.kind == assets:
		at.form, at.locale = processed, rest[3]
	default:
		return address{}, false
	}
	at.route += strings.Replace(string(at.form), "%s", at.kind.segment, 1)
	return at, true
}

// shown is an entity as a caller sees it, who may have come through an alias.
func (at address) shown(e entity) entity {
	e.environment = at.called
	return e
}

// describe sets the headers by which the real API tells how it understood the path.
func (at address) describe(h http.Header) {
	describe(h, at.route, at.space, at.called)
}

func describe(h http.Header, route, space, environment string) {
	h.Set("X-Contentful-Route", route)
	h.Set("CF-Space-Id", space)
	if environment != "" {
		h.Set("CF-Environment-Id", environment)
		h.Set("CF-Environment-Uuid", environment)
	}
	h.Set("CF-Organization-Id", "org-demo")
	h.Set("Contentful-Api", "cma")
}
