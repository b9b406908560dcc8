package admin

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"cmstap/event"
)

// tried is a config that somebody wrote, and what it would have made of recorded
// events.
type tried struct {
	Config string
	Since  string
	Wrong  string
	Result *event.Comparison
}

// usualSince is how far back a config is tried.
const usualSince = "1d"

// try shows the form that takes a config.
func (p *pages) try(*http.Request) (page, error) { return tryPage(tried{Since: usualSince}), nil }

func tryPage(data tried) page {
	made := page{name: "try", Title: "Try a config", Data: data}
	if data.Wrong != "" {
		made.status = http.StatusBadRequest
	}
	return made
}

// compare shows what the config of the form would have made of what is recorded.
func (p *pages) compare(w http.ResponseWriter, r *http.Request) {
	data := tried{Config: r.PostFormValue("config"), Since: cmp.Or(r.PostFormValue("since"), usualSince)}
	result, err := p.comparison(r.Context(), data)
	status, text := http.StatusOK, ""
	if err != nil {
		status, text = statusOf(err)
	}
	switch status {
	case http.StatusOK:
		data.Result = &result
	case event.Invalid:
		data.Wrong = text
	default:
		p.sorry(w, err)
		return
	}
	p.show(w, tryPage(data))
}

func (p *pages) comparison(ctx context.Context, data tried) (event.Comparison, error) {
	since, err := parseTime("since", data.Since, time.Now())
	if err != nil {
		return event.Comparison{}, event.Refuse(event.Invalid, "%v", err)
	}
	return p.Operator.Compare(ctx, []byte(data.Config), event.Query{Since: since}, func(event.Comparison) {})
}
