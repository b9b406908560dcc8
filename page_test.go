package main

import (
	"fmt"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestPage drives the pages with a real browser.
func TestPage(t *testing.T) {
	t.Parallel()
	browser := newBrowser(t)
	s := newSite(t)
	for name, test := range map[string]func(*testing.T, *tab, *site){
		"login": testLogin, "every page": testEveryPage, "filter": testFilter, "live": testLive, "buttons": testButtons,
		"without a script": testWithoutScript, "keyboard": testKeyboard, "another name": testAnotherName, "behind TLS": testBehindTLS,
	} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t, browser, "http://"+s.admin)
			if !slices.Contains([]string{"login", "another name", "behind TLS"}, name) {
				b.login()
			}
			test(t, b, s)
		})
	}
}

// login leads to the overview.
func (b *tab) login() {
	b.t.Helper()
	b.open("/")
	if status := b.leads(chromedp.SendKeys(chromedp.ID("token"), pageToken+kb.Enter)); status != 200 || b.path() != "/" {
		b.t.Fatalf("%d %s", status, b.path())
	}
}

func testLogin(t *testing.T, b *tab, _ *site) {
	if b.open("/calls?result=failed"); b.path() != "/login?next=%2Fcalls%3Fresult%3Dfailed" {
		t.Fatal(b.path())
	}
	status := b.leads(chromedp.SendKeys(chromedp.ID("token"), "another-token-of-a-test"+kb.Enter))
	if status != 401 || b.text("[role=alert]") != "That is not the token." {
		t.Errorf("%d", status)
	}
	if noise := b.take(); len(noise) != 1 || !strings.Contains(noise[0], "401") {
		t.Error(noise)
	}
	if b.leads(chromedp.SendKeys(chromedp.ID("token"), pageToken+kb.Enter)); b.path() != "/calls?result=failed" {
		t.Fatal(b.path())
	}
	if cookies := eval[string](b, "document.cookie"); cookies != "" {
		t.Errorf("a script reads %q", cookies)
	}
	if b.leads(chromedp.Click(chromedp.CSS("header button"))); b.path() != "/login" {
		t.Error(b.path())
	}
	if b.open("/"); b.path() != "/login?next=%2F" {
		t.Error(b.path())
	}
}

// testEveryPage: no page runs what strangers wrote, says anything on the console,
// is wider than a telephone, or has a barrier that axe knows.
func testEveryPage(t *testing.T, b *tab, s *site) {
	needClient(t, "testdata/page", "axe-core")
	axe, err := os.ReadFile("testdata/page/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, address string) {
		t.Helper()
		status := b.open(address)
		if noise := b.take(); len(noise) > 1 || len(noise) == 1 && (status < 400 || !strings.Contains(noise[0], "Failed to load resource")) {
			t.Errorf("%s: %q", name, noise)
		}
		eval[any](b, string(axe)+";0")
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int64{1280, 390, 360} {
				b.look(width, scheme)
				b.shoot(fmt.Sprint(name, "-", width, "-", scheme))
				if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s is %d wide at %d", name, wide, width)
				}
				if width == 390 {
					continue
				}
				for _, barrier := range eval[[]string](b, `axe.run().then(r => r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html + " " + n.failureSummary).join("\n")))`) {
					t.Errorf("%s at %d, %s: %s", name, width, scheme, barrier)
				}
			}
		}
		if eval[bool](b, "window.hit !== undefined") {
			t.Errorf("%s runs a stranger's script", name)
		}
	}
	for name, address := range s.addresses() {
		check(name, address)
	}
	if b.open("/events?entity=" + url.QueryEscape(evilID)); !strings.Contains(b.text("tbody"), evilID) {
		t.Error("the evil entity is not shown")
	}
	if b.open("/calls?webhook=nonsense"); !strings.Contains(b.text("tbody .error"), evilWord) {
		t.Error("the evil error is not shown")
	}
	if b.open("/calls/" + s.call); b.text("main pre:last-of-type") != evil || !strings.Contains(b.text("main pre"), "window.hit") {
		t.Error("the evil request or answer is not shown")
	}
	if b.open("/events/" + s.event); !strings.Contains(b.text("main pre"), "window.hit") || eval[int](b, `document.querySelectorAll(".diff .added").length`) != 2 {
		t.Errorf("the evil payload is not shown, or its diff: %s", b.text("main"))
	}
	b.leads(chromedp.Click(chromedp.CSS("header button")))
	check("login", "/login")
}

