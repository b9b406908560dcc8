package rules_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cmstap/event"

	"github.com/google/go-cmp/cmp"
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

// TestWordPressLookups: what was read before counts also where the path calls the
// type by another name than the answer; but not once another write was stored.
func TestWordPressLookups(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "wordpress")
	unpublish := func() string {
		head := event.Head{Method: "POST", Path: "/wp-json/wp/v2/books/7", Headers: headers{}}
		x := &event.Exchange{Intent: p.r.Identify(head, event.Copy{Bytes: []byte(`{"status":"draft"}`)}, nil).Intent}
		x.Before = &event.Finding{Status: 200, Entity: event.Copy{Bytes: []byte(`{"id":7,"type":"book","status":"publish"}`)}}
		return fmt.Sprint(short(p.end(x, `{"id":7,"type":"book","status":"draft"}`)))
	}
	if got := unpublish(); got != "[book.unpublish 7]" {
		t.Error(got)
	}
	if got := unpublish(); got != "[book.update 7]" {
		t.Error(got)
	}
}

// TestWordPressRoutes: what is not in the recording.
func TestWordPressRoutes(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "wordpress")
	var location string
	check := func(request, body string, status int, answer string, want ...string) {
		t.Helper()
		more := [][2]string{{"Location", location}}
		if strings.Contains(request, "/wp-admin/") {
			more = append(more, [2]string{"Content-Type", "application/x-www-form-urlencoded"})
		}
		if diff := cmp.Diff(want, short(p.alone(request, body, status, answer, more...))); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}
	const api = "/wp-json/wp/v2"
	check("POST "+api+"/posts?_envelope=1", ``, 200, `{"status":201,"body":{"id":4,"status":"publish"}}`, "post.create 4", "post.publish 4")
	check("POST "+api+"/posts?_envelope=1", ``, 200, `{"status":401,"body":{"code":"no"}}`)
	// Transitions of which the state before is not known
	check("PUT "+api+"/posts/4", `{"status":"publish"}`, 200, `{"id":4,"type":"post","status":"publish"}`, "post.publish 4")
	check("PUT "+api+"/posts/4", `{"status":"publish"}`, 200, `{"id":4,"type":"post","status":"future"}`, "post.update 4")
	check("PUT "+api+"/posts/4", `{"title":"x"}`, 200, `{"id":4,"type":"post","status":"publish"}`, "post.update 4")
	check("PUT "+api+"/posts/4?_fields=id", `{"status":"publish"}`, 200, `{"id":4}`, "post.publish 4")
	check("PUT "+api+"/posts/4", `{"status":"publish"}`, 0, ``, "post.publish 4 ?")
	check("PUT "+api+"/posts/4", ``, 502, ``, "post.update 4 ?")
	check("POST "+api+"/posts?_fields=id", `{"status":"publish"}`, 201, `{"id":4}`, "post.create 4", "post.publish 4")
	check("POST "+api+"/posts", ``, 0, ``, "post.create  ?")
	check("DELETE "+api+"/posts/4", ``, 0, ``, "post.trash 4 ?")
	check("DELETE "+api+"/posts/4?_fields=id", ``, 200, `{"id":4}`, "post.trash 4")
	check("DELETE "+api+"/posts/4?force=1", ``, 0, ``, "post.delete 4 ?")
	check("DELETE "+api+"/posts/4", `{"force":true}`, 200, `{"deleted":true,"previous":{"id":4}}`, "post.delete 4")
	check("DELETE "+api+"/posts/4?force=True", ``, 200, `{"deleted":true,"previous":{"id":4}}`, "post.delete 4")
	check("DELETE "+api+"/posts/4", `{"force":1}`, 200, `{"deleted":true,"previous":{"id":4}}`, "post.delete 4")
	check("DELETE "+api+"/posts/4?force=false", ``, 200, `{"id":4,"type":"post","status":"trash"}`, "post.trash 4")
	// The method that is meant
	check("GET "+api+"/posts/4?_method=delete&force=true", ``, 200, `{"deleted":true,"previous":{"id":4}}`, "post.delete 4")
	check("POST "+api+"/posts?_method=GET", ``, 200, `[]`)
	check("POST "+api+"/posts/4?_method=GET", ``, 200, `{"id":4}`)
	// Where it is
	check("POST /blog"+api+"/posts", ``, 201, `{"id":4,"status":"draft"}`, "post.create 4")
	check("POST /?rest_route=/wp/v2/pages/7", ``, 200, `{"id":7}`, "page.update 7")
	check("POST /blog/?rest_route=%2Fwp%2Fv2%2Fcategories", ``, 201, `{"id":7}`, "category.create 7")
	// Types and taxonomies of your own
	check("POST "+api+"/books/7", ``, 200, `{"id":7,"type":"book","status":"draft"}`, "book.update 7")
	check("POST "+api+"/books/7", ``, 0, ``, "books.update 7 ?")
	check("POST "+api+"/genres", ``, 201, `{"id":7,"taxonomy":"genre"}`, "genre.create 7")
	check("DELETE "+api+"/genres/7?force=true", ``, 200, `{"deleted":true,"previous":{"id":7,"taxonomy":"genre"}}`, "genre.delete 7")
	check("POST "+api+"/menu-items", ``, 201, `{"id":7,"type":"nav_menu_item","status":"publish"}`, "nav_menu_item.create 7", "nav_menu_item.publish 7")
	check("PUT "+api+"/comments/7", ``, 200, `{"id":7,"status":"hold"}`, "comment.update 7")
	// No content, and nothing that may be kept
	for _, request := range []string{
		"POST " + api + "/users", "PUT " + api + "/users/1", "DELETE " + api + "/users/1", "POST " + api + "/users/me/application-passwords",
		"DELETE " + api + "/users/1/application-passwords/x", "POST " + api + "/plugins", "PUT " + api + "/plugins/a", "PUT " + api + "/themes/a",
		"POST " + api + "/posts/4/autosaves", "DELETE " + api + "/posts/4/revisions/5", "POST " + api + "/block-renderer/core", "POST /wp-login.php",
		"POST /wp-cron.php", "POST /wp-json/oembed/1.0/proxy", "POST /wp-json/jwt-auth/v1/token", "GET /wp-admin/post.php?post=4&action=edit",
		"POST /wp-admin/users.php", "POST /wp-admin/options.php", "GET /wp-admin/edit.php?post[]=4&action=-1",
	} {
		check(request, `{}`, 200, `{"id":4,"password":"abcd efgh"}`)
	}
	// Files
	check("POST "+api+"/media/7/post-process", `{"action":"create-image-subsizes"}`, 200, `{"id":7,"type":"attachment"}`, "attachment.create 7")
	check("POST "+api+"/media/7/edit", `{}`, 201, `{"id":8,"type":"attachment"}`, "attachment.create 8")
	check("POST "+api+"/media", ``, 500, `{"code":"rest_upload_unknown_error"}`)
	check("POST "+api+"/media", ``, 502, ``, "attachment.create  ?")
	// Many in one
	batch := `{"requests":[{"path":"/wp/v2/posts","body":{}},{"path":"/wp/v2/pages/7?force=true","method":"DELETE"},{"path":"/wp/v2/books/8","method":"put"}]}`
	check("POST /wp-json/batch/v1", batch, 0, ``, "post.create  ?", "page.trash 7 ?", "books.update 8 ?")
	check("POST /wp-json/batch/v1", batch, 207, `{"responses":[{"status":201,"body":{"id":6,"type":"post","status":"publish"}},`+
		`{"status":200,"body":{"deleted":true,"previous":{"id":7,"type":"page"}}},{"status":403,"body":{"code":"no"}}]}`,
		"post.create 6", "post.publish 6", "page.delete 7")
	check("POST /wp-json/batch/v1", `{"requests":`, 400, ``)
	check("POST /wp-json/batch/v1?_envelope", batch, 200, `{"status":207,"body":{"responses":[{"status":201,"body":{"id":6,"type":"post"}},null,null]}}`, "post.create 6")
	// Screens of wp-admin
	location = "/wp-admin/edit.php?post_type=page&trashed=1"
	check("GET /wp-admin/post.php?post=4&action=trash", ``, 302, ``, "page.trash 4")
	location = "https://example.org/wp-admin/edit.php?trashed=1"
	check("GET /wp-admin/post.php?post=4&action=untrash", ``, 302, ``, "post.restore 4")
	location = "https://example.org/wp-login.php?redirect_to=x"
	check("GET /wp-admin/post.php?post=4&action=trash", ``, 302, ``)
	check("GET /wp-admin/post.php?post=4&action=trash", ``, 403, ``)
	check("GET /wp-admin/edit.php?post[]=4&action=trash", ``, 302, ``)
	check("POST /wp-admin/post.php", `action=editpost&post_ID=4&original_post_status=draft`, 302, ``)
	location = "https://example.org/wp-admin/edit.php?post_type=page&trashed=2"
	check("GET /wp-admin/edit.php?post_type=page&post%5B%5D=4&action=-1&action2=trash&post%5B%5D=5", ``, 302, ``, "page.trash 4", "page.trash 5")
	check("GET /wp-admin/edit.php?post[]=4&action=untrash", ``, 302, ``, "post.restore 4")
	check("GET /wp-admin/edit.php?post[]=4&action=delete&action2=delete", ``, 302, ``, "post.delete 4")
	check("GET /wp-admin/edit.php?post[]=4&action=edit&bulk_edit=Update", ``, 302, ``, "post.update 4")
	check("GET /wp-admin/upload.php?media[]=4&action=delete", ``, 302, ``, "attachment.delete 4")
	classic := func(was, now string) string {
		return "action=editpost&_wpnonce=abc&user_ID=1&post_ID=4&post_type=page&original_post_status=" + was + "&" + now
	}
	check("POST /wp-admin/post.php", classic("auto-draft", "post_status=draft&save=Save"), 302, ``, "page.create 4")
	check("POST /wp-admin/post.php", classic("auto-draft", "post_status=draft&publish=Publish"), 302, ``, "page.create 4", "page.publish 4")
	check("POST /wp-admin/post.php", classic("draft", "post_status=draft&publish=Publish"), 302, ``, "page.publish 4")
	check("POST /wp-admin/post.php", classic("publish", "post_status=publish&save=Update"), 302, ``, "page.update 4")
	check("POST /wp-admin/post.php", classic("publish", "post_status=draft&save=Update"), 302, ``, "page.unpublish 4")
	check("POST /wp-admin/post.php?meta-box-loader=1", classic("publish", "post_status=publish"), 302, ``)
	check("POST /wp-admin/post.php", "action=post-quickdraft-save", 302, ``)
	location = ""
	check("POST /wp-admin/admin-ajax.php", "action=inline-save&post_ID=4&post_type=page", 200, "Someone is editing this")
	check("POST /wp-admin/admin-ajax.php", "action=heartbeat&data%5Bwp_autosave%5D=x", 200, "{}")
	check("POST /wp-admin/admin-ajax.php", "action=delete-post&id=4&_ajax_nonce=abc", 200, "1", "attachment.delete 4")
	check("POST /wp-admin/admin-ajax.php", "action=delete-post&id=4&_ajax_nonce=abc", 200, "0")
	check("POST /wp-admin/admin-ajax.php", "action=save-attachment&id=4&nonce=abc", 200, `{"success":true}`, "attachment.update 4")
	location = "https://example.org/hello/#comment-9"
	check("POST /wp-comments-post.php", "comment=x", 302, ``, "comment.create 9")
	check("POST /wp-comments-post.php", "comment=", 200, `Please type your comment text.`)
	// XML-RPC
	call := func(name string, values ...string) string {
		text := "<methodCall><methodName>" + name + "</methodName><params>"
		for _, value := range values {
			text += "<param>\n<value>" + value + "</value></param>"
		}
		return text + "</params></methodCall>"
	}
	content := "<struct><member><name>post_status</name><value><string>publish</string></value></member></struct>"
	yes := "<methodResponse><params><param><value><boolean>1</boolean></value></param></params></methodResponse>"
	check("POST /xmlrpc.php", call("wp.newPost", "1", "me", "secret", content), 200, strings.Replace(yes, "<boolean>1</boolean>", "<string>30</string>", 1), "post.create 30", "post.publish 30")
	check("POST /xmlrpc.php", call("wp.editPost", "1", "me", "secret", "<int>30</int>", content), 200, yes, "post.publish 30")
	check("POST /xmlrpc.php", call("wp.editPost", "1", "me", "secret", "30", "<struct></struct>"), 200, yes, "post.update 30")
	check("POST /xmlrpc.php", call("metaWeblog.editPost", "<string>30</string>", "me", "secret", "<struct></struct>"), 200, yes, "post.update 30")
	check("POST /xmlrpc.php", call("wp.deletePage", "1", "me", "secret", "<i4>30</i4>"), 200, yes, "page.trash 30")
	check("POST /xmlrpc.php", call("wp.deletePost", "1", "me", "secret", "<i4>30</i4>"), 200, "<methodResponse><fault></fault></methodResponse>")
	check("POST /xmlrpc.php", call("wp.uploadFile", "1", "me", "secret", "<struct></struct>"), 200,
		"<methodResponse><params><param><value><struct><member><name>id</name><value><string>31</string></value></member></struct></value></param></params></methodResponse>", "attachment.create 31")
	check("POST /xmlrpc.php", call("wp.getPosts", "1", "me", "secret"), 200, yes)
	check("POST /xmlrpc.php", `{"a":1}`, 200, "<methodResponse><fault></fault></methodResponse>")
}

