// Package demo holds the two ends that cmstap stands between, small enough to run inside one process: a sample
// content API with Contentful's wire format, and a sample webhook receiver. `cmstap demo` tells its story with them;
// the crash and end-to-end tests compare what the API executed with what the receiver got.
//
// Both keep everything in memory and never forget, so that a test can ask afterwards what really happened.
package demo

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds what is read of one request, here and at the receiver.
const maxBody = 8 << 20

// ContentAPIOptions are the outside influences on a ContentAPI. The zero value is ready to use.
type ContentAPIOptions struct {
	// Now is the clock behind createdAt, updatedAt and the like. Nil means time.Now.
	Now func() time.Time
	// NewID makes the id of an entity created with POST. Nil means random ids.
	NewID func() string
	// Before is asked once a request was received in full and before anything is done about it. Any fault but
	// NoFault means that the request is not executed. The body can be read from r. Nil means NoFault.
	Before func(r *http.Request) Fault
	// After is asked once a write is committed and before it is answered. Whatever it says, the write was
	// executed. It may block: nothing is locked. Nil means NoFault.
	After func(w Write) Fault
}

// Write is one write that the API accepted and committed.
type Write struct {
	Method string
	Path   string
	// Status is the answer that belongs to the write, even where a fault kept it from being sent.
	Status int
	// Type is Entry, Asset, ContentType or the name of a resource.
	Type string
	// Action is create, save, auto_save, publish, unpublish, archive, unarchive, delete or complete, and process for
	// an asset file, for which Contentful is not known to have an event.
	Action      string
	Space       string
	Environment string // as the caller named it; empty for what belongs to the space
	ID          string
	// Version is the entity's version after the write; after a delete, the last one it had.
	Version int
	// RequestID is the value of the request header X-Test-Id, if any.
	RequestID string
}

// ContentAPI is a sample content API: entries, assets and content types per space and environment, and simpler
// resources, kept in memory. Spaces and environments need not be created; every name exists and starts empty, and an
// alias leads to what its target holds. It is safe for concurrent use.
type ContentAPI struct {
	options  ContentAPIOptions
	requests atomic.Int64

	mu       sync.Mutex
	entities map[key]entity
	things   map[string]thing // by path
	created  int
	writes   []Write
}

// NewContentAPI returns an empty content API.
func NewContentAPI(o ContentAPIOptions) *ContentAPI {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = rand.Text
	}
	if o.Before == nil {
		o.Before = func(*http.Request) Fault { return NoFault }
	}
	if o.After == nil {
		o.After = func(Write) Fault { return NoFault }
	}
	return &ContentAPI{options: o, entities: map[key]entity{}, things: map[string]thing{}}
}

// Writes returns the writes executed so far, in the order in which they were committed.
func (a *ContentAPI) Writes() []Write {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.writes)
}

// Requests returns how many requests were received in full, reads and refused ones included.
func (a *ContentAPI) Requests() int {
	return int(a.requests.Load())
}

// ServeHTTP receives one request, executes it and answers, or does what the fault hooks say instead.
func (a *ContentAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		unreadable(err).answer("").send(w, r)
		return
	}
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", a.requests.Add(1))
	w.Header().Set("X-Contentful-Request-Id", id)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if fault := a.options.Before(r); fault != NoFault {
		fault.send(w, r, injected().answer(id))
		return
	}
	right, write := a.handle(w.Header(), r, id, body)
	fault := NoFault
	if write != nil {
		fault = a.options.After(*write)
	}
	fault.send(w, r, right)
}

func unreadable(err error) *problem {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem{status: http.StatusRequestEntityTooLarge, id: "RequestEntityTooLarge", message: err.Error()}
	}
	return badRequest("The body can not be read: " + err.Error())
}

// handle decides the answer of a request. The write is nil unless one was committed.
func (a *ContentAPI) handle(header http.Header, r *http.Request, id string, body []byte) (answer, *Write) {
	if !authorized(r) {
		return unauthorized().answer(id), nil
	}
	at, ok := parseAddress(r.URL.Path)
	if !ok {
		return a.handleResource(header, r, id, body)
	}
	at.describe(header)
	if r.Method == http.MethodGet {
		found, refused := a.read(at, r.URL.Query())
		if refused != nil {
			return refused.answer(id), nil
		}
		return answer{status: http.StatusOK, body: encode(found)}, nil
	}
	right, write, refused := a.write(request{Request: r, address: at, body: body})
	if refused != nil {
		return refused.answer(id), nil
	}
	return right, write
}

// handleResource is handle for what is no entry, asset or content type.
func (a *ContentAPI) handleResource(header http.Header, r *http.Request, id string, body []byte) (answer, *Write) {
	v := visit{request: request{Request: r, body: body}}
	v.resource, v.route, v.params = findResource(r.Method, r.URL.Path)
	if v.resource == nil {
		return noRoute().answer(id), nil
	}
	describe(header, v.resource.path+v.route.rest, v.params["space"], v.params["environment"])
	right, write, refused := a.visit(v)
	if refused != nil {
		return refused.answer(id), nil
	}
	return right, write
}

// write executes a request that is not a read: all of it happens under the lock, so that the order of Writes, of
// the versions and of updatedAt is the same.
func (a *ContentAPI) write(r request) (answer, *Write, *problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.now = a.options.Now()
	r.environment = a.target(r.space, r.called)
	if r.form == collection {
		r.id = a.options.NewID()
	}
	before, exists := a.entities[r.key]
	op, refused := r.operation(exists)
	if refused == nil {
		refused = r.checkVersion(before.version, op.needsVersion)
	}
	if refused == nil && op.action == "create" {
		refused = a.checkContentType(r)
	}
	if refused != nil {
		return answer{}, nil, refused
	}
	after, refused := op.apply(before, r)
	if refused != nil {
		return answer{}, nil, refused
	}
	if r.validateOnly() {
		return answer{status: op.status, body: encode(r.shown(before).document())}, nil, nil
	}
	after, write := a.commit(after, op, r)
	if op.status == http.StatusNoContent {
		return answer{status: op.status}, &write, nil
	}
	return answer{status: op.status, body: encode(r.shown(after).document())}, &write, nil
}

// commit stores what an operation made of an entity. The caller holds the lock.
func (a *ContentAPI) commit(after entity, op operation, r request) (entity, Write) {
	if op.action == "delete" {
		delete(a.entities, r.key)
	} else {
		after.version++
		after.updatedAt = r.now
		if op.action == "create" {
			a.created++
			after.order = a.created
		}
		a.entities[r.key] = after
	}
	write := Write{
		Method: r.Method, Path: r.URL.Path, Status: op.status, Type: r.kind.name, Action: op.action,
		Space: r.space, Environment: r.called, ID: r.id, Version: after.version,
		RequestID: r.Header.Get("X-Test-Id"),
	}
	a.writes = append(a.writes, write)
	return after, write
}

// checkContentType refuses an entry of an unknown content type. The caller holds the lock.
func (a *ContentAPI) checkContentType(r request) *problem {
	if r.kind != entries {
		return nil
	}
	id := r.Header.Get("X-Contentful-Content-Type")
	contentType := key{space: r.space, environment: r.environment, kind: contentTypes, id: id}
	if _, ok := a.entities[contentType]; !ok {
		return invalid("The content type of the entry does not exist.", "sys", "contentType", "sys", "id")
	}
	return nil
}
