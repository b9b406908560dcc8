// Package shape turns a delivery into the request of one attempt: method,
// headers, body, signature. It is pure.
package shape

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
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
	Attempt  int       // from 1
	Time     time.Time // when the attempt starts; UTC
	Headers  map[string]string
	Username string // basic auth, if not empty
	Password string
	// SigningKey signs the request by the Standard Webhooks specification 1.0,
	// if not empty.
	SigningKey string
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
	if c.SigningKey != "" {
		sign(&r, e.ID, c.Time, c.SigningKey)
	}
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
	e := c.Delivery.Event
	header.Set("X-Cmstap-Event", e.ID)
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

// sign adds the three headers of Standard Webhooks 1.0 with the symmetric
// scheme v1.
func sign(r *Request, id string, at time.Time, key string) {
	raw, _ := Key(key)
	timestamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(r.Body)
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", timestamp)
	r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// Key is a signing key's bytes: base64 after "whsec_", or the text as it is.
func Key(text string) ([]byte, error) {
	encoded, isBase64 := strings.CutPrefix(text, "whsec_")
	if !isBase64 {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("must be base64 after whsec_")
	}
	return key, nil
}
