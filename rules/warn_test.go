package rules_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// warnings are those of a subscription's YAML; each is "line: path: text".
func warnings(t *testing.T, yaml string) string {
	t.Helper()
	return warningsOf(t, contentful(t), yaml)
}

func warningsOf(t *testing.T, d *rules.Dialect, yaml string) string {
	t.Helper()
	var s rules.Subscription
	var found setting.Problems
	_ = setting.Decode("FILE", []byte(yaml), &s, func(c setting.Check) {
		s.Validate(c)
		s.Warn(c, d)
		found = c.Warnings()
	})
	return strings.ReplaceAll(found.Error(), "FILE:", "")
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	check := func(yaml, want string) {
		t.Helper()
		if got := warnings(t, yaml); got != want {
			t.Errorf("%s:\n got %s\nwant %s", yaml, got, want)
		}
	}
	const none = "no request makes such an event (dialect contentful); "
	check(`topics: [Entry.publish, ENTRY.auto_save, "Asset.*", "*.delete", "*.*"]`, "")
	check(`topics: [publish]`, "") // a mistake already
	check("topics:\n- Entry.create\n- Entry.published", "3: topics[1]: "+none+"did you mean Entry.publish?")
	check(`topics: [Entri.Published]`, "1: topics[0]: "+none+"did you mean Entry.publish?")
	check(`topics: ["Asse.*"]`, "1: topics[0]: "+none+"did you mean Asset.*?")
	check(`topics: ["*.autosave"]`, "1: topics[0]: "+none+"did you mean *.auto_save?")
	check(`topics: [ContentType.archive]`, "1: topics[0]: "+none+"the actions of ContentType are auto_save, create, delete, publish, save, unpublish")
	check(`topics: [Locale.create]`, "1: topics[0]: "+none+"its types are AppInstallation, Asset, BulkAction, BulkContentOperation, "+
		"Comment, ComponentType, ContentType, DataAssembly, DesignToken, Entry, EnvironmentAlias, Experience, Fragment, Release, ReleaseAction, ReleaseAsset, ReleaseEntry, ScheduledAction, Task, Template, Workflow")

	const space = "never matches: EnvironmentAlias belongs to a space, not to an environment; leave environments out, or give it a webhook of its own"
	check(`topics: ["EnvironmentAlias.*"]`, "")
	check("environments: [master]\ntopics: [\"*.*\", \"*.create\", ScheduledAction.create]", "")
	check("environments: [master]\ntopics: [\"EnvironmentAlias.*\", Entry.save,\n EnvironmentAlias.change_target]", "2: topics[0]: "+space+"\n3: topics[2]: "+space)
}

func TestFilterWarnings(t *testing.T) {
	t.Parallel()
	check := func(topics, filter, want string) {
		t.Helper()
		if want != "" {
			want = "2: filter: " + strings.ReplaceAll(want, "\n", "\n2: filter: ")
		}
		if got := warnings(t, "topics: ["+topics+"]\nfilter: '"+filter+"'"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", filter, got, want)
		}
	}
	const all = `"*.*"`
	check(all, `entity.content_type == "post" and request.user_agent contains "x" and type == "Entry"`, "")
	check(all, `payload.whatever.is["in"][0] == 1 and payload != nil and any(payload.list, #.a == 1)`, "")
	check(all, `entity[type] == "x" and alias == target`, "")
	check(all, `payload.x ==`, "") // a mistake already

	check(all, `entity.contentType == "post"`, "reads entity.contentType, which no event has: the filter is false there; did you mean entity.content_type?")
	check(all, `entity["content-type"] == "post"`, "reads entity.content-type, which no event has: the filter is false there; did you mean entity.content_type?")
	check(all, `request.agent == ""`, "reads request.agent, which no event has: the filter is false there; it has method, path, id, traceparent, user_agent")
	check(all, `request.path.x == 1`, "reads a property of request.path, which is a plain value and has none: the filter is false there")
	check(all, `actor.sys.id == "u"`, "reads a property of actor, which is a plain value and has none: the filter is false there")
	check(all, `before.fields.a == before.fields.b or changed("fields.a")`, "")
	check(all, `cause == "bulk"`, "")
	check("Task.save", `cause == "bulk"`, "reads cause, which none of these events has: the filter is false there")

	check(all, `(cause ?? "none") == "none" and request.agent?.x == nil and (entity.kind ?? 1) == 1`, "")

	check(all, `1 < 2`, "reads nothing of the event: it is true for every event, so it can be left out")
	check(all, `false`, "reads nothing of the event: it is false for every event, so the webhook is never called")
	check(all, `int("a") < 1`, "reads nothing of the event: it is false for every event, so the webhook is never called")

	const without = ": the filter is false there, or undecided if the CMS's answer was empty"
	check("Entry.delete, Entry.unpublish", `payload.fields.slug == "x"`, "reads payload.fields, which a payload of Entry.delete, Entry.unpublish never has"+without)
	check("Entry.unpublish", `(payload.fields ?? 1) == 1`, "")
	const hidden = " that has no body: the filter is undecided there, and on_unknown decides"
	check("Entry.delete", `payload.fields.slug == "x"`, "reads payload.fields.slug, which only the CMS's answer tells, and for Entry.delete"+hidden)
	check("Entry.delete, Asset.delete", `payload.sys.contentType?.sys.id == "x"`, "") // what was tells
	check("Entry.delete", `entity.content_type == "x"`, "")                           // it is read before
	check("EnvironmentAlias.delete", `payload.name == "x"`, "reads payload.name, which only the CMS's answer tells, and for EnvironmentAlias.delete"+hidden)
	check("EnvironmentAlias.delete, Entry.delete", `payload.sys.id == "x" and entity.id == "x" and payload.sys.space.sys.id == "s" and payload.sys[type] == 1`, "")
	check("Entry.delete, Entry.save", `entity.content_type == "x"`, "")
	check("Entry.publish", `payload.slug == "x"`, "reads payload.slug, which a payload of Entry.publish never has"+without)
	check("Entry.delete, Entry.publish", `payload.fields.slug == "x"`, "")
	check("Entry.save", `payload.slug == "x"`, "")
	check("Entry.unpublish", `payload[type] == 1`, "")
	check("Entry.unpublish", `payload.sys.id == "x"`, "")
}

