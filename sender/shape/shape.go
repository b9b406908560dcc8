// Package shape turns a delivery into the request of one attempt: method,
// headers, body, signature. It is pure.
package shape

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cmstap/event"
)

// Call is what a request is made from.
type Call struct {
	Delivery event.Delivery
	// Bundle is the id of the bundle whose first delivery that is, of so many
	// Events; "" if it goes alone.
	Bundle string
	Events int
	// Redelivery says why the call is made once more, if all of its events are.
	Redelivery event.Redelivery
	Attempt    int       // from 1
	Time       time.Time // when the attempt starts; UTC
	Headers    map[string]string
	Username   string // basic auth, if not empty
	Password   string
	Bearer     string // a bearer token, if not empty
	Target     string // path and query as they are sent; some signatures cover it
	Signing    Signing
	// Content is what the webhook's templates made; nil for the form of the CMS's
	// own webhooks.
	Content *Content
}

// Request is a webhook call ready to be sent.
type Request struct {
	Method string
	Header http.Header
	Body   []byte
}

// Build makes the request of an attempt: its content, with the headers of the
// CMS's own webhooks, and what the config adds. It depends on nothing but the
// call.
func Build(c Call) Request {
	e := c.Delivery.Event
	content := Content{Method: http.MethodPost, ContentType: contentType(e.Native), Body: e.Payload, Native: true}
	if c.Content != nil {
		content = *c.Content
	}
	r := Request{Method: content.Method, Header: http.Header{}, Body: content.Body}
	r.Header["User-Agent"] = []string{""} // none but the dialect's
	if content.ContentType != "" {
		r.Header.Set("Content-Type", content.ContentType)
	}
	if content.Native {
		addNative(r.Header, c)
	}
	addOwn(r.Header, c)
	for name, value := range c.Headers {
		r.Header.Set(name, value)
	}
	if c.Username != "" {
		basic := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
		r.Header.Set("Authorization", "Basic "+basic)
	}
	if c.Bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.Bearer)
	}
	sign(&r, c)
	return r
}

func addNative(header http.Header, c Call) {
	for _, h := range c.Delivery.Event.Native.Headers {
		header.Set(h.Name, headerValue(nativeValue(h, c)))
	}
}

func contentType(n event.Native) string {
	if n.ContentType == "" {
		return "application/json"
	}
	return n.ContentType
}

func nativeValue(h event.Header, c Call) string {
	switch h.PerCall {
	case event.CallWebhook:
		return c.Delivery.Webhook
	case event.CallAttempt:
		return strconv.Itoa(c.Attempt)
	default:
		return h.Value
	}
}

// addOwn adds cmstap's own headers: the event's id, and what the receiver
// should know of doubts.
func addOwn(header http.Header, c Call) {
	if c.Redelivery != "" {
		header.Set("X-Cmstap-Redelivery", string(c.Redelivery))
	}
	if c.Bundle != "" { // what is to be known of its events is with each of them
		header.Set("X-Cmstap-Batch", c.Bundle)
		header.Set("X-Cmstap-Batch-Events", strconv.Itoa(c.Events))
		return
	}
	e := c.Delivery.Event
	header.Set("X-Cmstap-Event", e.ID)
	addTrace(header, c)
	if !e.Confirmed {
		header.Set("X-Cmstap-Confirmed", "false")
	}
	if e.Accepted {
		header.Set("X-Cmstap-Accepted", "true")
	}
	if e.Late {
		header.Set("X-Cmstap-Late", "true")
	}
	if c.Delivery.Undecided != "" {
		header.Set("X-Cmstap-Undecided", headerValue(c.Delivery.Undecided))
	}
	if e.Truncated {
		header.Set("X-Cmstap-Truncated", "true")
	}
	if e.PayloadError != "" {
		header.Set("X-Cmstap-Payload-Error", headerValue(e.PayloadError))
	}
}

// headerValue escapes what a header can not carry: control characters and
// anything that is not ASCII. Values may come from strangers' requests.
func headerValue(value string) string {
	if !strings.ContainsFunc(value, unsafeInHeader) {
		return value
	}
	var b strings.Builder
	for _, r := range value {
		if unsafeInHeader(r) {
			b.WriteString(url.QueryEscape(string(r)))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unsafeInHeader(r rune) bool { return r < ' ' || r > '~' }
