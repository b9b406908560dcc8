package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/admin"
)

// browser is one with a jar of one cookie, without a store behind the listener.
type browser struct {
	t testing.TB
	http.Handler
	cookie *http.Cookie
	from   string // its address
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	config, err := settings("listen: :0\ntoken: { value: " + token + " }")
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, Handler: admin.Handler(config, admin.Parts{Operator: idle{}, Control: &console{}}), from: "192.0.2.1:1"}
}

// send sends a request, a form if there is one, and keeps the cookie.
func (b *browser) send(method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8081"+target, strings.NewReader(form.Encode()))
	r.RemoteAddr = b.from
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	answer := httptest.NewRecorder()
	b.ServeHTTP(answer, r)
	for _, cookie := range answer.Result().Cookies() {
		if b.cookie = cookie; cookie.MaxAge < 0 {
			b.cookie = nil
		}
	}
	return answer
}

func (b *browser) check(want string, method, target string, form url.Values, headers ...string) {
	b.t.Helper()
	answer := b.send(method, target, form, headers...)
	if got := strings.TrimSpace(fmt.Sprint(answer.Code, " ", answer.Header().Get("Location"))); got != want {
		b.t.Errorf("%s %s: %s, want %s", method, target, got, want)
	}
	if strings.Contains(answer.Body.String()+fmt.Sprint(answer.Header()), token) {
		b.t.Errorf("%s %s tells the token", method, target)
	}
}

func right(next string) url.Values { return url.Values{"token": {token}, "next": {next}} }

func TestLogin(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	for _, path := range []string{"/none", "/livez/", "/livez/../api/calls", "/settings"} {
		b.check("303 /login?next="+url.QueryEscape(path), "GET", path, nil)
	}
	b.check("303 /login?next=%2F", "POST", "/webhooks/pause", url.Values{"webhook": {"a"}})
	b.check("200", "GET", "/assets/style.css", nil)
	for _, path := range []string{"/assets/layout.html", "/assets/../api/calls", "/assets/style.css/../../settings", "/login/", "/login/../settings"} {
		b.check("303 /login?next="+url.QueryEscape(path), "GET", path, nil)
	}
	b.check("303 /login?next=%2Fassets%2F%252e%252e%2Fapi%2Fcalls", "GET", "/assets/%2e%2e/api/calls", nil)
	b.check("200", "GET", "/login?next=%2Fsettings", nil)
	b.check("401", "POST", "/login", url.Values{"token": {"wrong"}})
	b.check("401", "POST", "/login?token="+token, url.Values{"token": {""}})
	b.check("403", "POST", "/login", right("/"), "Sec-Fetch-Site", "cross-site")
	if b.cookie != nil {
		t.Fatalf("%v", b.cookie)
	}
	b.check("303 /settings?a=b", "POST", "/login", right("/settings?a=b"))
	if c := b.cookie; c == nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.MaxAge != 12*3600 || len(c.Value) < 26 {
		t.Fatalf("%+v", b.cookie)
	}
	b.check("200", "GET", "/settings", nil)
	b.check("200", "GET", "/api/replay?since=1h", nil)
	b.check("401", "GET", "/api/calls", nil, "Cookie", "cmstap_session=x")
	const origin = "http://127.0.0.1:8081"
	b.check("303 /?done=pause", "POST", "/webhooks/pause", url.Values{"webhook": {"a"}}, "Origin", origin)
	b.check("403", "POST", "/webhooks/pause", url.Values{"webhook": {"a"}}, "Origin", "http://127.0.0.1:3000")
	b.check("403", "POST", "/webhooks/pause", url.Values{"webhook": {"a"}}, "Origin", origin, "Sec-Fetch-Site", "same-site")
	b.check("403", "POST", "/logout", url.Values{}, "Origin", "null")
	b.check("405", "GET", "/logout", nil)
	old := b.cookie
	b.check("303 /login", "POST", "/logout", url.Values{}, "Origin", origin)
	if b.cookie != nil {
		t.Error(b.cookie)
	}
	b.cookie = old
	b.check("303 /login?next=%2Fsettings", "GET", "/settings", nil)
	b.check("303 /", "POST", "/login", right("/"), "X-Forwarded-Proto", "https")
	if b.cookie == nil || !b.cookie.Secure {
		t.Errorf("%+v", b.cookie)
	}
}

// TestLoginStaysHere: a link to the login leads to no other site.
func TestLoginStaysHere(t *testing.T) {
	t.Parallel()
	for _, next := range []string{
		"", "https://evil.example", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "javascript:alert(1)", "x", "%zz",
		"/%2F/evil.example", "/.//evil.example", "http:evil.example", "?a", "https:/evil.example", "/\r\nX: y",
	} {
		b := newBrowser(t)
		answer := b.send("POST", "/login", right(next))
		to, err := url.Parse("http://127.0.0.1:8081/login")
		if err == nil {
			to, err = to.Parse(answer.Header().Get("Location"))
		}
		if err != nil || answer.Code != 303 || to.Host != "127.0.0.1:8081" || to.Scheme != "http" || strings.ContainsAny(answer.Header().Get("Location"), "\\\t\r\n") || strings.HasPrefix(answer.Header().Get("Location"), "//") {
			t.Errorf("%q leads to %d %q", next, answer.Code, answer.Header().Get("Location"))
		}
	}
}

// TestLoginEnds after twelve hours, and the oldest one when there are too many.
func TestLoginEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBrowser(t)
		b.check("303 /settings", "POST", "/login", right("/settings"))
		b.cookie.MaxAge = 0
		time.Sleep(12*time.Hour - time.Second)
		b.check("200", "GET", "/settings", nil)
		time.Sleep(2 * time.Second)
		b.check("303 /login?next=%2Fsettings", "GET", "/settings", nil)
		var first, second *http.Cookie
		for range 101 {
			b.cookie = nil
			b.check("303 /settings", "POST", "/login", right("/settings"))
			if first == nil {
				first = b.cookie
			} else if second == nil {
				second = b.cookie
			}
			time.Sleep(time.Second)
		}
		b.cookie = first
		b.check("303 /login?next=%2Fsettings", "GET", "/settings", nil)
		b.cookie = second
		b.check("200", "GET", "/settings", nil)
	})
}
