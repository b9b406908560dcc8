package setting

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Duration is a time span, written as 30s, 1h30m or 7d.
type Duration time.Duration

var dayUnits = regexp.MustCompile(`^(\d+)d(.*)$`)

const (
	day      = 24 * time.Hour
	maxDays  = 36500
	longSpan = maxDays * day
)

// UnmarshalText reads a duration as people write it; negative ones are errors.
func (d *Duration) UnmarshalText(text []byte) error {
	rest, days := string(text), 0
	if match := dayUnits.FindStringSubmatch(rest); match != nil {
		days, _ = strconv.Atoi(match[1])
		rest = match[2]
	}
	var span time.Duration
	var err error
	if rest != "" || days == 0 {
		span, err = time.ParseDuration(rest)
	}
	switch {
	case err != nil || span < 0:
		return fmt.Errorf("want a time span such as 30s, 1h30m or 7d, not %q", text)
	case days > maxDays || span > longSpan-time.Duration(days)*day:
		return fmt.Errorf("want at most %dd, not %q", maxDays, text)
	}
	*d = Duration(span + time.Duration(days)*day)
	return nil
}

// Std returns the span as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the span as people write it: 7d, 1d3h30m, 30s.
func (d Duration) String() string {
	days, rest := d.Std()/day, (d.Std() % day).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(rest, zero) {
			rest = rest[:len(rest)-2]
		}
	}
	switch {
	case days == 0:
		return rest
	case rest == "0s":
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, rest)
}

// Size is a number of bytes, written as 4GiB, 100MB or 4096.
type Size int64

var (
	sizeForm  = regexp.MustCompile(`^(\d+)\s*([A-Za-z]*)$`)
	sizeUnits = map[string]int64{
		"": 1, "b": 1,
		"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}
)

// UnmarshalText reads a size as people write it.
func (s *Size) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("want a size such as 4GiB, 100MB or 4096, not %q", text)
	match := sizeForm.FindStringSubmatch(string(text))
	if match == nil {
		return bad
	}
	number, err := strconv.ParseInt(match[1], 10, 64)
	unit, known := sizeUnits[strings.ToLower(match[2])]
	if err != nil || !known || number > math.MaxInt64/unit {
		return bad
	}
	*s = Size(number * unit)
	return nil
}

// String returns the size as people write it: 4GiB, or 1000 if no unit fits.
func (s Size) String() string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	n, i := int64(s), 0
	for ; n != 0 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// URL is an http or https address with a host.
type URL struct{ *url.URL }

// UnmarshalText reads an address; anything but http and https is an error.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	switch {
	case err != nil: // err may quote a part of a password
		return errors.New("not a valid address; want https://host/path, with special characters as %XX (a slash in a password is %2F)")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return errors.New("the address must start with http:// or https://")
	case parsed.Hostname() == "":
		return errors.New("the address has no host")
	case parsed.Port() != "" && !isPort(parsed.Port()):
		return errors.New("the address has a port that is not from 1 to 65535")
	case strings.ContainsFunc(parsed.RawQuery, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the address has characters in its query that must be written as %XX")
	case parsed.Fragment != "":
		return errors.New("the address must not have a #fragment")
	}
	u.URL = parsed
	return nil
}