// TestWordPressBefore: what was before decides, kept or read.
func TestWordPressBefore(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "wordpress")
	check := func(before, body, after, want string) {
		t.Helper()
		plan := p.r.Identify(event.Head{Method: "PUT", Path: "/wp-json/wp/v2/posts/4", Headers: headers{}}, event.Copy{Bytes: []byte(body)}, nil)
		plan.Intent.ID = "i"
		if lookup := p.r.Lookup(plan.Intent); lookup != "/wp-json/wp/v2/posts/4?context=edit" {
			t.Errorf("%s is read", lookup)
		}
		x := &event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 200, Before: &event.Finding{Status: 200}}
		x.Before.Entity.Bytes = []byte(`{"id":4,"type":"post","status":"` + before + `","password":"x"}`)
		x.Answer.Bytes = []byte(`{"id":4,"type":"post"` + after + `}`)
		events := p.r.Derive(x, nil, nil)
		if got := strings.Join(short(events), ", "); got != want {
			t.Errorf("%s, %s, %s: got %s, want %s", before, body, after, got, want)
		}
		for _, e := range events {
			if e.Action != "create" && strings.Contains(string(e.Before), "password") || e.Entity.Version == 0 && strings.Contains(after, "modified_gmt") {
				t.Errorf("%+v", e)
			}
		}
	}
	const public, draft, private = `,"status":"publish","modified_gmt":"2026-01-02T03:04:05"`, `,"status":"draft"`, `,"status":"private"`
	check("auto-draft", `{}`, draft, "post.create 4")
	check("auto-draft", `{}`, public, "post.create 4, post.publish 4")
	check("draft", `{}`, draft, "post.update 4")
	check("draft", `{}`, public, "post.publish 4")
	check("future", `{}`, public, "post.publish 4")
	check("private", `{}`, public, "post.publish 4")
	check("publish", `{"status":"publish"}`, public, "post.update 4")
	check("publish", `{}`, draft, "post.unpublish 4")
	check("publish", `{}`, private, "post.unpublish 4")
	check("trash", `{}`, draft, "post.restore 4")
	check("trash", `{}`, public, "post.restore 4, post.publish 4")
	check("draft", `{"status":"publish"}`, ``, "post.publish 4") // _fields
	check("publish", `{"status":"draft"}`, ``, "post.unpublish 4")
	check("publish", `{"title":"x"}`, ``, "post.update 4")
	check("publish", `{"status":"publish"}`, ``, "post.update 4")

	for _, route := range []string{"/wp/v2/posts/4", "%2Fwp%2Fv2%2Fposts%2F4%20HTTP%0d%0aX:y"} {
		plan := p.r.Identify(event.Head{Method: "POST", Path: "/", Query: "rest_route=" + route, Headers: headers{}}, event.Copy{Bytes: []byte("{}")}, nil)
		lookup := p.r.Lookup(plan.Intent)
		if !strings.HasPrefix(lookup, "/index.php?rest_route=%2Fwp%2Fv2%2Fposts%2F4") || strings.ContainsAny(lookup, " \r\n") {
			t.Errorf("%s is read", lookup)
		}
	}
}

