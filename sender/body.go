package sender

import (
	"strings"

	"cmstap/event"
)

// maxBody is how much of a request's body is shown, in bytes.
const maxBody = 64 << 10

// Body makes the body of a call again that had so many bytes, without what may be
// secret. It is empty if the webhook is not there, if its settings make another body
// now, or if its events go in bundles.
func (s *Sender) Body(d event.Delivery, bytes int64) string {
	s.mu.Lock()
	l := s.lines[d.Webhook]
	s.mu.Unlock()
	if l == nil || l.webhook.Bundled {
		return ""
	}
	body, made := l.body(d)
	if !made || int64(len(body)) != bytes {
		return ""
	}
	text := strings.ToValidUTF8(string(body[:min(len(body), maxBody)]), "\uFFFD")
	return l.redact(text, len(body) > maxBody)
}

// body fills in what the webhook is sent of a delivery alone; made is false if its
// templates can not be filled in.
func (l *line) body(d event.Delivery) (body []byte, made bool) {
	defer func() { _ = recover() }() // it was said when the call was made
	filled, err := l.fill(bundle{d})
	return filled.Content.Body, err == nil
}
