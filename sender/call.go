package sender

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/sender/shape"
)

// How much of an answer is read, and for how long, and what is kept of one.
const (
	maxAnswer  = 4 << 10
	drainBytes = 64 << 10
	drainTime  = time.Second
)

// send makes one call.
func (l *line) send(ctx context.Context, b bundle) answer {
	start := time.Now()
	a := answer{attempt: event.Attempt{Number: b.attempts() + 1, Time: start.UTC()}}
	ctx, cancel := context.WithTimeout(ctx, l.webhook.Endpoint.Timeout.Std())
	defer cancel()
	filled, err := l.fill(b)
	if err != nil {
		a.failure, a.attempt.Error = unfillable, shorten(l.redact(err.Error(), false), maxError)
		return a
	}
	var request *http.Request
	response, err := l.call(ctx, func(token string) *http.Request {
		request = l.request(ctx, b, a.attempt, filled, token)
		a.attempt.Wire = l.wire(b[0], request)
		return request
	})
	a.attempt.Duration = time.Since(start)
	if err != nil {
		a.failure, a.attempt.Error = l.explain(err)
		return a
	}
	defer response.Body.Close()
	a.attempt.Status = response.StatusCode
	// Read a little, but not for long, so that the connection can be used again.
	defer time.AfterFunc(drainTime, cancel).Stop()
	body := io.LimitReader(response.Body, drainBytes)
	begin, _ := io.ReadAll(io.LimitReader(body, 2*maxAnswer))
	a.attempt.Answer = l.told(a.attempt.Wire, request, response.Header, strings.ToValidUTF8(string(begin), "\uFFFD"))
	_, _ = io.Copy(io.Discard, body)
	a.retryAfter = retryAfter(response.Header, time.Now())
	return a
}

func (l *line) fill(b bundle) (shape.Filled, error) {
	if l.webhook.Bundled {
		return l.webhook.Endpoint.templates().FillBundle(b)
	}
	return l.webhook.Endpoint.templates().Fill(b[0])
}

func (l *line) request(ctx context.Context, b bundle, attempt event.Attempt, filled shape.Filled, token string) *http.Request {
	e := l.webhook.Endpoint
	headers := filled.Headers
	for name, value := range e.Headers {
		if _, isTemplate := headers[name]; !isTemplate {
			headers[name] = value.Reveal()
		}
	}
	shaped := shape.Build(shape.Call{
		Delivery: b[0], Bundle: l.bundleID(b), Events: len(b), Redelivery: b.redelivery(), Attempt: attempt.Number, Time: attempt.Time, Headers: headers,
		Username: e.Auth.Basic.Username, Password: e.Auth.Basic.Password.Reveal(),
		Bearer: token, Target: filled.URL.RequestURI(), Signing: e.Signing.shape(),
		Content: &filled.Content,
	})
	// GetBody lets a connection that the receiver closed while it was idle be
	// replaced without a failed attempt.
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(shaped.Body)), nil }
	if len(shaped.Body) == 0 {
		body = func() (io.ReadCloser, error) { return http.NoBody, nil }
	}
	r := &http.Request{
		Method: shaped.Method, URL: filled.URL, Host: filled.URL.Host, Header: shaped.Header,
		GetBody: body, ContentLength: int64(len(shaped.Body)),
	}
	r.Body, _ = body()
	if user := e.URL.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
	return r.WithContext(ctx)
}

// explain names the class of a failed call and says why.
func (l *line) explain(err error) (class, why string) {
	var timeout net.Error
	switch {
	case isRefused(err):
		return refused, shorten(l.redact(err.Error(), false), maxError)
	case errors.Is(err, errNoToken) && errors.Is(err, context.DeadlineExceeded):
		return "timeout", errNoToken.Error() + " in time"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", "no answer in time (webhooks[].timeout)"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", shorten(l.redact(err.Error(), false), maxError)
	default:
		return "connection", shorten(l.redact(err.Error(), false), maxError)
	}
}

// maxError bounds the text of an error: it may quote what a receiver sent.
const maxError = 200

// redact takes out of a text what may be secret. One that goes on may end in
// the middle of that.
func (l *line) redact(text string, goesOn bool) string {
	if l.tokens != nil {
		text = l.tokens.hides.Load().redact(text, goesOn)
	}
	return l.redactor().redact(text, goesOn)
}

func shorten(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