// TestWordPressPayloads: the entity, but for what nobody else shall see.
func TestWordPressPayloads(t *testing.T) {
	t.Parallel()
	p := newReplay(t, "wordpress")
	check := func(request, body string, status int, answer, want string, more ...[2]string) {
		t.Helper()
		for _, e := range p.alone(request, body, status, answer, more...) {
			if string(e.Payload) != want {
				t.Errorf("%s: %s, want %s", request, e.Payload, want)
			}
		}
	}
	const post, posts = `{"id":4,"type":"post","status":"draft","password":"x","_links":{}}`, "/wp-json/wp/v2/posts"
	const plain = `{"id":4,"type":"post","status":"draft"}`
	check("POST "+posts, "", 201, post, plain)
	check("PUT "+posts+"/4", "", 200, post, plain)
	check("PUT "+posts+"/4?_fields=id,status", "", 200, `{"id":4}`, `{"id":4,"type":"post"}`)
	check("PUT "+posts+"/4?_envelope", "", 200, `{"status":200,"body":`+post+`}`, plain)
	check("DELETE "+posts+"/4", "", 200, post, plain)
	check("DELETE "+posts+"/4?force=true", "", 200, `{"deleted":true,"previous":`+post+`}`, plain)
	check("POST /wp-json/batch/v1", `{"requests":[{"path":"/wp/v2/posts"}]}`, 207, `{"responses":[{"status":201,"body":`+post+`}]}`, `{"id":4,"status":"draft","type":"post"}`)
	check("POST /wp-json/batch/v1", `{"requests":[{"path":"/wp/v2/posts/4","method":"PUT"}]}`, 0, ``, `{"id":4,"type":"post"}`)
	check("POST /wp-json/wp/v2/settings", "", 200, `{"title":"T","email":"e","my_plugin_key":"k","site_icon":3}`, `{"title":"T"}`)
	check("POST /wp-admin/async-upload.php", "", 200, `{"success":true,"data":{"id":9,"title":"T","nonces":{"edit":"n"},"mime":"image/png"}}`,
		`{"id":9,"type":"attachment","title":{"raw":"T"},"mime_type":"image/png"}`)
}
