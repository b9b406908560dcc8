package event_test

import (
	"fmt"
	"testing"

	"cmstap/event"
)

func TestAliases(t *testing.T) {
	t.Parallel()
	links := event.Links{
		{Space: "s", Name: "b"}: "live", {Space: "s", Name: "a"}: "live", {Space: "s", Name: "c"}: "next",
		{Space: "s", Name: "none"}: "", {Space: "other", Name: "d"}: "live",
	}
	for environment, want := range map[string]string{"live": "[a b]", "next": "[c]", "a": "[]", "": "[]"} {
		if got := fmt.Sprint(links.Aliases("s", environment)); got != want {
			t.Errorf("%q: %s", environment, got)
		}
	}
	if got := fmt.Sprint(links.Of("s")); got != "map[a:live b:live c:next]" {
		t.Error(got)
	}
}
