package sender

import (
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/testlog"
)

// The body of a call is shown as it was sent, if the settings still make it, and
// without what they say is secret.
func TestBody(t *testing.T) {
	t.Parallel()
	const settings = "headers: { X-Key: { value: hunter2hunter2 } }\nbody: { said: '${payload.text}', key: hunter2hunter2 }"
	s := New([]Webhook{
		{Name: "plain", Endpoint: endpoint(t, "http://x.example", "")},
		{Name: "own", Endpoint: endpoint(t, "http://x.example", settings)},
		{Name: "many", Endpoint: endpoint(t, "http://x.example", ""), Bundled: true},
		{Name: "needs", Endpoint: endpoint(t, "http://x.example/${payload.slug}", "")},
	}, newFakeStore(), (&testlog.Log{}).Logger())
	payload := "{\"text\":\"a\xff\"}"
	check := func(webhook string, bytes int, want string) {
		t.Helper()
		e := event.Event{ID: "e", Type: "Entry", Action: "save", Payload: []byte(payload)}
		if got := s.Body(event.Delivery{Want: event.Want{Webhook: webhook}, Event: &e}, int64(bytes)); got != want {
			t.Errorf("%s: %.200q", webhook, got)
		}
	}
	check("plain", len(payload), "{\"text\":\"a\uFFFD\"}")
	check("plain", len(payload)+1, "")
	check("many", len(payload), "")
	check("needs", len(payload), "")
	check("none", len(payload), "")
	payload = `{"text":"hello"}`
	check("own", len(`{"said":"hello","key":"hunter2hunter2"}`), `{"said":"hello","key":"<secret>"}`)
	payload = `{"text":"` + strings.Repeat("x", maxBody) + `"}`
	check("plain", len(payload), payload[:maxBody])
}
