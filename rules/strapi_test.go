package rules_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
)

// strapiReport is the body of a webhook call of Strapi's own.
type strapiReport struct {
	Event, Model, UID string
	Entry             map[string]any
	Media             map[string]any
}

// ownStrapi is what Strapi's own webhooks said of a step. They tell of each row
// of a deleted document, a draft and a published one. A single type goes by its
// name here.
func ownStrapi(x *recorded) (lines []string) {
	for _, line := range ownLines(x) {
		if !strings.HasPrefix(line, "entry.delete") || !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// ownLines are all reports of a step, in short.
func ownLines(x *recorded) (lines []string) {
	for _, report := range x.Own {
		var r strapiReport
		if err := json.Unmarshal(report.Body, &r); err != nil {
			panic(err)
		}
		line := fmt.Sprintf("%s %v", r.Event, r.Media["id"])
		if r.Entry != nil {
			id, locale := r.Entry["documentId"], r.Entry["locale"]
			if r.Model == "homepage" {
				id = r.Model
			}
			if locale == nil {
				locale = "en"
			}
			line = fmt.Sprintf("%s %v %v", r.Event, id, locale)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestStrapiTraffic: what recorded requests give is what Strapi's own webhooks
// said of them.
func TestStrapiTraffic(t *testing.T) {
	t.Parallel()
	compareTraffic(t, "strapi-traffic.json", newReplay(t, "strapi"), ownStrapi, map[string]meant{
		"UI: Discard changes": {"entry.draft-discard swtpgrzqojog96t4isunllbk en", "Strapi has that webhook, and calls it; the one that was listening had not asked for it"},
		"create content type": {"content-type.create api::zlab20974.zlab20974", "Strapi has no webhook for models"},
		"update content type": {"content-type.update api::zlab20974.zlab20974", "the same"},
		"delete content type": {"content-type.delete api::zlab20974.zlab20974", "the same"},
	})
}

// strapiDiffers says in which fields a payload differs from what Strapi's own
// webhook sent, and why.
var strapiDiffers = map[string]string{
	"createdAt":           "it is the time of the event, which is when the answer came",
	"API model":           "the content API calls its types by another name, and no answer tells the one of the webhooks",
	"API uid":             "the same",
	"entry.id":            "a draft and what is published are two rows: where one request changes both, the answer shows what is published",
	"entry.publishedAt":   "the same",
	"entry.articles":      "an answer has a relation only if the request populates it; that of the panel has a number",
	"entry.author":        "the same",
	"entry.cover":         "the same",
	"entry.localizations": "left out, because only an unpublish in the panel has them",
	"bulk entry":          "the answer is a number: only the documentId is known, and of what is deleted what it was",
}

// TestStrapiPayloads compares what webhooks get with what Strapi's own webhooks
// sent, field by field. What is listed must differ, so that the list stays true.
func TestStrapiPayloads(t *testing.T) {
	t.Parallel()
	p, found, compared := newReplay(t, "strapi"), map[string]bool{}, 0
	for _, x := range recording(t, "strapi-traffic.json") {
		events, lines := p.see(&x), ownLines(&x)
		for i := range events {
			e := &events[i]
			n := slices.Index(lines, short(events[i : i+1])[0])
			if n < 0 {
				continue // Strapi does not tell of it
			}
			compared++
			sent := x.Own[n]
			header := event.Header{Name: "X-Strapi-Event", Value: sent.Headers["x-strapi-event"]}
			if diff := cmp.Diff(event.Native{ContentType: sent.Headers["content-type"], Headers: []event.Header{header}}, e.Native); diff != "" {
				t.Errorf("%s: %s", x.Step, diff)
			}
			for _, field := range strapiDifferences(t, &x, e, sent.Body) {
				if found[field] = true; strapiDiffers[field] == "" {
					t.Errorf("%s: %s differs: %s is sent, and not %s", x.Step, field, e.Payload, sent.Body)
				}
			}
		}
	}
	for field := range strapiDiffers {
		if !found[field] {
			t.Errorf("%s does not differ; take it off the list", field)
		}
	}
	if compared < 40 {
		t.Errorf("only %d calls were compared", compared)
	}
}

// strapiDifferences are the fields in which an event's payload differs.
func strapiDifferences(t *testing.T, x *recorded, e *event.Event, sent []byte) (fields []string) {
	t.Helper()
	var want, got map[string]any
	if json.Unmarshal(sent, &want) != nil || json.Unmarshal(e.Payload, &got) != nil {
		t.Fatal(x.Step)
	}
	for _, field := range differences("", want, got) {
		switch {
		case e.Cause == "bulk" && strings.HasPrefix(field, "entry"):
			field = "bulk entry"
		case strings.HasPrefix(x.Request.Path, "/api/") && !strings.Contains(field, ".") && field != "createdAt":
			field = "API " + field
		}
		fields = append(fields, field)
	}
	return fields
}

// differences are the paths of what differs.
func differences(path string, want, got any) (paths []string) {
	was, wasObject := want.(map[string]any)
	is, isObject := got.(map[string]any)
	if !wasObject || !isObject || strings.Contains(path, ".") {
		if !cmp.Equal(want, got) {
			paths = append(paths, path)
		}
		return paths
	}
	both := maps.Clone(was)
	maps.Copy(both, is)
	for key := range both {
		_, wasThere := was[key]
		_, isThere := is[key]
		inside := strings.TrimPrefix(path+"."+key, ".")
		if wasThere != isThere {
			paths = append(paths, inside)
			continue
		}
		paths = append(paths, differences(inside, was[key], is[key])...)
	}
	return paths
}

// TestStrapiAllLocales: a delete in all locales is told each time, and no entry
// is read for it: there is none in the locale *.
func TestStrapiAllLocales(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "strapi")
	for _, path := range []string{
		"/api/articles/d", "/api/homepage", "/content-manager/collection-types/api::article.article/d", "/content-manager/single-types/api::homepage.homepage",
	} {
		intent := p.r.Classify(event.Head{Method: "DELETE", Path: path, Query: "locale=*", Headers: headers{}}, nil).Intent
		if read := p.r.Lookup(intent); read != "" {
			t.Errorf("%s is read", read)
		}
		var x recorded
		x.Request.Method, x.Request.Path, x.Response.Status = "DELETE", path+"?locale=*", 204
		for range 2 { // it may have been made again in one of them
			events := p.see(&x)
			if got := fmt.Sprint(short(events)); got != "[entry.delete d *]" && got != "[entry.delete homepage *]" || !strings.Contains(string(events[0].Payload), `"documentId":`) {
				t.Errorf("%s: %s", path, got)
			}
		}
	}
}

// TestStrapiRoutes: what is not in the recording.
func TestStrapiRoutes(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "strapi")
	check := func(request, body string, status int, answer string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, short(p.alone(request, body, status, answer))); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}
	const manager, uid = "/content-manager/collection-types/", "api::article.article"
	entry := func(created, updated, published string) string {
		return fmt.Sprintf(`{"data":{"documentId":"d","createdAt":%q,"updatedAt":%q,"publishedAt":%s}}`, created, updated, published)
	}
	// The content API, without an answer and with one of another kind
	check("POST /api/articles", "", 0, "", "entry.create  en ?", "entry.publish  en ?")
	check("POST /api/articles?status=draft", "", 0, "", "entry.create  en ?")
	check("PUT /api/articles/d?status=draft&locale=pl", "", 0, "", "entry.update d pl ?")
	check("PUT /api/articles/d?locale=pl", "", 500, "", "entry.update d pl ?", "entry.publish d pl ?")
	check("PUT /api/articles/d?fields=title", "", 200, `{"data":{"documentId":"d","title":"x"}}`, "entry.update d en", "entry.publish d en")
	check("POST /api/contact", "", 200, `{"ok":true}`)
	check("POST /api/contact", "", 200, ``, "entry.create  en", "entry.publish  en") // who knows
	check("POST /api/articles", "", 200, entry("1", "1", `"2"`), "entry.create d en", "entry.publish d en")
	check("DELETE /api/articles/d", "", 204, "", "entry.delete d en")
	check("DELETE /api/articles/d", "", 0, "", "entry.delete d en ?")
	check("PUT /api/homepage", "", 200, entry("1", "2", `"1"`), "entry.update homepage en")
	check("PUT /api/homepage", "", 200, entry("1", "2", `"3"`), "entry.update homepage en", "entry.publish homepage en")
	// Accounts are no content
	for _, request := range []string{
		"POST /api/auth/local", "POST /api/auth/local/register", "POST /api/auth", "POST /api/users", "PUT /api/users/3", "DELETE /api/users/3",
		"POST " + manager + "plugin::users-permissions.user", "PUT " + manager + "plugin::users-permissions.user/d",
		"DELETE " + manager + "plugin::users-permissions.user/d", "POST " + manager + "plugin::users-permissions.user/actions/bulkDelete",
		"POST /admin/users", "POST /admin/api-tokens", "POST /admin/webhooks", "PUT /content-manager/content-types/" + uid + "/configuration",
		"POST /content-manager/uid/generate", "POST " + manager + uid + "/actions/bulkFindForValidation", "POST /graphql",
	} {
		check(request, `{"documentIds":["d"]}`, 200, `{"data":{"documentId":"d","id":1},"count":1}`)
	}
	// The admin panel
	check("PUT "+manager+uid+"/d?locale=pl", "", 200, entry("1", "1", "null"), "entry.create d pl")
	check("POST "+manager+uid+"/auto-clone/d", "", 201, entry("1", "1", "null"), "entry.create d en")
	check("POST "+manager+uid+"/d/actions/publish?locale=pl", "", 200, entry("1", "1", `"2"`), "entry.create d pl", "entry.publish d pl")
	check("POST "+manager+uid+"/d/actions/unpublish", `{"discardDraft":true}`, 200, entry("1", "2", `"3"`), "entry.unpublish d en", "entry.draft-discard d en")
	check("POST "+manager+uid+"/d/actions/unpublish", `{}`, 200, entry("1", "2", `"3"`), "entry.unpublish d en")
	check("POST "+manager+uid+"/actions/bulkPublish", `{"documentIds":["a","b"]}`, 200, `{"count":0}`)
	check("POST "+manager+uid+"/actions/bulkPublish", `{"documentIds":["a","b"]}`, 0, ``, "entry.publish a en ?", "entry.publish b en ?")
	const single = "/content-manager/single-types/api::homepage.homepage"
	check("PUT "+single, "", 200, entry("1", "1", "null"), "entry.create homepage en")
	check("POST "+single+"/actions/publish", "", 200, entry("1", "2", `"3"`), "entry.update homepage en", "entry.publish homepage en")
	check("POST "+single+"/actions/unpublish", "", 200, entry("1", "2", `"3"`), "entry.unpublish homepage en")
	check("POST "+single+"/actions/discard", "", 200, entry("1", "2", "null"), "entry.draft-discard homepage en")
	check("DELETE "+single, "", 200, `{}`, "entry.delete homepage en")
	// Files
	check("PUT /upload/files/7", "", 200, `{"id":7}`, "media.update 7")
	check("POST /upload/files/7/replace", "", 200, `{"id":7}`, "media.update 7")
	check("POST /upload?id=7", "", 200, `{"id":7}`, "media.update 7")
	check("POST /upload/actions/bulk-update", "", 200, `[{"id":7},{"id":8}]`, "media.update 7", "media.update 8")
	check("POST /upload/actions/bulk-move", "", 200, `{}`)
	check("POST /upload/actions/bulk-delete", `{"fileIds":[7,8]}`, 0, "", "media.delete 7 ?", "media.delete 8 ?")
	check("POST /api/upload", "", 0, "", "media.create  ?")
	check("POST /upload/actions/upload-from-urls", "", 200, "event: file:error\ndata: {\"index\":0}\n\nevent: file:complete\ndata: {\"index\":1,\"file\":{\"id\":9}}\n\n"+
		"event: stream:complete\ndata: {\"data\":[{\"id\":9}],\"errors\":[]}\n\n", "media.create 9")
	check("POST /upload/actions/upload-from-urls", "", 200, "event: file:error\ndata: {\"index\":0}\n\n")
	check("POST /upload/folders", "", 201, `{"data":{"id":1}}`)
	check("PUT /upload/folders/1", "", 200, `{"data":{"id":1}}`)
	check("PUT /upload/settings", "", 200, `{"data":{}}`)
	// Models and releases
	check("POST /content-type-builder/components", "", 201, `{"data":{"uid":"a.b"}}`, "component.create a.b")
	check("POST /content-type-builder/update-schema", `{"data":{"contentTypes":[{"action":"create","uid":"api::a.a"},{"action":"update","uid":"api::b.b"}],"components":[{"action":"delete","uid":"c.c"}]}}`,
		200, `{}`, "content-type.create api::a.a", "content-type.update api::b.b", "component.delete c.c")
	check("POST /content-type-builder/update-schema", `{"data":{"components":[]}}`, 200, `{}`)
	check("POST /content-releases/4/publish", "", 200, `{"data":{"id":4}}`, "releases.publish 4")
	check("POST /content-releases", "", 201, `{"data":{"id":4}}`)
}
