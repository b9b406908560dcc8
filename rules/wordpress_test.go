package rules_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// ownWordPress is what WordPress's own hooks said of a step, in our words. They
// also tell of revisions, and of posts that were never saved.
func ownWordPress(x *recorded) (lines []string) {
	for _, report := range x.Own {
		var of any = "settings"
		var body struct{ ID int }
		if json.Unmarshal(report.Body, &body) == nil && body.ID > 0 {
			of = body.ID
		}
		add := func(typ string, actions ...string) {
			for _, action := range actions {
				lines = append(lines, fmt.Sprintf("%s.%s %v", typ, action, of))
			}
		}
		typ, change, _ := strings.Cut(report.Label, ":")
		from, to, transition := strings.Cut(change, ">")
		switch {
		case typ == "revision", to == "auto-draft":
		case typ == "term":
			hook, taxonomy, _ := strings.Cut(change, ":")
			add(taxonomy, map[string]string{"created_term": "create", "edited_term": "update", "delete_term": "delete"}[hook])
		case typ == "option":
			add("settings", "update")
		case !transition:
			add(typ, strings.TrimSuffix(change, "d"))
		default:
			add(typ, transitions(from, to)...)
		}
	}
	return lines
}

// transitions are the actions of a post that changes its status.
func transitions(from, to string) (actions []string) {
	switch {
	case from == "new", from == "auto-draft":
		actions = []string{"create"}
	case to == "trash":
		return []string{"trash"}
	case from == "trash":
		actions = []string{"restore"}
	case from == "publish" && to != "publish":
		return []string{"unpublish"}
	case from == to || to != "publish":
		return []string{"update"}
	}
	if to == "publish" {
		actions = append(actions, "publish")
	}
	return actions
}

// TestWordPressTraffic: what recorded requests give is what WordPress's own hooks
// said of them.
func TestWordPressTraffic(t *testing.T) {
	t.Parallel()
	compareTraffic(t, "wordpress-traffic.json", newReplay(t, "wordpress"), ownWordPress, map[string]meant{
		"unpublish (status draft)": {"post.update 4", "what the post was is not known: the answer before had only its id, and nobody answers when it is read"},
		"UI: Save draft (auto-draft -> draft; POST + X-HTTP-Method-Override: PUT)": {"post.update 23", "the same: it was made when the editor was opened"},
		"UI: autosave of a draft by its author (overwrites the draft itself)":      {"", "an autosave comes every minute; the save follows"},
	})
}
