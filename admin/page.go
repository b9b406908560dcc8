package admin

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"

	"cmstap/event"
)

//go:embed page
var files embed.FS

// pages show what the API tells, to people. They are whole without a script.
type pages struct {
	Parts
	guard *guard
}

// page is one that a handler made: the template's name, the title, and what the
// template shows.
type page struct {
	name   string
	Title  string
	Data   any
	Done   string // what was done before
	status int    // 0: 200
}

// templates are those of page/, by name.
var templates = func() map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range []string{"overview", "calls", "call", "events", "event", "why", "dead", "settings", "try", "login", "trouble"} {
		t := template.New("layout").Funcs(template.FuncMap{"iso": iso, "short": short, "took": took, "pretty": pretty})
		all[name] = template.Must(t.ParseFS(files, "page/layout.html", "page/"+name+".html"))
	}
	return all
}()

// iso is a time for programs, and short is one for people, in a form that filters
// and commands take.
func iso(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func short(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// took is a time span in milliseconds as people read it.
func took(milliseconds float64) string {
	span := time.Duration(milliseconds * float64(time.Millisecond))
	if span > time.Millisecond {
		span = span.Round(time.Millisecond)
	}
	return span.String()
}

// entry is an entry of the navigation.
type entry struct {
	Path, Name string
	Current    bool
}

// nav are the pages that are there, with the current one marked.
func (p *pages) nav(current string) []entry {
	entries := []entry{{"/", "Overview", false}, {"/calls", "Calls", false}, {"/events", "Events", false}, {"/dead", "Given up", false}}
	if p.Operator != nil {
		entries = append(entries, entry{"/try", "Try a config", false})
	}
	if p.Control != nil {
		entries = append(entries, entry{"/settings", "Settings", false})
	}
	for i := range entries {
		entries[i].Current = entries[i].Path == current
	}
	return entries
}

// read answers with a page.
func (p *pages) read(handle func(*http.Request) (page, error)) http.Handler {
	return get(func(w http.ResponseWriter, r *http.Request) {
		made, err := handle(r)
		if err != nil {
			p.sorry(w, err)
			return
		}
		if made.Done == "" {
			made.Done = doneTexts[r.URL.Query().Get("done")]
		}
		p.show(w, made)
	})
}

// act does what a button says, and leads to the page that handle names.
func (p *pages) act(handle func(*http.Request) (next string, err error)) http.Handler {
	return p.post(func(w http.ResponseWriter, r *http.Request) {
		next, err := handle(r)
		if err != nil {
			p.sorry(w, err)
			return
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
	})
}

// post takes in a form, and nothing else.
func (p *pages) post(handle http.HandlerFunc) http.Handler {
	return methods{http.MethodPost: p.form(maxForm, handle)}
}

// form takes in a form of so many bytes at most.
func (p *pages) form(most int64, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, most)
		if err := r.ParseForm(); err != nil {
			p.sorry(w, event.Refuse(event.Invalid, "The form can not be read."))
			return
		}
		unbound(w) // much may be sent again
		handle(w, r)
	}
}

// doneTexts say what a button did, after the page that it leads to was loaded.
var doneTexts = map[string]string{
	"resend": "It is sent again.",
	"pause":  "The webhook is paused: no new call starts until it is resumed.",
	"resume": "The webhook goes on.",
	"reload": "The config file was read, and is in use.",
}

// sorry shows why there is no page.
func (p *pages) sorry(w http.ResponseWriter, err error) {
	status, text := statusOf(err)
	p.show(w, page{name: "trouble", Title: http.StatusText(status), Data: text, status: status})
}

// statusOf says what an error is to who looks at a page.
func statusOf(err error) (status int, text string) {
	var refusal event.Refusal
	if errors.As(err, &refusal) {
		return refusal.Status, refusal.Text
	}
	return http.StatusServiceUnavailable, "The store can not do that now: " + err.Error()
}

// show sends a page.
func (p *pages) show(w http.ResponseWriter, made page) {
	view := struct {
		page
		Nav    []entry
		Locked bool
	}{made, nil, p.guard.config.Token.IsSet()}
	if made.name != "login" {
		view.Nav = p.nav("/" + strings.TrimPrefix(made.name, "overview"))
	}
	var text bytes.Buffer
	if err := templates[made.name].Execute(&text, view); err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(cmp.Or(made.status, http.StatusOK))
	_, _ = w.Write(text.Bytes())
}

// policy lets a page load and send what is this listener's, and no other page
// show it (CSP Level 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// assetTypes are the content types of what pages are made up with, by path.
var assetTypes = map[string]string{
	"/assets/style.css": "text/css; charset=utf-8",
	"/assets/live.js":   "text/javascript; charset=utf-8",
	"/assets/icon.svg":  "image/svg+xml",
}

// asset sends one of them.
func asset(w http.ResponseWriter, r *http.Request) {
	text, err := files.ReadFile("page/" + path.Base(r.URL.Path))
	if err != nil {
		fail(w, http.StatusNotFound, "there is nothing at "+r.URL.Path)
		return
	}
	w.Header().Set("Content-Type", assetTypes[r.URL.Path])
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(text)
}

// routes adds what the pages answer.
func (p *pages) routes(mux *http.ServeMux) {
	mux.Handle("/{$}", p.read(p.overview))
	mux.Handle("/calls", tidy(p.read(p.calls)))
	mux.Handle("/calls/{id}", p.read(p.call))
	mux.Handle("/events", tidy(p.read(p.events)))
	mux.Handle("/events/{id}", p.read(p.event))
	mux.HandleFunc("/login", p.login)
	mux.Handle("/logout", p.post(p.logout))
	for path := range assetTypes {
		mux.Handle(path, get(asset))
	}
	if p.Operator != nil {
		mux.Handle("/events/{id}/why", p.read(p.why))
		mux.Handle("/events/{id}/resend", p.act(p.resend))
		mux.Handle("/webhooks/pause", p.act(p.pause))
		mux.Handle("/webhooks/resume", p.act(p.resume))
		mux.Handle("/dead", tidy(p.read(p.dead)))
		mux.Handle("/dead/resend", p.act(p.resendDead))
		mux.Handle("/try", methods{http.MethodGet: p.read(p.try).ServeHTTP, http.MethodPost: p.form(3*maxPosted, p.compare)})
	}
	if p.Control != nil {
		mux.Handle("/settings", p.read(p.settings))
		mux.Handle("/settings/reload", p.act(p.reload))
	}
}
