package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/rules"
)

// The verdicts by short names.
const yes, no, doubt = event.Accepted, event.Rejected, event.Doubt

// TestCheck: what an entity, read later, tells of a write whose answer nobody
// saw. The write began at 03:10:00.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	const earlier, later = "2026-01-02T03:09:59.000Z", "2026-01-02T03:10:01.000Z"
	// sys is the entity's version, and when it was created and updated.
	sys := func(version int, created, updated, more string) string {
		return fmt.Sprintf(`{"sys":{"id":"x","version":%d,"createdAt":%q,"updatedAt":%q%s}}`, version, created, updated, more)
	}
	type known struct{ before, seen int64 } // each version in between had an event, unless gap says otherwise
	gap := int64(0)
	check := func(method, path, version string, k known, status int, entity string, want event.Verdict) *event.Exchange {
		t.Helper()
		x := exchange(r, method, path, headers{"X-Contentful-Version": version}, 0, "")
		x.Intent.Last = event.Last{Version: k.before, Count: 3}
		now := event.Last{Version: k.seen, Count: 3 + k.seen - k.before - gap}
		verdict, done := r.Resolve(x, event.Finding{Status: status, Entity: event.Copy{Bytes: []byte(entity)}, Began: at, Last: now})
		if verdict != want {
			t.Errorf("%s %s from %q, %+v, %d %s: got %d, want %d", method, path, version, k, status, entity, verdict, want)
		}
		return done
	}
	const entry = "/spaces/s/entries/x"

	// A save names the version that it replaces.
	check("PUT", entry, "4", known{4, 4}, 200, sys(4, earlier, earlier, ""), no)
	check("PUT", entry, "4", known{4, 4}, 200, sys(3, earlier, earlier, ""), no)
	check("PUT", entry, "4", known{4, 4}, 200, sys(5, earlier, later, ""), yes)
	check("PUT", entry, "4", known{4, 4}, 200, sys(8, earlier, later, ""), yes)
	check("PUT", entry, "4", known{4, 5}, 200, sys(5, earlier, later, ""), no) // the next version is another event's
	check("PUT", entry, "4", known{4, 6}, 200, sys(6, earlier, later, ""), no) // both are others'
	gap = 1
	check("PUT", entry, "4", known{4, 6}, 200, sys(6, earlier, later, ""), doubt)
	gap = 0
	check("PUT", entry, "4", known{4, 4}, 404, `{"sys":{"type":"Error"}}`, doubt)
	check("PUT", entry, "4", known{}, 404, `{"sys":{"type":"Error"}}`, no)
	check("PUT", entry, "4", known{4, 4}, 429, `{"sys":{"type":"Error"}}`, doubt)
	check("PUT", entry, "4", known{4, 4}, 401, sys(5, earlier, later, ""), doubt)
	check("PUT", entry, "4", known{4, 4}, 200, `not JSON`, doubt)
	check("PUT", entry, "x", known{4, 4}, 200, sys(5, earlier, later, ""), doubt)
	check("PATCH", entry, "4", known{}, 200, sys(5, earlier, later, ""), yes)

	// A create has no version, or 0.
	for _, version := range []string{"", "0"} {
		check("PUT", entry, version, known{}, 404, `{}`, no)
		check("PUT", entry, version, known{}, 200, sys(1, later, later, ""), yes)
		check("PUT", entry, version, known{7, 7}, 200, sys(1, later, later, ""), yes) // there was another one of that id
		check("PUT", entry, version, known{0, 1}, 200, sys(1, later, later, ""), no)  // somebody else was first
		check("PUT", entry, version, known{}, 200, sys(6, earlier, later, ""), no)
	}

	check("PUT", entry+"/published", "4", known{4, 4}, 200, sys(5, earlier, later, `,"publishedVersion":4`), yes)
	check("PUT", entry+"/published", "4", known{4, 4}, 200, sys(4, earlier, earlier, `,"publishedVersion":2`), no)
	check("PUT", entry+"/published", "4", known{4, 5}, 200, sys(5, earlier, later, `,"publishedVersion":4`), no)
	check("PUT", entry+"/published", "4", known{4, 4}, 200, sys(9, earlier, later, `,"publishedVersion":8`), doubt)
	check("PUT", entry+"/published", "", known{4, 4}, 200, sys(5, earlier, later, `,"publishedVersion":4,"publishedAt":"`+later+`"`), yes)
	check("PUT", entry+"/published", "", known{4, 4}, 200, sys(4, earlier, earlier, ``), no)
	check("PUT", entry+"/published", "", known{}, 200, sys(4, earlier, earlier, ``), no)
	check("PUT", entry+"/published", "", known{4, 5}, 200, sys(5, earlier, later, `,"publishedVersion":4,"publishedAt":"`+later+`"`), no)

	check("DELETE", entry+"/published", "", known{5, 5}, 200, sys(6, earlier, later, ``), yes)
	check("DELETE", entry+"/published", "", known{5, 5}, 200, sys(5, earlier, later, `,"publishedVersion":4`), no)
	check("DELETE", entry+"/published", "", known{}, 200, sys(5, earlier, earlier, `,"publishedVersion":4`), no)
	check("DELETE", entry+"/published", "", known{5, 6}, 200, sys(6, earlier, later, ``), no) // one change since, another's
	check("DELETE", entry+"/published", "", known{5, 7}, 200, sys(7, earlier, later, ``), no)
	check("DELETE", entry+"/published", "", known{5, 7}, 200, sys(8, earlier, later, ``), yes) // one of them is nobody's
	gap = 1
	check("DELETE", entry+"/published", "", known{5, 7}, 200, sys(7, earlier, later, ``), doubt)
	gap = -5 // it was made anew, and counted from there
	check("DELETE", entry+"/published", "", known{5, 2}, 200, sys(2, later, later, ``), doubt)
	gap = 0
	check("DELETE", entry+"/published", "", known{5, 5}, 404, ``, doubt)

	check("PUT", entry+"/archived", "", known{5, 5}, 200, sys(6, earlier, later, `,"archivedAt":"`+later+`"`), yes)
	check("PUT", entry+"/archived", "", known{5, 5}, 200, sys(5, earlier, later, ``), no)
	check("DELETE", entry+"/archived", "", known{5, 5}, 200, sys(6, earlier, later, ``), yes)
	check("DELETE", entry+"/archived", "", known{5, 5}, 200, sys(5, earlier, later, `,"archivedAt":"`+earlier+`"`), no)

	check("DELETE", entry, "", known{5, 5}, 404, ``, yes)
	check("DELETE", entry, "", known{}, 404, ``, doubt) // it may never have been there
	check("DELETE", entry, "", known{5, 5}, 200, sys(5, earlier, later, ``), no)
	check("DELETE", entry, "", known{}, 200, sys(5, later, later, ``), doubt) // it was made anew, perhaps

	// What is not known stays in doubt.
	x := exchange(r, "DELETE", entry+"/published", nil, 0, "")
	if verdict, _ := r.Resolve(x, event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(sys(6, earlier, later, ``))}}); verdict != doubt {
		t.Error("decided without knowing when the write began")
	}

	// The entity stands for the answer only while it is that version.
	done := check("PUT", entry, "4", known{}, 200, sys(5, earlier, later, ""), yes)
	e := r.Derive(done, nil, nil)[0]
	if !e.Confirmed || e.Entity.Version != 5 || e.Topic() != "Entry.save" || e.Partial != "" || e.PayloadError != "" || len(e.Payload) == 0 {
		t.Errorf("got %+v", e)
	}
	done = check("PUT", entry+"/published", "4", known{}, 200, sys(6, earlier, later, `,"publishedVersion":4`), yes)
	e = r.Derive(done, nil, nil)[0]
	if !e.Confirmed || e.Entity.Version != 5 || e.Partial == "" || e.PayloadError != "" {
		t.Errorf("got %+v", e)
	}
}

// TestQuestion: what is read is the entity, wherever the write went.
func TestQuestion(t *testing.T) {
	t.Parallel()
	r := rules.New(contentful(t), nil)
	for path, want := range map[string]string{
		"PUT /spaces/s/entries/x":                          "/spaces/s/entries/x",
		"PUT /spaces/s/environments/e/entries/x":           "/spaces/s/environments/e/entries/x",
		"DELETE /spaces/s//assets/a%2fb/published":         "/spaces/s/assets/a%2Fb",
		"PUT /spaces/s/x/../content_types/a%20b/published": "/spaces/s/content_types/a%20b",
		"PUT /spaces/s/entries/x//":                        "/spaces/s/entries/x",
		"POST /spaces/s/entries":                           "",
	} {
		method, path, _ := strings.Cut(path, " ")
		x := exchange(r, method, path, nil, 0, "")
		if got, ok := r.Question(x.Intent); got != want || ok != (want != "") {
			t.Errorf("%s %s: got %q", method, path, got)
		}
	}
	if got := r.Credentials("t0ken")["Authorization"]; got != "Bearer t0ken" {
		t.Errorf("got %q", got)
	}
	if r.Credentials("") != nil {
		t.Error("no token gives credentials")
	}
}
