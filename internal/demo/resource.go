package demo

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// resource is what the API keeps as clients send it, with sys around it: everything but the three kinds.
type resource struct {
	name   string // of the type
	path   string // of the collection
	routes []route
	// complete adds what clients do not send; nil if there is nothing.
	complete func(t *thing, v visit)
}

// route is a request below the path of a resource, what it does, and the status of the answer:
//
//	list, get
//	create
//	save       or create, where there is none; that is answered with 201
//	set        the same without a version and with one status
//	delete
//	cancel     a delete after which it is still there
//	archive, unarchive, complete
type route struct {
	method, rest string
	does         string
	status       int
}

const (
	inSpace       = "/spaces/:space"
	inEnvironment = inSpace + "/environments/:environment"
	inEntry       = inEnvironment + "/entries/:parent"
	inRelease     = inEnvironment + "/releases/:release"
)

var (
	reads    = []route{{"GET", "", "list", 200}, {"GET", "/:id", "get", 200}}
	saves    = slices.Concat(reads, []route{{"PUT", "/:id", "save", 200}, {"DELETE", "/:id", "delete", 204}})
	kept     = slices.Concat(saves, []route{{"POST", "", "create", 201}})
	archives = []route{{"PUT", "/:id/archived", "archive", 200}, {"DELETE", "/:id/archived", "unarchive", 200}}
	actions  = []route{
		{"PUT", "/published", "create", 202}, {"DELETE", "/published", "create", 202}, {"POST", "/validate", "create", 202}, {"GET", "/actions/:id", "get", 200},
	}
	scheduled = slices.Concat(reads, []route{{"POST", "", "create", 201}, {"PUT", "/:id", "save", 200}, {"DELETE", "/:id", "cancel", 200}})
	bulk      = slices.Concat(reads, []route{{"POST", "", "create", 201}, {"POST", "/:verb", "create", 201}, {"GET", "/actions/:id", "get", 200}})
	only      = []route{{"GET", "", "get", 200}, {"PUT", "", "set", 200}}
	settings  = slices.Concat(reads, []route{{"POST", "", "create", 201}, {"PUT", "/:id", "set", 200}, {"DELETE", "/:id", "delete", 204}})
)

var resources = []resource{
	{"Environment", inSpace + environmentsOf, kept, environment},
	{"EnvironmentAlias", inSpace + aliasesOf, saves, nil},
	{"Release", inEnvironment + "/releases", slices.Concat(kept, archives), withStatus("active")},
	{"ReleaseAction", inRelease, actions, releaseAction},
	{"ReleaseEntry", inRelease + "/entries", kept, copyInRelease("Entry")},
	{"ReleaseAsset", inRelease + "/assets", kept, copyInRelease("Asset")},
	{"BulkAction", inEnvironment + "/bulk_actions", bulk, bulkAction},
	{"ScheduledAction", inSpace + "/scheduled_actions", scheduled, withStatus("scheduled")},
	{"Task", inEntry + "/tasks", kept, ofEntry},
	{"Comment", inEntry + "/comments", kept, ofEntry},
	{"Workflow", inEnvironment + "/workflows", slices.Concat(kept, []route{{"PUT", "/:id/complete", "complete", 204}}), workflow},
	{"Tag", inEnvironment + "/tags", saves, nil},
	{"Locale", inEnvironment + "/locales", kept, nil},
	{"EditorInterface", inEnvironment + "/content_types/:parent/editor_interface", only, nil},
	{"Upload", inEnvironment + "/uploads", kept, nil},
	{"WebhookDefinition", inSpace + "/webhook_definitions", settings, nil},
	{"WebhookSettings", inSpace + "/webhook_settings", settings, nil},
}

// findResource returns what a request is about, and the parameters of its path.
func findResource(method, path string) (*resource, route, map[string]string) {
	for i := range resources {
		for _, r := range resources[i].routes {
			if params, ok := matchPath(resources[i].path+r.rest, path); ok && r.method == method {
				return &resources[i], r, params
			}
		}
	}
	return nil, route{}, nil
}

func matchPath(pattern, path string) (map[string]string, bool) {
	names, values := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(names) != len(values) {
		return nil, false
	}
	params := map[string]string{}
	for i, value := range values {
		name, isParam := strings.CutPrefix(names[i], ":")
		if isParam && value != "" {
			params[name] = value
		} else if names[i] != value {
			return nil, false
		}
	}
	return params, true
}

func withStatus(status string) func(*thing, visit) {
	return func(t *thing, _ visit) { t.sys["status"] = status }
}

func environment(t *thing, _ visit) { t.sys["status"] = linkTo("Status", "ready") }

func ofEntry(t *thing, v visit) {
	t.sys["parentEntity"] = linkTo("Entry", v.params["parent"])
	if t.body["status"] == nil {
		t.body["status"] = json.RawMessage(`"active"`)
	}
}

func copyInRelease(name string) func(*thing, visit) {
	return func(t *thing, v visit) {
		t.sys["type"], t.sys["release"] = name, linkTo("Release", v.params["release"])
		if id := v.Header.Get("X-Contentful-Content-Type"); id != "" {
			t.sys["contentType"] = linkTo("ContentType", id)
		}
	}
}

func releaseAction(t *thing, v visit) {
	action := map[string]string{http.MethodPut: "publish", http.MethodDelete: "unpublish", http.MethodPost: "validate"}[v.Method]
	t.body = map[string]json.RawMessage{"action": encode(action)}
	t.sys["release"], t.sys["status"] = linkTo("Release", v.params["release"]), "created"
}

// bulkAction has its action in the path or, newer, in the body.
func bulkAction(t *thing, v visit) {
	action := t.body["action"]
	if verb := v.params["verb"]; verb != "" {
		action = encode(verb)
	}
	payload := map[string]json.RawMessage{"entities": t.body["entities"]}
	t.body = map[string]json.RawMessage{"action": action, "payload": encode(payload)}
	t.sys["status"] = "created"
}

// workflow is about an entry: links that clients send in the body and get in sys.
func workflow(t *thing, _ visit) {
	for _, name := range []string{"entity", "workflowDefinition"} {
		if t.body[name] != nil {
			t.sys[name] = t.body[name]
			delete(t.body, name)
		}
	}
}
