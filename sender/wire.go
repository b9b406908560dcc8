package sender

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Bounds of what is kept of a call's headers: how many, and the bytes of a value.
const (
	maxHeaders = 50
	maxValue   = 200
)

// shownHeaders are the request headers whose values are kept; with those of the CMS's
// own webhooks. What else there is comes from the config, and may be secret.
var shownHeaders = []string{
	"Content-Type", "Content-Encoding", "User-Agent", "Webhook-Id", "Webhook-Timestamp", "Traceparent",
}

// wire is what is kept of a request, without what may be secret.
func (l *line) wire(d event.Delivery, r *http.Request) *event.Wire {
	return &event.Wire{Method: r.Method, URL: setting.URL{URL: r.URL}.Shown(), Headers: l.showRequest(d, r.Header), Bytes: r.ContentLength}
}

func (l *line) showRequest(d event.Delivery, header http.Header) []event.Header {
	return showHeaders(header, func(name, value string) string {
		if l.isConfigured(name) || !isShown(d, name) {
			return hidden
		}
		return value
	})
}

func (l *line) isConfigured(name string) bool {
	for given := range l.webhook.Endpoint.Headers {
		if http.CanonicalHeaderKey(given) == name {
			return true
		}
	}
	return false
}

func isShown(d event.Delivery, name string) bool {
	native := func(h event.Header) bool { return http.CanonicalHeaderKey(h.Name) == name }
	return slices.Contains(shownHeaders, name) || strings.HasPrefix(name, "X-Cmstap-") || strings.HasPrefix(name, "Ce-") ||
		slices.ContainsFunc(d.Event.Native.Headers, native)
}

// told adds the answer to what is kept of a call, and returns the beginning of
// its body. A receiver may have echoed what it was sent.
func (l *line) told(w *event.Wire, r *http.Request, answer http.Header, body string) string {
	echoed := l.hiddenValues(w, r)
	w.AnswerHeaders = showHeaders(answer, func(name, value string) string {
		if mayBeSecret(name) {
			return hidden
		}
		return echoed.Replace(l.redact(value, false))
	})
	w.Answer = shorten(echoed.Replace(l.redact(body, len(body) >= 2*maxAnswer)), maxAnswer)
	return w.Answer
}

// hiddenValues replaces what of a request is not shown.
func (l *line) hiddenValues(w *event.Wire, r *http.Request) *strings.Replacer {
	var pairs []string
	for _, text := range []string{r.URL.RequestURI(), r.URL.Path} {
		if len(text) > 4 {
			pairs = append(pairs, text, hidden)
		}
	}
	for _, h := range w.Headers {
		for _, value := range r.Header[h.Name] {
			if h.Value == hidden && len(value) > 4 {
				pairs = append(pairs, value, hidden)
			}
		}
	}
	return strings.NewReplacer(pairs...)
}

// mayBeSecret tells whether a header of an answer may hold what lets others in. A
// Location may have a token in its query.
func mayBeSecret(name string) bool {
	name = strings.ToLower(name)
	words := []string{"cookie", "auth", "token", "secret", "key", "session", "signature", "password", "location"}
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
}

// showHeaders lists headers by name, with values as show has them.
func showHeaders(header http.Header, show func(name, value string) string) []event.Header {
	list := []event.Header{}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if len(list) < maxHeaders && value != "" {
				value = strings.ToValidUTF8(show(name, value), "\uFFFD")
				list = append(list, event.Header{Name: shorten(name, maxValue), Value: shorten(value, maxValue)})
			}
		}
	}
	return list
}
