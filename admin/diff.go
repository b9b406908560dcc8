package admin

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// Bounds of what is laid out and compared, in bytes, and of the lines that are
// shown of a comparison. A stranger's JSON may have a thousand times its size once
// it is laid out.
const (
	maxLaidOut  = 4 << 20
	maxCompared = 512 << 10 // laid out
	maxChanges  = 2000
)

// change is a line of a diff.
type change struct {
	Class string // added, removed, place or same
	Means string // the same for who does not see colours
	Text  string
}

// diffOf compares two JSON texts line by line, with their keys sorted. Without
// any change, why says what there is to say instead.
func diffOf(before, after []byte) (changes []change, why string) {
	if laidOutSize(before) > maxCompared || laidOutSize(after) > maxCompared {
		return nil, "It is too large to be compared here."
	}
	_, text, _ := strings.Cut(string(diff.Diff("before", sorted(before), "after", sorted(after))), "+++ after\n")
	for line := range strings.Lines(text) {
		if len(changes) >= maxChanges {
			return append(changes, change{"place", "", "There are more changes than are shown here."}), ""
		}
		changes = append(changes, changeOf(strings.TrimSuffix(line, "\n")))
	}
	if changes == nil {
		why = "Nothing: it is what it was before."
	}
	return changes, why
}

// changeOf reads a line of the unified format.
func changeOf(line string) change {
	switch {
	case strings.HasPrefix(line, "+"):
		return change{"added", "added: ", line}
	case strings.HasPrefix(line, "-"):
		return change{"removed", "removed: ", line}
	case strings.HasPrefix(line, "@"):
		return change{"place", "", line}
	}
	return change{"same", "", line}
}

// sorted lays a JSON text out with sorted keys. What is none stays as it is.
func sorted(text []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return append(bytes.Clone(text), '\n')
	}
	var laidOut bytes.Buffer
	encoder := json.NewEncoder(&laidOut)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // it was decoded, so it can be encoded
	return laidOut.Bytes()
}

// pretty lays out a text that is JSON, and leaves any other as it is.
func pretty(text string) string {
	var laidOut bytes.Buffer
	if laidOutSize([]byte(text)) > maxLaidOut || json.Indent(&laidOut, []byte(text), "", "  ") != nil {
		return text
	}
	return laidOut.String()
}

// laidOutSize is how many bytes a JSON text has at most once it is laid out: each
// value begins a line, and so does the end of a list or an object.
func laidOutSize(text []byte) int {
	size, depth, quoted := len(text), 0, false
	line := func() { size += 2 + 2*max(depth, 0) }
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			line()
		case c == ',':
			line()
		case c == ':':
			size++
		case c == '}' || c == ']':
			depth--
			line()
		}
	}
	return size
}
