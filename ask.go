package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"time"

	"cmstap/event"
)

// jobBound is how long the CMS may take to tell the result of a job, and what
// that names.
const jobBound = 15 * time.Second

// lookBound is how long a write waits for what its entity was.
const lookBound = time.Second

// lookPause is for how long nothing is read before writes once the CMS said that
// there are too many requests.
const lookPause = time.Minute

// lookUp reads the entity of a write that is about to be forwarded, if something
// depends on what it was and that is not kept. It reads with the credentials of
// the writer, once; whatever goes wrong, the write goes on.
func (t *tap) lookUp(x *event.Exchange) {
	defer func() {
		if fault := recover(); fault != nil {
			t.log.Error("panic", "during", "reading an entity before it is written", "path", x.Intent.Path, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
		}
	}()
	if until := t.unasked.Load(); !t.now().lookup || until != nil && time.Now().Before(*until) {
		return
	}
	at := t.now().Lookup(x.Intent)
	if at == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookBound)
	defer cancel()
	fetched, err := t.fetch(ctx, x.Intent.Host, at, x.Credentials)
	fields := []any{"method", x.Intent.Method, "path", x.Intent.Path, "request", x.Intent.ID}
	if err != nil {
		t.log.Debug("looked", append(fields, "error", err)...)
		return
	}
	t.log.Debug("looked", append(fields, "status", fetched.Status)...)
	if fetched.Status == http.StatusTooManyRequests {
		until := time.Now().Add(lookPause)
		t.unasked.Store(&until)
	}
	x.Before = &event.Finding{Status: fetched.Status, Entity: fetched.Body}
}

// askBound is how long the CMS may take to answer a question.
const askBound = 3 * time.Second

// Askable implements resolve.Tap.
func (t *tap) Askable(x *event.Exchange) bool {
	if x.Intent.Job != nil {
		return true // whoever polls may tell
	}
	_, known := t.now().Question(x.Intent)
	return known && len(x.Credentials)+len(t.now().token) > 0
}

// Ask implements resolve.Tap: it reads the entity and compares it with the
// intent. Without credentials it uses recovery.token.
//
// That an entity is not there is what the CMS also says to who may not see it.
// It is believed if the writer is told so, and the token if it may read the list
// that the entity would be in.
func (t *tap) Ask(ctx context.Context, x *event.Exchange, with event.Credentials) (verdict event.Verdict, done *event.Exchange) {
	defer func() {
		if fault := recover(); fault != nil { // it stays in doubt
			t.log.Error("panic", "during", "settling a doubt", "path", x.Intent.Path, "error", fmt.Sprint(fault), "stack", string(debug.Stack()))
			verdict, done = event.Doubt, x
		}
	}()
	own := len(with) > 0 && maps.Equal(with, x.Credentials)
	if len(with) == 0 {
		with = t.now().token
	}
	if len(with) == 0 {
		return event.Doubt, x
	}
	if x.Intent.Job != nil {
		return t.poll(ctx, x, with)
	}
	finding, err := t.find(ctx, x, with, own)
	fields := []any{"method", x.Intent.Method, "path", x.Intent.Path, "request", x.Intent.ID}
	if err != nil {
		t.log.Info("asked", append(fields, "result", "unknown", "error", err)...)
		return event.Doubt, x
	}
	verdict, done = t.now().Resolve(x, finding)
	result := [...]string{event.Doubt: "unknown", event.Accepted: "applied", event.Rejected: "not applied"}[verdict]
	t.log.Info("asked", append(fields, "result", result, "status", finding.Status)...)
	return verdict, done
}

// poll asks for the result of a job.
func (t *tap) poll(ctx context.Context, x *event.Exchange, with event.Credentials) (event.Verdict, *event.Exchange) {
	ctx, cancel := context.WithTimeout(ctx, jobBound)
	defer cancel()
	fetched, err := t.fetch(ctx, x.Intent.Host, x.Intent.Job.Poll, with)
	if err != nil {
		t.log.Debug("polled", "job", x.Intent.Job.ID, "path", x.Intent.Job.Poll, "error", err)
		return event.Doubt, x
	}
	return t.result(ctx, x, with, event.Finding{Status: fetched.Status, Entity: fetched.Body})
}