// TestPropertiesAreWhatEventsHave: a filter may read each property of an event
// without a warning, but for the one that no dialect sets.
func TestPropertiesAreWhatEventsHave(t *testing.T) {
	t.Parallel()
	for root, of := range map[string]reflect.Type{"entity": reflect.TypeFor[event.Entity](), "request": reflect.TypeFor[event.Request]()} {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			got := warnings(t, "topics: ['*.*']\nfilter: "+root+"."+name+" != nil")
			if (got != "") != (name == "locale") {
				t.Errorf("%s.%s: %q", root, name, got)
			}
		}
	}
}

// TestWarningsComeTrue: what the warnings say of filters is what matching does.
func TestWarningsComeTrue(t *testing.T) {
	t.Parallel()
	const published = "PUT /spaces/s/entries/x/published"
	check := func(request string, status int, filter string, wanted, undecided bool) {
		t.Helper()
		var s rules.Subscription
		if err := setting.Decode("t", []byte("topics: ['*.*']\nfilter: '"+filter+"'"), &s, s.Validate); err != nil {
			t.Fatal(err)
		}
		r := rules.New(contentful(t), []rules.Webhook{{Name: "w", Subscription: s}})
		method, path, _ := strings.Cut(request, " ")
		answer := `{"sys":{"id":"x","contentType":{"sys":{"id":"post"}},"updatedBy":{"sys":{"id":"u"}},"publishedCounter":1},"fields":{"a":1}}`
		if status == 204 {
			answer = ""
		}
		e := r.Derive(exchange(r, method, path, nil, status, answer), nil, nil)[0]
		if got := r.Match(&e, nil)[0]; got.Wanted != wanted || (got.Undecided != "") != undecided {
			t.Errorf("%s, %s: %+v", request, filter, got)
		}
	}
	for _, filter := range []string{"before != nil", "changes != nil", `changed("fields.a")`} {
		check(published, 200, filter, true, true)
	}
	for _, filter := range []string{"cause != nil", "entity.locale != nil", "actor.sys != 1", "request.path.x != 1", "payload.slug != 1"} {
		check(published, 200, filter, false, false)
	}
	check(published, 200, "payload.fields.a == 1", true, false)
	check("DELETE /spaces/s/entries/x/published", 200, "payload.fields.a == 1", false, false)
	const deleted, unlinked = "DELETE /spaces/s/entries/x", "DELETE /spaces/s/environment_aliases/x"
	for _, filter := range []string{"payload.fields.a == 1", `payload.sys.contentType?.sys.id == "post"`, `entity.content_type == "post"`} {
		check(deleted, 204, filter, true, true)
	}
	check(unlinked, 204, `payload.name == "x"`, true, true)
	for _, filter := range []string{`payload.sys.id == "x"`, `entity.id == "x"`, `payload.sys.space.sys.id == "s"`} {
		check(deleted, 204, filter, true, false)
		check(unlinked, 204, filter, true, false)
	}
	check(published, 200, `(cause ?? "none") == "none" and (entity.kind ?? 1) == 1`, true, false)
}

// TestTopics: the dialect makes the topics of the table of routes, and no other.
func TestTopics(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"BulkAction.execute": true, "ReleaseAction.execute": true, "BulkContentOperation.complete": true} // results of jobs
	for _, row := range routeRows(t) {
		if row.Topic != nil && row.excepted() == "" {
			_, topic, _ := strings.Cut(*row.Topic, ".")
			want[topic] = true
		}
	}
	d := contentful(t)
	got := slices.DeleteFunc(d.Topics(), func(topic string) bool { // any save may say that it is one
		return strings.HasSuffix(topic, ".auto_save") && !want[topic]
	})
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), got); diff != "" {
		t.Error(diff)
	}
}
