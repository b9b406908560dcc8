package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRealCMS drives real servers through cmstap with the requests of the
// recordings, and compares what is delivered with the same tables. It needs
//
//	CMSTAP_STRAPI=http://EMAIL:PASSWORD@HOST     of an administrator
//	CMSTAP_STRAPI_TOKEN=...                      an API token with full access
//	CMSTAP_WORDPRESS=http://USER:PASSWORD@HOST   of an administrator
//	CMSTAP_WORDPRESS_PASSWORD=...                an application password of that user
//
// The servers must have the types of the recordings: article, author and homepage,
// and book. What it makes stays there in part.
func TestRealCMS(t *testing.T) {
	t.Parallel()
	for cms, secret := range map[string]string{"strapi": "CMSTAP_STRAPI_TOKEN", "wordpress": "CMSTAP_WORDPRESS_PASSWORD"} {
		t.Run(cms, func(t *testing.T) { // one after the other: what takes longer than a second is not read
			name := "CMSTAP_" + strings.ToUpper(cms)
			address, err := url.Parse(os.Getenv(name))
			if err != nil || address.User == nil || os.Getenv(secret) == "" {
				t.Skipf("set %s and %s to run it", name, secret)
			}
			driveReal(t, cms, address, os.Getenv(secret))
		})
	}
}

func driveReal(t *testing.T, cms string, address *url.URL, token string) {
	t.Helper()
	user := address.User
	address.User = nil
	a := newActor(t, user, token)
	var want []string
	for _, line := range tableOf(cms, true) {
		if !strings.HasPrefix(line, "content-type ") { // a change of a model restarts the server
			want = append(want, line)
		}
	}
	throughProxy(t, address.String(), cms, want, func(proxy string) {
		for _, x := range recording(t, cms) {
			if !strings.HasPrefix(x.Request.Path, "/content-type-builder/") {
				a.play(proxy, &x)
			}
		}
	})
}

// actor sends recorded requests with the ids, names and credentials of today.
type actor struct {
	t      *testing.T
	client *http.Client
	words  map[string]string // what was recorded -> what it is now
	page   string            // the pages so far
}

// runs are the numbers by which the recordings made their titles unique.
var runs = []string{"20974", "32120"}

func newActor(t *testing.T, user *url.Userinfo, token string) *actor {
	t.Helper()
	a := &actor{t: t, client: plainClient(), words: map[string]string{}}
	a.client.Jar, _ = cookiejar.New(nil)
	password, _ := user.Password()
	for recorded, now := range map[string]string{
		"Bearer LAB_TOKEN": "Bearer " + token, "LAB_APP_PASSWORD": token, "LAB_PASSWORD": password,
		"Basic LAB_TOKEN":  "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+token)),
		"lab@example.test": user.Username(), "log=lab&": "log=" + url.QueryEscape(user.Username()) + "&",
		"<string>lab</string>": "<string>" + user.Username() + "</string>",
	} {
		a.words[recorded] = now
	}
	for _, run := range runs {
		a.words[run] = fmt.Sprint(10_000 + rand.IntN(90_000))
	}
	return a
}

// play sends one request, and learns from the answer.
func (a *actor) play(proxy string, x *recorded) {
	a.t.Helper()
	a.findNonce(x)
	now := *x
	now.Request.Path = a.now(x.Request.Path)
	now.Request.Body = recordedBody{Base64: []byte(a.now(string(x.Request.Body.bytes())))}
	now.Request.Headers = nil
	for _, header := range x.Request.Headers {
		switch {
		case header[0] == "Cookie": // the client has its own
		case strings.HasPrefix(x.Step, "rejected: bad "): // also a credential
			now.Request.Headers = append(now.Request.Headers, header)
		default:
			now.Request.Headers = append(now.Request.Headers, [2]string{header[0], a.now(header[1])})
		}
	}
	response, body := send(a.t, a.client, proxy, &now)
	if response.StatusCode != x.Response.Status {
		a.t.Errorf("%s: %s %s: got %d, want %d: %.300s", x.Step, now.Request.Method, now.Request.Path, response.StatusCode, x.Response.Status, body)
	}
	a.learn(x, plainBody(a.t, response, body))
}

// ids in a request.
var ids = regexp.MustCompile(`(/|[?&]id=|post=|post_ID=|"(?:id|post|featured_media|cover|folder)":|Ids":\[)(\d+)\b`)

// now is a recorded text with the words of today.
func (a *actor) now(text string) string {
	text = ids.ReplaceAllStringFunc(text, func(found string) string {
		parts := ids.FindStringSubmatch(found)
		if id := a.words["id "+parts[2]]; id != "" {
			return parts[1] + id
		}
		return found
	})
	for recorded, now := range a.words {
		if !strings.HasPrefix(recorded, "id ") {
			text = strings.ReplaceAll(text, recorded, now)
		}
	}
	return text
}

