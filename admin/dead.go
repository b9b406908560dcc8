package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cmstap/event"
)

// dead are deliveries that were given up, and how to send them again.
type dead struct {
	Filter filter
	Count  int
	Rate   int
	Fields url.Values   // the filter, for the button
	Items  []event.Call // that failed
	Newest bool
	More   string // the address of all of them
}

// dead counts what a filter selects, before a button sends it again.
func (p *pages) dead(r *http.Request) (page, error) {
	webhooks, err := p.webhooks()
	if err != nil {
		return page{}, err
	}
	given := r.URL.Query()
	made := page{name: "dead", Title: "Given up"}
	if sent, err := strconv.Atoi(given.Get("sent")); err == nil {
		made.Done = strconv.Itoa(sent) + " deliveries are sent again."
	}
	given.Del("sent")
	shown := dead{Filter: filter{Action: "/dead", Webhooks: webhooks, Button: "Count", values: given}, Fields: given, Newest: true}
	query, rate, err := parseMany(&url.URL{RawQuery: given.Encode()}, time.Now())
	if err != nil {
		made.status, shown.Filter.Wrong, made.Data = http.StatusBadRequest, err.Error(), shown
		return made, nil
	}
	tally, err := p.Operator.CountFailed(r.Context(), query)
	if err != nil {
		return made, err
	}
	query.Result = event.GiveUp.String()
	failed, err := p.Store.Calls(query)
	shown.Count, shown.Rate, shown.Items = tally.Deliveries, rate, failed.Items
	if failed.Cursor != "" {
		given := r.URL.Query()
		given.Del("sent")
		given.Del("rate")
		given.Set("result", query.Result)
		shown.More = "/calls?" + given.Encode()
	}
	made.Data = shown
	return made, err
}

// resendDead sends what was counted.
func (p *pages) resendDead(r *http.Request) (next string, err error) {
	query, rate, err := parseMany(&url.URL{RawQuery: r.PostForm.Encode()}, time.Now())
	if err != nil {
		return "", event.Refuse(event.Invalid, "%v", err)
	}
	ctx := context.WithoutCancel(r.Context()) // who asked may leave
	tally, err := p.Operator.ResendFailed(ctx, query, rate, func(event.Tally) {})
	return "/dead?sent=" + strconv.Itoa(tally.Deliveries), err
}