// told says what somebody else's result means. It is trusted only if cmstap can
// not ask by itself: it may be about a part, or another tenant's.
func (t *tap) told(ctx context.Context, job *event.Exchange, finding event.Finding) (event.Verdict, *event.Exchange) {
	if len(job.Credentials)+len(t.now().token) > 0 {
		return t.Ask(ctx, job, job.Credentials)
	}
	return t.result(ctx, job, nil, finding)
}

// result says what a job's result means.
func (t *tap) result(ctx context.Context, x *event.Exchange, with event.Credentials, finding event.Finding) (event.Verdict, *event.Exchange) {
	verdict, done := t.now().Result(x, finding)
	if verdict == event.Accepted {
		done.Time = time.Now().UTC()
		if err := t.read(ctx, done, with); err != nil {
			t.log.Debug("polled", "job", x.Intent.Job.ID, "path", x.Intent.Job.Poll, "error", err)
			if time.Now().Before(x.Intent.Job.Until) {
				return event.Doubt, x
			}
		}
	}
	result := [...]string{event.Doubt: "running", event.Accepted: "done", event.Rejected: "failed"}[verdict]
	t.log.Debug("polled", "job", x.Intent.Job.ID, "path", x.Intent.Job.Poll, "result", result, "status", finding.Status)
	return verdict, done
}

// maxRead bounds the bytes that are read for one result, about.
const maxRead = 32 << 20

// read reads the entities that the result of a job names. What the CMS refuses is
// left out of the events; any other trouble is an error, and read again later,
// until the job's deadline: that it was done is known. Without credentials nothing
// is read.
func (t *tap) read(ctx context.Context, x *event.Exchange, with event.Credentials) error {
	bytes := 0
	for len(with) > 0 {
		wanted := t.now().Reads(x)
		if len(wanted) == 0 {
			return nil
		}
		if x.Read == nil {
			x.Read = map[string]event.Copy{}
		}
		for _, path := range wanted {
			if bytes > maxRead {
				x.Read[path] = event.Copy{Err: "what the result names is too large"}
				continue
			}
			fetched, err := t.fetch(ctx, x.Intent.Host, path, with)
			bytes += len(fetched.Body.Bytes)
			switch status := fetched.Status; {
			case err != nil:
				return err
			case status == http.StatusOK:
				x.Read[path] = fetched.Body
			case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
				return fmt.Errorf("reading %s: the CMS answered %d", path, status)
			default:
				x.Read[path] = event.Copy{Err: fmt.Sprintf("the CMS answered %d", status)}
			}
		}
	}
	return nil
}

// Reasons why an entity can not tell what became of a write.
var (
	errMoved    = errors.New("its environment is another one now")
	errUnderWay = errors.New("another write to it is under way")
	errHidden   = errors.New("it is not there, or may not be seen")
)

// find reads the entity that a write is about. Own says that it is asked for
// with the credentials of the writer.
func (t *tap) find(ctx context.Context, x *event.Exchange, with event.Credentials, own bool) (event.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	intent := x.Intent
	if t.now().Key(intent, t.outbox.Links()) != intent.Entity {
		return event.Finding{}, errMoved
	}
	if t.underWay.any(intent) {
		return event.Finding{}, errUnderWay
	}
	last, err := t.outbox.Last(ctx, intent.Entity)
	if err != nil {
		return event.Finding{}, err
	}
	question, _ := t.now().Question(intent)
	fetched, err := t.fetch(ctx, intent.Host, question, with)
	if err != nil {
		return event.Finding{}, err
	}
	if fetched.Status == http.StatusNotFound && !own {
		if list, err := t.fetch(ctx, intent.Host, path.Dir(question), with); err != nil || list.Status != http.StatusOK || !maps.Equal(with, t.now().token) {
			return event.Finding{}, errors.Join(errHidden, err)
		}
	}
	finding := event.Finding{Status: fetched.Status, Entity: fetched.Body}
	if !fetched.Date.IsZero() {
		finding.Began = fetched.Date.Add(-since(intent.Time) - clockSlack)
	}
	if finding.Last, err = t.outbox.Last(ctx, intent.Entity); err == nil && (finding.Last != last || t.underWay.any(intent)) {
		err = errUnderWay
	}
	return finding, err
}

// clockSlack is how far the clocks of the CMS may be apart: that of its answers
// and that of its entities.
const clockSlack = 2 * time.Second

// since is how long ago it was, by the clock that says more: the one that stands
// still while the machine sleeps, or the one that may have been set.
func since(at time.Time) time.Duration {
	return max(time.Since(at), time.Now().Round(0).Sub(at.Round(0)))
}
