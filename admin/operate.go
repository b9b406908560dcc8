package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"cmstap/event"
)

// Operator does what is asked for over the API, besides looking. Its methods may
// be called from any goroutine. An event.Refusal says why something is not done;
// any other error is the store's. What takes long calls report now and then.
type Operator interface {
	// Resend makes the delivery of an event to a webhook due now, whatever became
	// of it.
	Resend(ctx context.Context, id, webhook string) (event.Resent, error)
	// CountFailed counts the deliveries that were given up and that a query
	// selects, whose time is when they were; ResendFailed makes them due, in
	// commit order, rate of them a second for each webhook.
	CountFailed(ctx context.Context, query event.Query) (event.Tally, error)
	ResendFailed(ctx context.Context, query event.Query, rate int, report func(event.Tally)) (event.Tally, error)
	// Pause lets no new call of a webhook start, until Resume.
	Pause(ctx context.Context, webhook string) error
	Resume(ctx context.Context, webhook string) error
	// Explain says which webhooks of the config that runs want a recorded event,
	// and why: one of them, or all if webhook is empty.
	Explain(id, webhook string) (event.Explanation, error)
	// CountReplay counts the deliveries that the config that runs makes of recorded
	// events; Replay makes them, as ResendFailed does.
	CountReplay(ctx context.Context, query event.Query, report func(event.Tally)) (event.Tally, error)
	Replay(ctx context.Context, query event.Query, rate int, report func(event.Tally)) (event.Tally, error)
	// Compare decides recorded events by another config, a YAML text, beside the
	// one that runs. It reads no file and no variable that the text names.
	Compare(ctx context.Context, config []byte, query event.Query, report func(event.Comparison)) (event.Comparison, error)
	// Test sends a made-up event to a webhook and returns the call, which is stored
	// nowhere.
	Test(ctx context.Context, webhook string) (event.Call, error)
	// Tail follows what a query selects; after is the id of the last news that the
	// reader has, or empty.
	Tail(query event.Query, after string) (event.Tail, error)
}

// desk answers what an operator asks for.
type desk struct {
	Operator
	tails chan struct{} // one for each that is open
}

// Bounds of what is asked for.
const (
	usualRate  = 10 // deliveries a second
	maxRate    = 1000
	maxPosted  = 4 << 20 // bytes of a config
	maxTails   = 32
	heartbeat  = 15 * time.Second
	writeBound = time.Minute // for a reader that takes nothing
	reportEach = time.Second
)

// routes adds what the desk answers.
func (d desk) routes(mux *http.ServeMux) {
	for path, answers := range map[string]methods{
		"/api/events/{id}/resend":     {"POST": d.resend},
		"/api/events/{id}/explain":    {"GET": d.explain},
		"/api/resend":                 {"GET": d.countFailed, "POST": d.resendFailed},
		"/api/replay":                 {"GET": d.countReplay, "POST": d.replay},
		"/api/replay/diff":            {"POST": d.compare},
		"/api/webhooks/{name}/pause":  {"POST": d.pause},
		"/api/webhooks/{name}/resume": {"POST": d.resume},
		"/api/webhooks/{name}/test":   {"POST": d.test},
		"/api/tail":                   {"GET": d.tail},
	} {
		mux.Handle(path, answers)
	}
}

// done answers what an operator asked for.
func done(w http.ResponseWriter, body any, err error) {
	var refusal event.Refusal
	switch {
	case errors.As(err, &refusal):
		fail(w, refusal.Status, refusal.Text)
	case err != nil:
		fail(w, http.StatusServiceUnavailable, "the store can not do that now: "+err.Error())
	default:
		send(w, http.StatusOK, "application/json", body)
	}
}

func (d desk) resend(w http.ResponseWriter, r *http.Request) {
	if err := known(r.URL, []string{"webhook"}); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	webhook := r.URL.Query().Get("webhook")
	if webhook == "" {
		fail(w, http.StatusBadRequest, "name the webhook: ?webhook=NAME")
		return
	}
	resent, err := d.Resend(r.Context(), r.PathValue("id"), webhook)
	done(w, resent, err)
}

func (d desk) explain(w http.ResponseWriter, r *http.Request) {
	if err := known(r.URL, []string{"webhook"}); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	explanation, err := d.Explain(r.PathValue("id"), r.URL.Query().Get("webhook"))
	done(w, explanation, err)
}

