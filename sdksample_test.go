package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
)

// sample is one of Contentful's own webhook calls. Its marks say which fields
// were seen in real traffic; the values are made up.
type sample struct {
	Request struct {
		Method  string
		Headers map[string]any
		Body    map[string]any
	}
	Marks  struct{ Verified []string }
	Absent []string
}

// checkSamples compares deliveries with Contentful's own calls, mark by mark.
func checkSamples(t *testing.T, told []operation) {
	t.Helper()
	check := func(file, op string, missing ...string) {
		t.Helper()
		s := readSample(t, "rules/testdata/webhook-samples/"+file)
		for _, mark := range s.Marks.Verified {
			verify(t, s, mark, find(t, told, op), missing)
		}
		for _, mark := range s.Absent {
			path, condition, _ := strings.Cut(mark, " when ")
			if other := operationWhere[condition]; other != "" {
				verifyAbsent(t, path, find(t, told, other))
			} else {
				verifyAbsent(t, mark, find(t, told, op))
			}
		}
	}
	check("contentful.Asset.create.json", "asset.create")
	check("contentful.Entry.save.json", "entry.update")
	check("contentful.Entry.publish.json", "entry.publish")
	check("contentful.Entry.unpublish.json", "entry.unpublish")
	// The answer to a delete is empty: nobody knows whose token it was.
	check("contentful.Entry.delete.json", "entry.delete", "body.sys.deletedBy")
}

// operationWhere names the operation for which a condition of a mark holds.
var operationWhere = map[string]string{
	"the asset was created without a file": "asset.create",
	"the entry was never published":        "entry.update (never published)",
}

func readSample(t *testing.T, file string) *sample {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func find(t *testing.T, told []operation, op string) *operation {
	t.Helper()
	i := slices.IndexFunc(told, func(o operation) bool { return o.Op == op })
	if i < 0 || len(told[i].deliveries) != 1 {
		t.Fatalf("there is no delivery of %s", op)
	}
	return &told[i]
}

// verify holds one mark of a sample against what was delivered. A mark names a
// field, or says something of the whole body. What is listed as missing must
// be missing, so that the list stays true.
func verify(t *testing.T, s *sample, mark string, o *operation, missing []string) {
	t.Helper()
	path, _, _ := strings.Cut(mark, " ")
	got, want := valueAt(t, o.deliveries[0], path), s.at(path)
	if mark == "method" {
		got, want = o.deliveries[0].Method, s.Request.Method
	}
	switch {
	case slices.Contains(missing, path):
		if got != nil {
			t.Errorf("%s: %s is there; take it off the list of what is missing", o.Op, path)
		}
	case path == "body", want == nil:
		verifyBody(t, s, mark, o)
	default:
		for _, problem := range differences(path, want, got) {
			t.Errorf("%s, %q: %s", o.Op, mark, problem)
		}
	}
}

// verifyBody holds a mark that is about the whole body.
func verifyBody(t *testing.T, s *sample, mark string, o *operation) {
	t.Helper()
	body := valueAt(t, o.deliveries[0], "body").(map[string]any)
	switch {
	case mark == "body has only sys":
		if len(body) != 1 || body["sys"] == nil {
			t.Errorf("%s: the body has more than sys: %v", o.Op, body)
		}
	case strings.HasPrefix(mark, "createdAt == updatedAt == deletedAt"):
		if sys := body["sys"].(map[string]any); sys["createdAt"] != sys["updatedAt"] || sys["updatedAt"] != sys["deletedAt"] {
			t.Errorf("%s: the times differ: %v", o.Op, sys)
		}
	case strings.HasPrefix(mark, "body equals the CMA re"):
		if diff := cmp.Diff(decoded(t, o.Result), any(body)); diff != "" {
			t.Errorf("%s: the body is not what the client got: %s", o.Op, diff)
		}
	case strings.HasPrefix(mark, "body: whole"), strings.HasPrefix(mark, "every field shown here"):
		for _, problem := range differences("body", s.Request.Body, body) {
			t.Errorf("%s, %q: %s", o.Op, mark, problem)
		}
	default:
		t.Errorf("the mark %q is not understood", mark)
	}
}

// verifyAbsent holds a mark that names what is not there: paths, or properties
// of body.sys.
func verifyAbsent(t *testing.T, mark string, o *operation) {
	t.Helper()
	names, _, _ := strings.Cut(mark, " (")
	for _, name := range regexp.MustCompile(`, | and `).Split(names, -1) {
		if !strings.Contains(name, ".") {
			name = "body.sys." + name
		}
		if strings.Contains(name, " ") {
			t.Errorf("the mark %q is not understood", mark)
		}
		if got := valueAt(t, o.deliveries[0], name); got != nil {
			t.Errorf("%s: %s is there: %v", o.Op, name, got)
		}
	}
}

// at is the value of a field of the sample, or nil.
func (s *sample) at(path string) any {
	return step(map[string]any{"headers": s.Request.Headers, "body": s.Request.Body}, path)
}

// valueAt is the value of a field of a delivery: body, body.sys.id, headers.X.
func valueAt(t *testing.T, call demo.Call, path string) any {
	t.Helper()
	if name, found := strings.CutPrefix(path, "headers."); found {
		if values := call.Header.Values(name); len(values) > 0 {
			return strings.Join(values, ", ")
		}
		return nil
	}
	return step(map[string]any{"body": decoded(t, call.Body)}, path)
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func step(value any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

var (
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	crnForm  = regexp.MustCompile(`^crn:contentful:::content:spaces/sp1/environments/master/(entries|assets)/[^/]+$`)
	// fixed are the properties and headers whose values are no example.
	fixed = regexp.MustCompile(`(^method|\.type|\.linkType|Content-Type|X-Contentful-Topic|X-Contentful-Webhook-Name|Attempt)$`)
)

// differences says where a value has not the form of the sample's: each of its
// properties, of the same JSON type; texts of the same form.
func differences(path string, want, got any) []string {
	if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
		return []string{fmt.Sprintf("%s is a %T, want a %T such as %v", path, got, want, want)}
	}
	var found []string
	switch want := want.(type) {
	case map[string]any:
		for name, value := range want {
			found = append(found, differences(path+"."+name, value, got.(map[string]any)[name])...)
		}
	case string:
		got := got.(string)
		for _, form := range []*regexp.Regexp{timeForm, hashForm, crnForm} {
			if form.MatchString(want) && !form.MatchString(got) {
				found = append(found, fmt.Sprintf("%s is %q, want the form of %q", path, got, want))
			}
		}
		if fixed.MatchString(path) && want != got {
			found = append(found, fmt.Sprintf("%s is %q, want %q", path, got, want))
		}
	}
	return found
}
