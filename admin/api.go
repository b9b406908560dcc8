package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Store is the outbox as the window sees it.
type Store interface {
	Backlogs() ([]event.Backlog, error)
	Calls(event.Query) (event.Page[event.Call], error)
	Call(id string) (event.Call, bool, error)
	Events(event.Query) (event.Page[event.Recorded], error)
	Story(id string) (event.Story, bool, error)
}

// api answers what docs/openapi.yaml describes.
type api struct{ store Store }

func (a api) webhooks(w http.ResponseWriter, r *http.Request) {
	if err := known(r.URL, nil); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	list, err := a.store.Backlogs()
	if list == nil {
		list = []event.Backlog{}
	}
	answer(w, map[string]any{"items": list}, true, err)
}

func (a api) calls(w http.ResponseWriter, r *http.Request) {
	query, err := parseQuery(r.URL, append(ofEvents, "webhook", "result", "status"), time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	page, err := a.store.Calls(query)
	answer(w, page, true, err)
}

func (a api) events(w http.ResponseWriter, r *http.Request) {
	query, err := parseQuery(r.URL, ofEvents, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	page, err := a.store.Events(query)
	answer(w, page, true, err)
}

func (a api) call(w http.ResponseWriter, r *http.Request) {
	call, found, err := a.store.Call(r.PathValue("id"))
	answer(w, call, found, err)
}

func (a api) event(w http.ResponseWriter, r *http.Request) {
	story, found, err := a.store.Story(r.PathValue("id"))
	answer(w, story, found, err)
}

// ofEvents are the parameters of a query for events.
var ofEvents = []string{"topic", "entity", "environment", "text", "since", "until", "cursor", "limit"}

// How many items a page has.
const (
	usualLimit = 50
	maxLimit   = 500
)

// known refuses parameters that nobody reads: a filter that is misspelt would
// show everything.
func known(u *url.URL, names []string) error {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("the query can not be read")
	}
	for name, given := range values {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown parameter %q", name)
		}
		if len(given) > 1 {
			return fmt.Errorf("the parameter %s is there twice", name)
		}
	}
	return nil
}

// statusForm is what status selects calls by.
var statusForm = regexp.MustCompile(`^([1-9][0-9][0-9]|[1-9]xx|none)$`)

// parseQuery reads the parameters of a query; the error is for the caller.
func parseQuery(u *url.URL, names []string, now time.Time) (event.Query, error) {
	if err := known(u, names); err != nil {
		return event.Query{}, err
	}
	values := u.Query()
	q := event.Query{
		Webhook: values.Get("webhook"), Topic: values.Get("topic"), Entity: values.Get("entity"), Environment: values.Get("environment"),
		Result: values.Get("result"), Status: values.Get("status"), Text: values.Get("text"), Cursor: values.Get("cursor"), Limit: usualLimit,
	}
	if !slices.Contains([]string{"", "delivered", "retrying", "failed"}, q.Result) {
		return q, fmt.Errorf("result must be delivered, retrying or failed, not %q", q.Result)
	}
	if q.Status != "" && !statusForm.MatchString(q.Status) {
		return q, fmt.Errorf("status must be one such as 404, a class such as 4xx, or none, not %q", q.Status)
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return q, fmt.Errorf("limit must be from 1 to %d, not %q", maxLimit, text)
		}
		q.Limit = n
	}
	var err, more error
	q.Since, err = parseTime("since", values.Get("since"), now)
	q.Until, more = parseTime("until", values.Get("until"), now)
	return q, errors.Join(err, more)
}

// parseTime reads a time (RFC 3339), or how long ago it was.
func parseTime(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC(), nil
	}
	var ago setting.Duration
	if err := ago.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, fmt.Errorf("%s must be a time such as 2026-01-02T15:04:05Z, or how long ago it was, such as 1h or 7d, not %q", name, text)
	}
	return now.Add(-ago.Std()).UTC(), nil
}

// answer sends what the store said.
func answer(w http.ResponseWriter, body any, found bool, err error) {
	switch {
	case errors.Is(err, event.ErrCursor):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		fail(w, http.StatusServiceUnavailable, "the store can not be read: "+err.Error())
	case !found:
		fail(w, http.StatusNotFound, "there is none of that id; it may be past its retention (outbox.retention)")
	default:
		send(w, http.StatusOK, "application/json", body)
	}
}

// problem is an error as RFC 9457 has it, of the type about:blank.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func fail(w http.ResponseWriter, status int, detail string) {
	send(w, status, "application/problem+json", problem{http.StatusText(status), status, detail})
}

func send(w http.ResponseWriter, status int, contentType string, body any) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	head(w, status, contentType)
	_, _ = w.Write(text.Bytes())
}

// unbound lets an answer take as long as it does, once the request was read. Without
// it the end of readBound would look as if the client had left.
func unbound(w http.ResponseWriter) *http.ResponseController {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	return control
}

func head(w http.ResponseWriter, status int, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
}