// Shown returns the address without user, query and path, which may be secret.
func (u URL) Shown() string {
	if u.URL == nil {
		return ""
	}
	text := u.Scheme + "://" + u.Host + "/"
	if len(u.Path) > 1 || u.RawQuery != "" {
		text += "<secret>"
	}
	return text
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// IsListen tells whether a text is what can be listened on: host:port, of which
// the host may be empty, and the port 0.
func IsListen(text string) bool {
	_, port, err := net.SplitHostPort(text)
	return err == nil && (port == "0" || isPort(port))
}

// Range is a range of addresses, written as 10.0.0.0/8, or a single one.
type Range struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.0/8, or a single address.
func (r *Range) UnmarshalText(text []byte) error {
	prefix, err := netip.ParsePrefix(string(text))
	if err != nil {
		var address netip.Addr
		address, err = netip.ParseAddr(string(text))
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if err != nil {
		return fmt.Errorf("want an address or a range such as 10.0.0.0/8, not %q", text)
	}
	r.Prefix = prefix
	return nil
}

// Secret is a value that never shows: it prints as <secret>. In YAML it is
// { env: NAME }, { file: PATH } or { value: TEXT }; it is resolved while the
// file is read.
type Secret struct{ value string }

// Reveal returns the value itself, for the one place that uses it.
func (s Secret) Reveal() string { return s.value }

// IsSet tells whether there is a value.
func (s Secret) IsSet() bool { return s.value != "" }

// String returns "<secret>", so that no log or error shows the value.
func (s Secret) String() string { return "<secret>" }

// GoString returns "<secret>" for %#v.
func (s Secret) GoString() string { return "<secret>" }

// MarshalText returns "<secret>", so that no encoder shows the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }

// Text is a value that may be secret: plain text, or a Secret's form. It prints
// as <secret> either way.
type Text struct {
	Secret
	plain bool
}

// IsPlain tells whether the file has the value itself, and not a Secret's form.
func (t Text) IsPlain() bool { return t.plain }

func (d *document) text(node *yaml.Node, into *Text, path string) {
	if node.Kind == yaml.ScalarNode {
		into.value, into.plain = node.Value, true
		return
	}
	d.secret(node, &into.Secret, path)
}

func (d *document) secret(node *yaml.Node, into *Secret, path string) {
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		d.add(node.Line, path, "write a secret as { env: NAME }, { file: PATH } or { value: TEXT }")
		return
	}
	value := node.Content[1]
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	from, name := node.Content[0].Value, value.Value
	form, known := secretForms[from]
	switch {
	case !known: // the key is not named: in { hunter2 } it is the secret
		d.add(node.Line, path, "unknown key; write a secret as { env: NAME }, { file: PATH } or { value: TEXT }")
		return
	case value.Kind != yaml.ScalarNode || value.Tag == "!!null" || name == "":
		d.add(node.Line, path, "%s wants %s, as a single value", from, form.wants)
		return
	}
	if d.unresolved {
		return
	}
	var err error
	if into.value, err = form.read(name); err != nil {
		d.add(node.Line, path, "%v", err)
	}
}

// secretForms are the ways to write a secret.
var secretForms = map[string]struct {
	wants string
	read  func(string) (string, error)
}{
	"env":   {"the name of a variable", secretFromEnvironment},
	"file":  {"a path", secretFromFile},
	"value": {"the secret itself", func(text string) (string, error) { return text, nil }},
}

func secretFromEnvironment(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	return value, nil
}

func secretFromFile(name string) (string, error) {
	if needsShell(name) {
		return "", errors.New(shellHint)
	}
	text, err := os.ReadFile(name)
	value := strings.TrimRight(string(text), "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("the secret can not be read: %w", err)
	case value == "":
		return "", fmt.Errorf("the file %s is empty", name)
	}
	return value, nil
}

// Tree is a piece of YAML kept as it is, keys in their order: a payload
// template, for example.
type Tree struct {
	Fields []Field // of a mapping
	Items  []Tree  // of a list
	Text   string  // of a string
	Value  any     // of any other scalar: nil, bool, int or float64
	Kind   TreeKind
}

// TreeKind tells which part of a Tree is set.
type TreeKind uint8

// The kinds of Tree.
const (
	TreeNone TreeKind = iota // not in the file
	TreeMap
	TreeList
	TreeText
	TreeScalar
)

// String returns the tree on one line, nearly as JSON has it.
func (t Tree) String() string {
	switch t.Kind {
	case TreeMap:
		fields := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = strconv.Quote(f.Name) + ": " + f.Value.String()
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case TreeList:
		items := make([]string, len(t.Items))
		for i, item := range t.Items {
			items[i] = item.String()
		}
		return "[" + strings.Join(items, ", ") + "]"
	case TreeText:
		return strconv.Quote(t.Text)
	case TreeScalar:
		return fmt.Sprint(t.Value)
	}
	return ""
}

// Shown tells whether there is a tree: what it says may be secret.
func (t Tree) Shown() string {
	if t.Kind == TreeNone {
		return ""
	}
	return "<set>"
}

// Field is one pair of a mapping.
type Field struct {
	Name  string
	Value Tree
}

func (d *document) tree(node *yaml.Node, into *Tree, path string) {
	switch {
	case node.Kind == yaml.MappingNode:
		into.Kind = TreeMap
		for _, p := range d.pairs(node, path) {
			field := Field{Name: p.key.Value}
			d.branch(p.value, &field.Value, join(path, field.Name))
			into.Fields = append(into.Fields, field)
		}
	case node.Kind == yaml.SequenceNode:
		into.Kind = TreeList
		into.Items = make([]Tree, len(node.Content))
		for i, item := range node.Content {
			d.branch(item, &into.Items[i], fmt.Sprintf("%s[%d]", path, i))
		}
	case node.Tag == "!!str":
		into.Kind, into.Text = TreeText, node.Value
	default:
		into.Kind = TreeScalar
		if err := node.Decode(&into.Value); err != nil {
			d.add(node.Line, path, "%v", err)
		}
	}
}

// branch reads a part of a tree, which may be an alias.
func (d *document) branch(node *yaml.Node, into *Tree, path string) {
	if node, ok := d.enter(node, path); ok {
		d.lines[path] = node.Line
		d.tree(node, into, path)
		d.leave(node)
	}
}
