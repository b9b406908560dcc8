package admin

import (
	"fmt"
	"net/http"

	"cmstap/event"
)

// row is a webhook of the overview.
type row struct {
	event.Backlog
	States []state
}

// state is a state of a webhook, and how it looks: good, fair or bad.
type state struct{ Class, Name string }

// overview shows how each webhook is.
func (p *pages) overview(*http.Request) (page, error) {
	backlogs, err := p.Store.Backlogs()
	rows := make([]row, len(backlogs))
	for i, b := range backlogs {
		rows[i] = row{b, statesOf(b)}
	}
	return page{name: "overview", Title: "Overview", Data: rows}, err
}

// statesOf returns what is to be said of a webhook: at least one state.
func statesOf(b event.Backlog) []state {
	var states []state
	add := func(holds bool, class, name string) {
		if holds {
			states = append(states, state{class, name})
		}
	}
	add(b.Parked, "retrying", "not in the config")
	add(b.Paused, "retrying", "paused")
	add(b.Breaker == "open", "failed", "breaker open")
	add(b.Breaker == "half_open", "retrying", "breaker half open")
	add(!b.NextRetry.IsZero(), "retrying", "retrying")
	add(b.Dead > 0, "failed", "has given up")
	add(len(states) == 0, "delivered", "ok")
	return states
}

// Tally counts the last calls.
func (r row) Tally() string {
	n := r.counts()
	return fmt.Sprintf("last %d calls: %d delivered, %d tried again, %d given up", len(r.Recent), n["delivered"], n["retrying"], n["failed"])
}

// Success is how many of a hundred of the last calls were answered well.
func (r row) Success() int {
	return r.counts()["delivered"] * 100 / max(len(r.Recent), 1)
}

func (r row) counts() map[string]int {
	n := map[string]int{}
	for _, result := range r.Recent {
		n[result]++
	}
	return n
}

func (p *pages) pause(r *http.Request) (next string, err error) {
	return "/?done=pause", p.Operator.Pause(r.Context(), r.PostFormValue("webhook"))
}

func (p *pages) resume(r *http.Request) (next string, err error) {
	return "/?done=resume", p.Operator.Resume(r.Context(), r.PostFormValue("webhook"))
}

// settings shows the settings in force.
func (p *pages) settings(*http.Request) (page, error) {
	return page{name: "settings", Title: "Settings", Data: p.Control.Settings()}, nil
}

func (p *pages) reload(*http.Request) (next string, err error) {
	if _, err := p.Control.Reload(); err != nil {
		return "", event.Refuse(event.Invalid, "%v", err)
	}
	return "/settings?done=reload", nil
}
