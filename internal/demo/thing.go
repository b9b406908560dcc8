package demo

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// thing is one of what a resource keeps. Like an entity, it is a plain value: what is stored is never changed.
type thing struct {
	collection string // its path, with the environment that an alias stands for
	id         string
	order      int // of creation
	version    int
	createdAt  time.Time
	updatedAt  time.Time
	body       map[string]json.RawMessage // without sys
	sys        map[string]any             // what only some resources have
}

// visit is a request to a resource.
type visit struct {
	request
	resource *resource
	route    route
	params   map[string]string // of the path; the environment as the caller named it
}

// document is a thing as the API shows it to a caller.
func (t thing) document(v visit) map[string]any {
	user := linkTo("User", userID)
	sys := map[string]any{
		"type": v.resource.name, "id": t.id, "version": t.version, "space": linkTo("Space", v.params["space"]),
		"createdAt": instant{t.createdAt}, "createdBy": user, "updatedAt": instant{t.updatedAt}, "updatedBy": user,
	}
	if environment := v.params["environment"]; environment != "" {
		sys["environment"] = linkTo("Environment", environment)
	}
	maps.Copy(sys, t.sys)
	document := map[string]any{"sys": sys}
	for name, value := range t.body {
		document[name] = value
	}
	return document
}

// visit serves a request to a resource: all of it under the lock, like a write of an entity.
func (a *ContentAPI) visit(v visit) (answer, *Write, *problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.Method == http.MethodGet { // it does not move a clock that counts
		found, refused := a.look(v)
		return answer{status: v.route.status, body: encode(found)}, nil, refused
	}
	v.now = a.options.Now()
	id := cmp.Or(v.params["id"], "default")
	if v.route.does == "create" {
		id = a.options.NewID()
	}
	collection := a.collection(v)
	before, exists := a.things[collection+"/"+id]
	if !exists {
		before = thing{collection: collection, id: id, createdAt: v.now, sys: map[string]any{}}
	}
	action, status, refused := v.allowed(exists, before.version)
	if refused != nil {
		return answer{}, nil, refused
	}
	after, refused := v.changed(before)
	if refused != nil {
		return answer{}, nil, refused
	}
	return a.keep(after, v, action, status)
}

// keep stores a thing that was changed. The caller holds the lock.
func (a *ContentAPI) keep(t thing, v visit, action string, status int) (answer, *Write, *problem) {
	if action == "create" {
		a.created++
		t.order = a.created
	}
	a.things[t.collection+"/"+t.id] = t
	if v.route.does == "delete" {
		delete(a.things, t.collection+"/"+t.id)
	}
	write := Write{
		Method: v.Method, Path: v.URL.Path, Status: status, Type: v.resource.name, Action: action,
		Space: v.params["space"], Environment: v.params["environment"], ID: t.id, Version: t.version,
		RequestID: v.Header.Get("X-Test-Id"),
	}
	a.writes = append(a.writes, write)
	if status == http.StatusNoContent {
		return answer{status: status}, &write, nil
	}
	return answer{status: status, body: encode(t.document(v))}, &write, nil
}

// allowed tells what a request comes to: the action and the status of the answer.
func (v visit) allowed(exists bool, version int) (action string, status int, refused *problem) {
	action, status = v.route.does, v.route.status
	switch action {
	case "create":
		return action, status, nil
	case "cancel":
		action = "delete"
	case "save", "set":
		if exists {
			action = "save"
			break
		}
		if action == "save" {
			status = http.StatusCreated
		}
		return "create", status, v.checkVersion(0, false)
	}
	if !exists {
		return "", 0, noRoute()
	}
	return action, status, v.checkVersion(version, v.route.does == "save")
}

// changed returns a thing as the request leaves it.
func (v visit) changed(t thing) (thing, *problem) {
	t.sys = maps.Clone(t.sys)
	user := linkTo("User", userID)
	switch v.route.does {
	case "create", "save", "set":
		body, refused := v.content()
		if refused != nil {
			return t, refused
		}
		t.body = body
		if v.resource.complete != nil {
			v.resource.complete(&t, v)
		}
	case "delete":
		return t, nil
	case "archive":
		t.sys["status"], t.sys["archivedAt"], t.sys["archivedBy"] = "archived", instant{v.now}, user
	case "unarchive":
		t.sys["status"] = "active"
		delete(t.sys, "archivedAt")
		delete(t.sys, "archivedBy")
	case "cancel":
		t.sys["status"], t.sys["canceledAt"], t.sys["canceledBy"] = "canceled", instant{v.now}, user
	case "complete":
		t.sys["completedAt"], t.sys["completedBy"] = instant{v.now}, user
	}
	t.version++
	t.updatedAt = v.now
	return t, nil
}

// content reads what a client sent, without sys; a file has none.
func (v visit) content() (map[string]json.RawMessage, *problem) {
	body := map[string]json.RawMessage{}
	if len(v.body) == 0 || v.Header.Get("Content-Type") == "application/octet-stream" {
		return body, nil
	}
	if err := json.Unmarshal(v.body, &body); err != nil {
		return nil, badRequest("The body you sent is not a JSON object.")
	}
	delete(body, "sys")
	return body, nil
}

// look reads one thing or all of a collection. The caller holds the lock.
func (a *ContentAPI) look(v visit) (any, *problem) {
	found := a.all(a.collection(v))
	if v.resource.name == "Environment" {
		found = a.environments(v.params["space"])
	}
	if v.route.does == "list" {
		page := array{Total: len(found), Limit: defaultLimit, Items: []any{}}
		page.Sys.Type = "Array"
		for _, t := range found {
			page.Items = append(page.Items, t.document(v))
		}
		return page, nil
	}
	id := cmp.Or(v.params["id"], "default")
	i := slices.IndexFunc(found, func(t thing) bool { return t.id == id })
	if i < 0 {
		return nil, noRoute()
	}
	return found[i].document(v), nil
}

// all returns what a collection holds, oldest first. The caller holds the lock.
func (a *ContentAPI) all(collection string) []thing {
	var found []thing
	for _, t := range a.things {
		if t.collection == collection {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(x, y thing) int { return cmp.Compare(x.order, y.order) })
	return found
}

// collection is the path of what a visit is about, the same through an alias. The caller holds the lock.
func (a *ContentAPI) collection(v visit) string {
	var replace []string
	for name, value := range v.params {
		if name == "environment" {
			value = a.target(v.params["space"], value)
		}
		replace = append(replace, ":"+name, value)
	}
	return strings.NewReplacer(replace...).Replace(v.resource.path)
}