// nonces are where a request has one, and where a page has it.
var nonces = []struct{ request, page *regexp.Regexp }{
	{regexp.MustCompile(`action=trash&_wpnonce=([0-9a-f]{10})`), regexp.MustCompile(`action=trash&amp;_wpnonce=([0-9a-f]{10})`)},
	{regexp.MustCompile(`action=delete&_wpnonce=([0-9a-f]{10})`), regexp.MustCompile(`action=delete&amp;_wpnonce=([0-9a-f]{10})`)},
	{regexp.MustCompile(`_inline_edit=([0-9a-f]{10})`), regexp.MustCompile(`name="_inline_edit" value="([0-9a-f]{10})`)},
	{regexp.MustCompile(`name="_wpnonce"\s+([0-9a-f]{10})`), regexp.MustCompile(`"_wpnonce":"([0-9a-f]{10})`)},
}

// findNonce looks for a request's nonce in the pages: that of its own post, where
// it is for one.
func (a *actor) findNonce(x *recorded) {
	text := x.Request.Path + string(x.Request.Body.bytes())
	for _, nonce := range nonces {
		recorded := nonce.request.FindStringSubmatch(text)
		if recorded == nil {
			continue
		}
		page := a.page
		if post := regexp.MustCompile(`[?&]post=(\d+)`).FindStringSubmatch(text); post != nil {
			if at := strings.LastIndex(page, "post.php?post="+a.words["id "+post[1]]+"&amp;action="+strings.Fields(strings.NewReplacer("action=", "", "&", " ").Replace(recorded[0]))[0]); at >= 0 {
				page = page[at:]
			}
		}
		found := nonce.page.FindStringSubmatch(page)
		if found == nil {
			a.t.Fatalf("%s: no page has its nonce", x.Step)
		}
		a.words[recorded[1]] = found[1]
	}
}

// learn remembers what the answer calls what the recorded one named.
func (a *actor) learn(x *recorded, body []byte) {
	var was, is any
	if json.Unmarshal(x.Response.Body.bytes(), &was) == nil && json.Unmarshal(body, &is) == nil {
		a.same(was, is)
	}
	switch {
	case strings.HasPrefix(x.Step, "UI: open"):
		if id := regexp.MustCompile(`id=['"]post_ID['"][^>]*value=['"](\d+)|"post":\{"id":(\d+)`).FindSubmatch(body); id != nil {
			a.words["id 23"] = string(id[1]) + string(id[2])
		}
	case x.Step == "admin login": // from now on as an editor
		a.words["Bearer LAB_TOKEN"] = "Bearer " + a.words["LAB_JWT"]
	case x.Step == "REST nonce":
		a.words["LAB_NONCE"] = string(body)
	}
	if bytes.Contains(body, []byte("<html")) {
		a.page += string(body)
	}
}

// same goes through two answers side by side.
func (a *actor) same(was, is any) {
	switch was := was.(type) {
	case map[string]any:
		now, _ := is.(map[string]any)
		for key, value := range was {
			switch key {
			case "id":
				a.words["id "+fmt.Sprint(value)] = fmt.Sprint(now[key])
			case "documentId", "token":
				a.words[fmt.Sprint(value)] = fmt.Sprint(now[key])
			case "createdBy", "updatedBy", "user", "_links":
			default:
				a.same(value, now[key])
			}
		}
	case []any:
		now, _ := is.([]any)
		for i := range min(len(was), len(now)) {
			a.same(was[i], now[i])
		}
	}
}

func plainBody(t *testing.T, response *http.Response, body []byte) []byte {
	t.Helper()
	if response.Header.Get("Content-Encoding") != "gzip" {
		return body
	}
	plain, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	body, err = io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestRealRenames: of ten posts that were published before cmstap was there, each
// rename is an update, and none a publish. It needs CMSTAP_WORDPRESS and its
// password, as TestRealCMS does.
func TestRealRenames(t *testing.T) {
	address, err := url.Parse(os.Getenv("CMSTAP_WORDPRESS"))
	password := os.Getenv("CMSTAP_WORDPRESS_PASSWORD")
	if err != nil || address.User == nil || password == "" {
		t.Skip("set CMSTAP_WORDPRESS and CMSTAP_WORDPRESS_PASSWORD to run it")
	}
	user := address.User.Username()
	address.User = nil
	post := func(base, path, body string) string {
		status, answer, err := ask(http.MethodPost, base+"/wp-json/wp/v2/posts"+path, body, map[string]string{
			"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), "Content-Type": "application/json",
		})
		var made struct{ ID int }
		if err != nil || status/100 != 2 || json.Unmarshal([]byte(answer), &made) != nil {
			t.Fatalf("%s: %d %.300s %v", path, status, answer, err)
		}
		return fmt.Sprint("/", made.ID)
	}
	var paths, want []string
	for n := range 10 {
		paths = append(paths, post(address.String(), "", fmt.Sprintf(`{"title":"Post %d","status":"publish"}`, n)))
		want = append(want, fmt.Sprintf("post %d | update", n+1))
	}
	throughProxy(t, address.String(), "wordpress", want, func(proxy string) {
		for _, path := range paths {
			post(proxy, path, `{"title":"Renamed"}`)
		}
	})
}
