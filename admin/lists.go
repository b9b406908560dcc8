package admin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"cmstap/event"
)

// filter is the form above a list, as it was filled in.
type filter struct {
	Action   string
	Webhooks []string // to choose from; none: the list knows no webhook
	Results  []string // the same
	Button   string
	Wrong    string // what is wrong with it
	values   url.Values
}

// Value is what a field holds.
func (f filter) Value(name string) string { return f.values.Get(name) }

// listed is a page of a list.
type listed[T any] struct {
	Filter filter
	Items  []T
	More   string // the address of the older ones
	Newest bool   // they are in the order of the log
	Live   bool   // new ones are shown as they come
}

var ofCalls = append(slices.Clone(ofEvents), "webhook", "result", "status")

// results are the results that a call may have.
var results = []string{"delivered", "retrying", "failed"}

// calls is the activity log.
func (p *pages) calls(r *http.Request) (page, error) {
	webhooks, err := p.webhooks()
	if err != nil {
		return page{}, err
	}
	form := filter{Action: "/calls", Webhooks: webhooks, Results: results, Button: "Filter"}
	return list(page{name: "calls", Title: "Calls"}, r, form, ofCalls, p.Store.Calls)
}

// events lists events.
func (p *pages) events(r *http.Request) (page, error) {
	form := filter{Action: "/events", Button: "Filter"}
	return list(page{name: "events", Title: "Events"}, r, form, ofEvents, p.Store.Events)
}

// list fills a page with what its filter selects. A filter that is wrong is shown
// with what is wrong.
func list[T any](made page, r *http.Request, form filter, names []string, load func(event.Query) (event.Page[T], error)) (page, error) {
	form.values = r.URL.Query()
	shown := listed[T]{Filter: form, Newest: true, Live: form.Value("cursor") == ""}
	var found event.Page[T]
	query, err := parseQuery(r.URL, names, time.Now())
	if err == nil {
		found, err = load(query)
		if err != nil && !errors.Is(err, event.ErrCursor) {
			return made, err
		}
	}
	if err != nil {
		made.status, shown.Filter.Wrong = http.StatusBadRequest, err.Error()
	}
	shown.Items = found.Items
	if found.Cursor != "" {
		older := r.URL.Query()
		older.Set("cursor", found.Cursor)
		shown.More = form.Action + "?" + older.Encode()
	}
	made.Data = shown
	return made, nil
}

// tidy leads from an address with empty fields, as a form sends them, to the one
// without.
func tidy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := r.URL.Query()
		filled := url.Values{}
		for name, values := range given {
			if !slices.Contains(values, "") {
				filled[name] = values
			}
		}
		if len(filled) == len(given) || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		target := url.URL{Path: r.URL.Path, RawQuery: filled.Encode()}
		http.Redirect(w, r, target.String(), http.StatusSeeOther)
	})
}

// webhooks are the names of all webhooks.
func (p *pages) webhooks() ([]string, error) {
	backlogs, err := p.Store.Backlogs()
	names := make([]string, len(backlogs))
	for i, b := range backlogs {
		names[i] = b.Webhook
	}
	return names, err
}