func testFilter(t *testing.T, b *tab, _ *site) {
	b.open("/calls")
	all := eval[int](b, `document.querySelectorAll("tbody tr").length`)
	b.do(chromedp.SetValue(chromedp.CSS("[name=webhook]"), "ill"), chromedp.SendKeys(chromedp.CSS("[name=entity]"), "hello"))
	b.leads(chromedp.SendKeys(chromedp.CSS("[name=since]"), "1h"+kb.Enter))
	if b.path() != "/calls?entity=hello&since=1h&webhook=ill" {
		t.Error(b.path())
	}
	rows := eval[[]string](b, `[...document.querySelectorAll("tbody tr")].map(r => r.children[1].innerText + " " + r.children[7].firstChild.innerText)`)
	if len(rows) < 2 || len(rows) >= all || slices.ContainsFunc(rows, func(row string) bool { return row != "ill hello" }) {
		t.Errorf("%q of %d", rows, all)
	}
	fields := eval[[]string](b, `[...new FormData(document.querySelector("main form"))].filter(f => f[1]).map(f => f.join("="))`)
	if !slices.Equal(fields, []string{"webhook=ill", "entity=hello", "since=1h"}) {
		t.Errorf("%q", fields)
	}
	if b.leads(chromedp.Click(chromedp.CSS("main form a"))); b.path() != "/calls" {
		t.Error(b.path())
	}
	b.open("/calls?limit=2&webhook=well")
	first := b.text("tbody")
	b.leads(chromedp.Click(chromedp.CSS("[rel=next]")))
	if older := b.text("tbody"); older == first || !strings.Contains(b.path(), "cursor=") || !strings.Contains(b.path(), "webhook=well") {
		t.Errorf("%s\n%s", b.path(), older)
	}
}

// testLive: a call shows up by itself, in the page's filter only, and not while
// the page is paused.
func testLive(t *testing.T, b *tab, s *site) {
	b.open("/calls?webhook=well&entity=live")
	b.see("#live", "Live.")
	s.write(t, "other")
	s.write(t, "live")
	b.see("tbody", "live")
	if text := b.text("tbody"); strings.Contains(text, "other") || strings.Count(text, "Entry.save") != 1 {
		t.Error(text)
	}
	if b.path() != "/calls?webhook=well&entity=live" {
		t.Error(b.path())
	}
	const count = `document.querySelector("tbody").innerText.split("Entry.save").length - 1`
	other := b.twin()
	b.do(chromedp.Click(chromedp.CSS("#live button")))
	b.see("#live", "Paused.")
	other.open(b.path())
	other.see("#live", "Live.")
	s.write(t, "live")
	other.poll(count + " == 2")
	if text := b.text("tbody"); strings.Count(text, "Entry.save") != 1 {
		t.Errorf("paused, and yet: %s", text)
	}
	b.do(chromedp.Click(chromedp.CSS("#live button")))
	b.poll(count + " == 2")

	eval[any](b, `Object.defineProperty(document, "hidden", {value: true, configurable: true}); document.dispatchEvent(new Event("visibilitychange")); 0`)
	b.do(chromedp.Focus(chromedp.CSS("tbody tr:last-child a")))
	s.write(t, "live")
	other.poll(count + " == 3")
	if text := b.text("tbody"); strings.Count(text, "Entry.save") != 2 {
		t.Errorf("hidden, and yet: %s", text)
	}
	eval[any](b, `delete document.hidden; document.dispatchEvent(new Event("visibilitychange")); 0`)
	b.poll(count + " == 3")
	if focused := eval[bool](b, `document.activeElement === document.querySelector("tbody tr:last-child a")`); !focused {
		t.Error("the focus is lost")
	}
	b.open("/")
	b.see("#live", "Live.")
	bars := `document.querySelectorAll("tbody tr:last-child .bar > span").length`
	before := eval[int](b, bars)
	s.write(t, "hello")
	b.poll(bars + fmt.Sprint(" > ", before))
	b.open("/events?entity=new")
	b.see("#live", "Live.")
	s.write(t, "new")
	b.see("tbody", "Entry.save")
}

// testButtons: what an operator can do with them.
func testButtons(t *testing.T, b *tab, s *site) {
	b.open("/calls/" + s.call)
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	if !strings.HasSuffix(b.path(), "?done=resend") || b.text("[role=status]") != "It is sent again." {
		t.Errorf("%s %s", b.path(), b.text("main"))
	}
	s.waitLine(t, "msg=failed", "webhook=ill", "entity=hello")

	b.open("/")
	b.leads(chromedp.Click(chromedp.CSS(`[aria-label="Pause later"]`)))
	if text := b.text("main"); !strings.Contains(text, "The webhook is paused") || !strings.Contains(b.text("tbody"), "paused") {
		t.Error(text)
	}
	b.leads(chromedp.Click(chromedp.CSS(`[aria-label="Resume later"]`)))
	if strings.Contains(b.text("tbody"), "paused") {
		t.Error(b.text("main"))
	}

	b.open("/dead")
	b.do(chromedp.SetValue(chromedp.CSS("[name=webhook]"), "ill"))
	b.leads(chromedp.SendKeys(chromedp.CSS("[name=entity]"), "hello"+kb.Enter))
	button := b.text(".act button")
	var count int
	if _, err := fmt.Sscanf(button, "Send %d again", &count); err != nil || count < 2 {
		t.Fatalf("%s: %v", button, err)
	}
	b.leads(chromedp.Click(chromedp.CSS(".act button")))
	if want := fmt.Sprint(count, " deliveries are sent again."); b.path() != fmt.Sprint("/dead?sent=", count) || b.text("[role=status]") != want {
		t.Errorf("%s %s", b.path(), b.text("main"))
	}
	for range count {
		s.waitLine(t, "msg=failed", "webhook=ill", "entity=hello")
	}
}

