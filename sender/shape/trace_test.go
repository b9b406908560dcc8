package shape

import (
	"testing"

	"cmstap/event"
)

func TestTraceGoesOn(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	call := func(parent string, attempt int) string {
		e := event.Event{ID: "e1", Request: event.Request{Traceparent: parent}}
		r := Build(Call{Delivery: event.Delivery{Event: &e, Want: event.Want{Webhook: "hook"}}, Attempt: attempt})
		return r.Header.Get("Traceparent")
	}
	first, second := call("00-"+trace+"-00f067aa0ba902b7-01", 1), call("00-"+trace+"-00f067aa0ba902b7-01", 2)
	for _, sent := range []string{first, second, call("01-"+trace+"-00f067aa0ba902b7-00-more", 1)} {
		match := traceForm.FindStringSubmatch(sent)
		if match == nil || match[1] != "00" || match[2] != trace || match[3] == "00f067aa0ba902b7" || match[5] != "" {
			t.Errorf("sent %q", sent)
		}
	}
	if first == second || first[len(first)-3:] != "-01" {
		t.Errorf("two attempts are two spans with the caller's flags; sent %q and %q", first, second)
	}
	for _, broken := range []string{
		"", "x", "00-" + trace + "-00f067aa0ba902b7", "ff-" + trace + "-00f067aa0ba902b7-01", "00-" + trace + "-0000000000000000-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-" + trace + "-00f067aa0ba902b7-01-more",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "00-" + trace + "-00f067aa0ba902b7-01\r\nX: y",
	} {
		if sent := call(broken, 1); sent != "" {
			t.Errorf("%q went on as %q", broken, sent)
		}
	}
}
