package admin

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// change is a line of a diff.
type change struct {
	Class string // added, removed, place or same
	Means string // the same for who does not see colours
	Text  string
}

// diffOf compares two JSON texts, line by line, with their keys sorted. It is
// empty if they say the same, or if one is no JSON.
func diffOf(before, after []byte) []change {
	old, new := sorted(before), sorted(after)
	if old == nil || new == nil {
		return nil
	}
	_, text, _ := strings.Cut(string(diff.Diff("before", old, "after", new)), "+++ after\n")
	var changes []change
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "+"):
			changes = append(changes, change{"added", "added: ", line})
		case strings.HasPrefix(line, "-"):
			changes = append(changes, change{"removed", "removed: ", line})
		case strings.HasPrefix(line, "@@"):
			changes = append(changes, change{"place", "", line})
		default:
			changes = append(changes, change{"same", "", line})
		}
	}
	return changes
}

// sorted lays a JSON text out with sorted keys; nil if it is none.
func sorted(text []byte) []byte {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	var laidOut bytes.Buffer
	encoder := json.NewEncoder(&laidOut)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if encoder.Encode(value) != nil {
		return nil
	}
	return laidOut.Bytes()
}
