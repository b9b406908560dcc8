package rules_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"cmstap/internal/setting"
	"cmstap/rules"

	"github.com/google/go-cmp/cmp"
)

// TestREST: collections and ids under any prefix; logins and queries are no
// writes, unless they are named.
func TestREST(t *testing.T) {
	t.Parallel()
	rest, err := rules.LoadDialect("rest")
	if err != nil {
		t.Fatal(err)
	}
	named, err := rules.ParseDialect("own.yaml", []byte("name: own\ninclude: rest\nresources: [{ type: User, paths: /api/users, routes: collection }]"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(d *rules.Dialect, method, path string, status int, answer string, want ...string) {
		t.Helper()
		events, _ := tell(t, rules.New(d, nil), story{method: method, path: path, status: status, answer: answer})
		if diff := cmp.Diff(want, short(events)); diff != "" {
			t.Errorf("%s %s: %s", method, path, diff)
		}
	}
	check(rest, "POST", "/posts", 201, `{"id":7,"title":"x"}`, "posts.create 7")
	check(rest, "POST", "/api/v1/posts/", 200, `{"_id":"a"}`, "posts.create a")
	check(rest, "POST", "/posts", 201, `{"data":{"id":"b"}}`, "posts.create b")
	check(rest, "POST", "/posts", 204, ``, "posts.create ")
	check(rest, "POST", "/posts/7/comments", 201, `{"id":1}`, "comments.create 1")
	check(rest, "PUT", "/posts/7", 200, `{"id":7}`, "posts.update 7")
	check(rest, "PATCH", "/a/b/posts/7", 204, ``, "posts.update 7")
	check(rest, "DELETE", "/posts/7", 202, ``, "posts.delete 7")
	check(rest, "DELETE", "/posts/7", 404, ``)
	check(rest, "DELETE", "/posts/7", 0, ``, "posts.delete 7 ?")
	check(rest, "GET", "/posts/7", 200, `{"id":7}`)
	for _, path := range []string{
		"/auth", "/api/auth/local", "/login", "/admin/login", "/api/v1/log-in", "/oauth2/token", "/token", "/api/tokens", "/sessions", "/session",
		"/password/reset", "/reset-password", "/users", "/users/7/posts", "/graphql", "/posts/search", "/posts/_search", "/api/Login", "/%6cogin",
		"/authentication", "/authenticate", "/authorize", "/authorizations", "/api/resetPassword", "/accessTokens", "/api-keys", "/refresh", "/otp/verify",
	} {
		check(rest, "POST", path, 200, `{"id":1}`)
	}
	for _, path := range []string{"/authors", "/research", "/customers", "/coauthors", "/menus"} {
		check(rest, "POST", path, 200, `{"id":1}`, path[1:]+".create 1")
	}
	check(named, "POST", "/api/users", 201, `{"id":1}`, "User.create 1")
	check(named, "POST", "/api/users/1/login", 201, `{"id":1}`)
	check(named, "PUT", "/api/posts/1", 200, `{"id":1}`, "posts.update 1")
}

// TestRESTWarnings: any type may come, but no other action.
func TestRESTWarnings(t *testing.T) {
	t.Parallel()
	rest, err := rules.LoadDialect("rest")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]int{"posts.create": 0, "*.delete": 0, "posts.publish": 1} {
		var s rules.Subscription
		var warnings setting.Problems
		err := setting.Decode("t.yaml", []byte("topics: '"+topic+"'"), &s, func(c setting.Check) {
			s.Validate(c)
			s.Warn(c, rest)
			warnings = c.Warnings()
		})
		if err != nil || len(warnings) != want {
			t.Errorf("%s: %v %v", topic, warnings, err)
		}
	}
}

// TestDocs: the dialects in docs/dialects.md are good ones.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/dialects.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(block[1], "name:") {
			block[1] = "name: part\n" + block[1]
		}
		found++
		if _, err := rules.ParseDialect("docs/dialects.md", []byte(block[1])); err != nil {
			t.Error(err)
		}
	}
	if found < 3 {
		t.Errorf("%d dialects were found", found)
	}
}