func (d desk) pause(w http.ResponseWriter, r *http.Request) { d.set(w, r, d.Pause, true) }

func (d desk) resume(w http.ResponseWriter, r *http.Request) { d.set(w, r, d.Resume, false) }

func (d desk) set(w http.ResponseWriter, r *http.Request, set func(context.Context, string) error, paused bool) {
	if err := known(r.URL, nil); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	name := r.PathValue("name")
	done(w, map[string]any{"webhook": name, "paused": paused}, set(r.Context(), name))
}

func (d desk) test(w http.ResponseWriter, r *http.Request) {
	if err := known(r.URL, nil); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	unbound(w) // a webhook's timeout may be ten minutes
	call, err := d.Test(r.Context(), r.PathValue("name"))
	done(w, call, err)
}

// ofMany are the parameters that say which deliveries or events are meant.
var ofMany = []string{"webhook", "topic", "entity", "environment", "text", "since", "until"}

// parseMany reads a query for many deliveries, and how many of them may go in a
// second.
func parseMany(u *url.URL, now time.Time) (query event.Query, rate int, err error) {
	query, err = parseQuery(u, append(slices.Clone(ofMany), "rate"), now)
	if err != nil {
		return query, 0, err
	}
	rate = usualRate
	if text := u.Query().Get("rate"); text != "" {
		if rate, err = strconv.Atoi(text); err != nil || rate < 1 || rate > maxRate {
			return query, 0, fmt.Errorf("rate must be from 1 to %d deliveries a second, not %q", maxRate, text)
		}
	}
	return query, rate, nil
}

// parseReplay is parseMany for what looks at all events since a time.
func parseReplay(u *url.URL, now time.Time) (query event.Query, rate int, err error) {
	query, rate, err = parseMany(u, now)
	if err == nil && query.Since.IsZero() {
		err = errors.New("say since when: since=7d")
	}
	return query, rate, err
}

func (d desk) countFailed(w http.ResponseWriter, r *http.Request) {
	query, _, err := parseMany(r.URL, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	tally, err := d.CountFailed(r.Context(), query)
	done(w, tally, err)
}

func (d desk) resendFailed(w http.ResponseWriter, r *http.Request) {
	query, rate, err := parseMany(r.URL, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx := context.WithoutCancel(r.Context()) // who asked may leave
	stream(w, func(report func(event.Tally)) (event.Tally, error) { return d.ResendFailed(ctx, query, rate, report) })
}

func (d desk) countReplay(w http.ResponseWriter, r *http.Request) {
	query, _, err := parseReplay(r.URL, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	stream(w, func(report func(event.Tally)) (event.Tally, error) { return d.CountReplay(r.Context(), query, report) })
}

func (d desk) replay(w http.ResponseWriter, r *http.Request) {
	query, rate, err := parseReplay(r.URL, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx := context.WithoutCancel(r.Context()) // who asked may leave
	stream(w, func(report func(event.Tally)) (event.Tally, error) { return d.Replay(ctx, query, rate, report) })
}

func (d desk) compare(w http.ResponseWriter, r *http.Request) {
	query, _, err := parseReplay(r.URL, time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	config, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPosted))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the config can not be read, or has more than %d MiB", maxPosted>>20))
		return
	}
	stream(w, func(report func(event.Comparison)) (event.Comparison, error) {
		return d.Compare(r.Context(), config, query, report)
	})
}

// stream answers with lines of JSON: how far the work is, about each second, and
// then its end. What fails before the first line is a problem as anywhere; later
// it is a last line with an error.
func stream[T any](w http.ResponseWriter, work func(report func(T)) (T, error)) {
	control := unbound(w)
	begun := false
	line := func(body any) {
		if !begun {
			begun = true
			head(w, http.StatusOK, "application/x-ndjson")
		}
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = control.SetWriteDeadline(time.Now().Add(writeBound))
		if encoder.Encode(body) == nil {
			_ = control.Flush()
		}
		_ = control.SetWriteDeadline(time.Time{})
	}
	last := time.Now()
	result, err := work(func(so T) {
		if now := time.Now(); now.Sub(last) >= reportEach {
			last = now
			line(so)
		}
	})
	var refusal event.Refusal
	switch {
	case err == nil:
		line(result)
	case !begun:
		done(w, nil, err)
	case errors.As(err, &refusal):
		line(problem{http.StatusText(refusal.Status), refusal.Status, refusal.Text})
	default:
		line(problem{http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable, err.Error()})
	}
}
