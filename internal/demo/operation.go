package demo

import (
	"net/http"
	"strconv"
	"time"
)

// request is one request that wants to change something.
type request struct {
	*http.Request
	address
	body []byte
	now  time.Time
}

// operation is one way to change an entity. apply gets the entity as it is (the zero entity for a create) and
// returns it as it shall be; version and updatedAt follow on the commit, as every write moves them alike.
type operation struct {
	action       string
	status       int
	needsVersion bool
	apply        func(entity, request) (entity, *problem)
}

type methodAndForm struct {
	method string
	form   form
}

var (
	createOperation = operation{action: "create", status: http.StatusCreated, apply: create}

	operations = map[methodAndForm]operation{
		{http.MethodPost, collection}:  createOperation,
		{http.MethodPut, single}:       {"save", http.StatusOK, true, save},
		{http.MethodPatch, single}:     {"save", http.StatusOK, true, patch},
		{http.MethodDelete, single}:    {"delete", http.StatusNoContent, false, remove},
		{http.MethodPut, published}:    {"publish", http.StatusOK, false, publish},
		{http.MethodDelete, published}: {"unpublish", http.StatusOK, false, unpublish},
		{http.MethodPut, archived}:     {"archive", http.StatusOK, false, archive},
		{http.MethodDelete, archived}:  {"unarchive", http.StatusOK, false, unarchive},
		{http.MethodPut, processed}:    {"process", http.StatusNoContent, false, process},
	}
)

// operation finds what a request asks for.
func (r request) operation(exists bool) (operation, *problem) {
	op, ok := operations[methodAndForm{r.Method, r.form}]
	switch {
	case !ok:
		return operation{}, noRoute()
	case !exists && r.Method == http.MethodPut && r.form == single:
		return createOperation, nil
	case exists && r.form == collection:
		return operation{}, versionMismatch() // a generated id that is taken
	case !exists && r.form != collection:
		return operation{}, notFound(r.key)
	case op.action == "save" && r.Header.Get("X-Contentful-UI-Content-Auto-Save") == "true":
		op.action = "auto_save"
	}
	return op, nil
}

// checkVersion compares the version that the client says it saw with the current one, which is 0 for a new entity.
func (r request) checkVersion(current int, needed bool) *problem {
	header := r.Header.Get("X-Contentful-Version")
	if header == "" {
		if needed {
			return versionMismatch()
		}
		return nil
	}
	version, err := strconv.Atoi(header)
	if err != nil {
		return badRequest("X-Contentful-Version is not a number.")
	}
	if version != current {
		return versionMismatch()
	}
	return nil
}

// validateOnly tells the dry run that looks like a publish.
func (r request) validateOnly() bool {
	return r.form == published && r.Method == http.MethodPut && r.Header.Get("X-Contentful-Validate-Only") == "true"
}

func create(_ entity, r request) (entity, *problem) {
	c, refused := parseContent(r.kind, r.body)
	if refused != nil {
		return entity{}, refused
	}
	e := entity{key: r.key, content: c, createdAt: r.now}
	if r.kind == entries {
		e.contentType = r.Header.Get("X-Contentful-Content-Type")
	}
	e.locales = e.localesAfterSave()
	return e, nil
}

func save(e entity, r request) (entity, *problem) {
	c, refused := parseContent(r.kind, r.body)
	if refused != nil {
		return e, refused
	}
	return e.withContent(c)
}

func patch(e entity, r request) (entity, *problem) {
	c, refused := e.content.patched(r.kind, r.body)
	if refused != nil {
		return e, refused
	}
	return e.withContent(c)
}

func publish(e entity, r request) (entity, *problem) {
	if e.archivedVersion > 0 {
		return e, badRequest("Cannot publish archived")
	}
	locales, refused := e.localesAfterPublish(r.body)
	if refused != nil {
		return e, refused
	}
	e.locales = locales
	e.publishedVersion = e.version
	e.publishedCounter++
	e.publishedAt = r.now
	if e.firstPublishedAt.IsZero() {
		e.firstPublishedAt = r.now
	}
	return e, nil
}

func unpublish(e entity, _ request) (entity, *problem) {
	if e.publishedVersion == 0 {
		return e, badRequest("Not published")
	}
	e.publishedVersion, e.publishedAt = 0, time.Time{}
	e.locales = e.localesAfterUnpublish()
	return e, nil
}

func archive(e entity, r request) (entity, *problem) {
	switch {
	case e.publishedVersion > 0:
		return e, badRequest("Cannot archive published")
	case e.archivedVersion > 0:
		return e, badRequest("Already archived")
	}
	e.archivedVersion, e.archivedAt = e.version, r.now
	return e, nil
}

func unarchive(e entity, _ request) (entity, *problem) {
	if e.archivedVersion == 0 {
		return e, badRequest("Not archived")
	}
	e.archivedVersion, e.archivedAt = 0, time.Time{}
	return e, nil
}

func remove(e entity, _ request) (entity, *problem) {
	if e.publishedVersion > 0 {
		return e, badRequest("Cannot delete published")
	}
	return e, nil
}

// process finishes the file of an asset at once, where the real API does it a moment later: either way the version
// moves and nobody is told.
func process(e entity, r request) (entity, *problem) {
	fields, ok := processedFile(e.content.Fields, r.key, r.locale)
	if !ok {
		return e, invalid("The asset has no file to process in this locale.", "fields", "file", r.locale)
	}
	e.content.Fields = fields
	return e, nil
}
