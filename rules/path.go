package rules

import (
	"fmt"
	"net/url"
	"strings"
)

// pattern is a path with parameters: /spaces/{space}/entries. One that begins
// with /... is for the end of a path, whatever comes before.
type pattern struct {
	segments []segment
	open     bool
}

// segment is a literal, or a parameter that stands for one path segment.
type segment struct {
	text  string
	param bool
}

func parsePattern(path string) (pattern, error) {
	if !strings.HasPrefix(path, "/") {
		return pattern{}, fmt.Errorf("the path %q must start with a slash", path)
	}
	var p pattern
	path, p.open = strings.CutPrefix(path, "/...")
	if path == "" || path[0] != '/' {
		return p, fmt.Errorf("the path %q: /... must be followed by a slash and more", path)
	}
	for text := range strings.SplitSeq(path[1:], "/") {
		name, isParam := strings.CutPrefix(text, "{")
		name, closed := strings.CutSuffix(name, "}")
		if isParam != closed || text == "" || strings.ContainsAny(name, "{} ?#\t") || isParam && !isWord(name) {
			return pattern{}, fmt.Errorf("the path %q: each part is a word or a parameter such as {id}; a parameter has letters, digits, - and _, and no query follows", path)
		}
		p.segments = append(p.segments, segment{name, isParam})
	}
	return p, nil
}

// matches compares a raw request path with the pattern. Percent-encoding is
// undone; empty segments do not count, since servers differ on them and a
// write must not be missed.
func (p *pattern) matches(path string) bool {
	path = p.end(path)
	for _, segment := range p.segments {
		var text string
		text, path = nextSegment(path)
		if text == "" || !segment.param && text != segment.text && unescape(text) != segment.text {
			return false
		}
	}
	rest, _ := nextSegment(path)
	return rest == ""
}

// path fills the parameters in.
func (p *pattern) path(params map[string]string) string {
	text := ""
	for _, segment := range p.segments {
		if segment.param {
			text += "/" + url.PathEscape(params[segment.text])
		} else {
			text += "/" + segment.text
		}
	}
	return text
}

// covers tells whether every path that matches another pattern matches this one.
func (p *pattern) covers(other *pattern) bool {
	extra := len(other.segments) - len(p.segments)
	if extra < 0 || extra > 0 && !p.open || other.open && !p.open {
		return false
	}
	for i, segment := range p.segments {
		if o := other.segments[extra+i]; !segment.param && (o.param || o.text != segment.text) {
			return false
		}
	}
	return true
}

// mayMatch tells whether a path of so many segments can match.
func (p *pattern) mayMatch(segments int) bool {
	return segments == len(p.segments) || p.open && segments > len(p.segments)
}

// countSegments counts the segments of a path that are not empty.
func countSegments(path string) int {
	n, before := 0, byte('/')
	for i := range len(path) {
		if path[i] != '/' && before == '/' {
			n++
		}
		before = path[i]
	}
	return n
}

// params returns the parameters of a path that matches.
func (p *pattern) params(path string) map[string]string {
	found := map[string]string{}
	path = p.end(path)
	for _, segment := range p.segments {
		var text string
		text, path = nextSegment(path)
		if segment.param {
			found[segment.text] = clone(unescape(text))
		}
	}
	return found
}

// end is the part of a path that the segments are compared with.
func (p *pattern) end(path string) string {
	if !p.open {
		return path
	}
	path = strings.TrimRight(path, "/")
	start := len(path)
	for range p.segments {
		start = max(strings.LastIndexByte(strings.TrimRight(path[:start], "/"), '/'), 0)
	}
	return path[start:]
}

// nextSegment cuts the first segment off a path; it is "" at the end.
func nextSegment(path string) (text, rest string) {
	path = strings.TrimLeft(path, "/")
	text, rest, _ = strings.Cut(path, "/")
	return text, rest
}

func unescape(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return strings.ToValidUTF8(plain, "\uFFFD") // as it is kept on disk
}

// resolveDots takes the segments . and .. out of a path as servers do, also
// percent-encoded ones: a write must not be missed for them.
func resolveDots(path string) string {
	if !strings.Contains(path, "/.") && !strings.Contains(path, "%2e") && !strings.Contains(path, "%2E") {
		return path
	}
	var kept []string
	for rest := path; rest != ""; {
		var text string
		text, rest = nextSegment(rest)
		switch unescape(text) {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, text)
		}
	}
	return "/" + strings.Join(kept, "/")
}