// testWithoutScript: all but the live update works.
func testWithoutScript(t *testing.T, b *tab, s *site) {
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	for name, address := range s.addresses() {
		b.open(address)
		if b.take(); len(b.text("main")) < 30 {
			t.Errorf("%s: %s", name, b.text("main"))
		}
	}
	b.open("/calls")
	if html, err := chromedp.Run(b.ctx, chromedp.OuterHTML(chromedp.CSS("#live"))); err != nil || !strings.Contains(html, "hidden") {
		t.Errorf("%v %s", err, html)
	}
	b.leads(chromedp.SendKeys(chromedp.CSS("[name=text]"), "nonsense of a filter"+kb.Enter))
	if b.path() != "/calls?text=nonsense+of+a+filter" || !strings.Contains(b.text("tbody"), "No calls.") {
		t.Error(b.path())
	}
	b.open("/events/" + s.event)
	b.leads(chromedp.Click(chromedp.CSS(`[aria-label="Send again to well"]`)))
	if b.text("[role=status]") != "It is sent again." {
		t.Error(b.text("main"))
	}
	s.waitLine(t, "msg=delivered", "webhook=well", s.event)
}

// testKeyboard: the tab key reaches the skip link, the navigation, the filter and
// the rows, each with a mark that can be seen; enter follows.
func testKeyboard(t *testing.T, b *tab, _ *site) {
	b.open("/calls?webhook=ill&entity=hello")
	const where = `(e => [e.innerText || e.name, getComputedStyle(e).outlineStyle].join(" "))(document.activeElement)`
	var reached []string
	for range 23 {
		b.do(chromedp.KeyEvent(kb.Tab))
		reached = append(reached, strings.ReplaceAll(eval[string](b, where), "\n", " "))
	}
	for _, want := range []string{"Skip to the content solid", "Overview solid", "Given up solid", "topic solid", "until solid", "Filter solid", "Pause the live update solid", "hello solid"} {
		if !slices.Contains(reached, want) {
			t.Errorf("the tab key does not reach %q: %q", want, reached)
		}
	}
	b.leads(chromedp.KeyEvent(kb.Enter))
	if !strings.HasPrefix(b.path(), "/calls/") && !strings.HasPrefix(b.path(), "/events/") {
		t.Error(b.path())
	}
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	if focused := eval[string](b, "document.activeElement.id"); focused != "main" {
		t.Errorf("the skip link leads to %q", focused)
	}
}

// testAnotherName: over plain HTTP under a name a browser says only in Origin
// where a form comes from, and not even there if the referrer policy forbids it.
func testAnotherName(t *testing.T, b *tab, s *site) {
	_, port, _ := net.SplitHostPort(s.admin)
	b.base = "http://cmstap.internal:" + port
	b.login()
	b.open("/events/" + s.event)
	b.leads(chromedp.Click(chromedp.CSS(`[aria-label="Send again to well"]`)))
	if b.text("[role=status]") != "It is sent again." {
		t.Error(b.text("main"))
	}
	s.waitLine(t, "msg=delivered", "webhook=well", s.event)
}

// testBehindTLS: a proxy speaks TLS, as docs/deploy.md has it: the cookie is for
// TLS only, and forms and the live update work.
func testBehindTLS(t *testing.T, b *tab, s *site) {
	front := httptest.NewTLSServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: s.admin})
		r.Out.Host = "cmstap.internal"
		r.Out.Header.Set("X-Forwarded-Proto", "https")
	}})
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	b.base = strings.Replace(front.URL, "127.0.0.1", "cmstap.internal", 1)
	b.login()
	b.open("/calls?webhook=well&entity=over-tls")
	b.see("#live", "Live.")
	s.write(t, "over-tls")
	b.see("tbody", "Entry.save")
	b.leads(chromedp.Click(chromedp.CSS("tbody a")))
	b.leads(chromedp.Click(chromedp.CSS("main form button")))
	if b.text("[role=status]") != "It is sent again." {
		t.Error(b.text("main"))
	}
	s.waitLine(t, "msg=delivered", "webhook=well", "over-tls")
	cookies, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{})
	if err != nil || len(cookies.Cookies) != 1 || !cookies.Cookies[0].Secure || !cookies.Cookies[0].HTTPOnly || cookies.Cookies[0].SameSite != "Strict" {
		t.Errorf("%v %+v", err, cookies)
	}
}
