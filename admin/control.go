package admin

import (
	"encoding/json"
	"io"
	"net/http"

	"cmstap/internal/setting"
)

// Control is what can be asked of cmstap itself. Its methods may be called from any
// goroutine.
type Control interface {
	// Reload puts the config file in force as it is now. An error says why that was
	// refused, and nothing was changed then.
	Reload() (Reloaded, error)
	// Settings are the settings in force, without what may be secret.
	Settings() []setting.Shown
	// Level is the log's level: debug, info, warn or error. SetLevel changes it until
	// the next reload or start; false means that there is none of that name.
	Level() string
	SetLevel(name string) bool
}

// Reloaded is what a reload did.
type Reloaded struct {
	Webhooks int      `json:"webhooks"` // how many there are now
	Changed  []string `json:"changed"`  // settings, by path, sorted
}

// level is the body of a question for the log's level, and of its answer.
type level struct {
	Level string `json:"level"`
}

// console answers what is asked of cmstap itself.
type console struct{ Control }

// routes adds what the console answers.
func (c console) routes(mux *http.ServeMux) {
	for path, answers := range map[string]methods{
		"/api/reload":    {http.MethodPost: c.reload},
		"/api/settings":  {http.MethodGet: c.settings},
		"/api/log-level": {http.MethodGet: c.level, http.MethodPut: c.setLevel},
	} {
		mux.Handle(path, answers)
	}
}

func (c console) reload(w http.ResponseWriter, r *http.Request) {
	if err := known(r.URL, nil); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	unbound(w) // the disk may take its time
	done, err := c.Reload()
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if done.Changed == nil {
		done.Changed = []string{}
	}
	send(w, http.StatusOK, "application/json", done)
}

func (c console) settings(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, "application/json", map[string]any{"items": c.Settings()})
}

func (c console) level(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, "application/json", level{c.Level()})
}

func (c console) setLevel(w http.ResponseWriter, r *http.Request) {
	var wanted level
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err != nil || json.Unmarshal(text, &wanted) != nil || !c.SetLevel(wanted.Level) {
		fail(w, http.StatusBadRequest, `send {"level": "debug"}, or info, warn or error`)
		return
	}
	c.level(w, r)
}
