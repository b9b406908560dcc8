package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// newBrowser starts a Chromium that ends with the test. It finds the name
// cmstap.internal on this machine.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("host-resolver-rules", "MAP cmstap.internal 127.0.0.1"))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// tab is a page of the browser, with cookies of its own.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string // the admin listener: http://host:port

	mu    sync.Mutex
	noise []string // what the console said, and dialogs
}

// newTab opens a tab. What its console says is a failure, unless the test takes
// it.
func newTab(t *testing.T, browser context.Context, base string) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(end)
	ctx, end = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx, base: base}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.call(log.Enable)
	t.Cleanup(func() {
		for _, noise := range b.take() {
			t.Errorf("the browser says: %s", noise)
		}
	})
	return b
}

// twin opens another tab with the same cookies.
func (b *tab) twin() *tab {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.t.Cleanup(end)
	return &tab{t: b.t, ctx: ctx, base: b.base}
}

func (b *tab) hear(said any) {
	var noise string
	switch e := said.(type) {
	case *runtime.EventConsoleAPICalled:
		noise = fmt.Sprint("console ", e.Type, len(e.Args))
	case *runtime.EventExceptionThrown:
		noise = e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		noise = e.Entry.Text + " " + e.Entry.URL
	case *page.EventJavascriptDialogOpening:
		noise = "dialog: " + e.Message
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noise = append(b.noise, noise)
}

// take returns what was said so far.
func (b *tab) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	noise := b.noise
	b.noise = nil
	return noise
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open loads a page and returns its status.
func (b *tab) open(path string) int {
	b.t.Helper()
	return b.leads(chromedp.Navigate(b.base + path))
}

// leads does what loads another page, and returns that page's status.
func (b *tab) leads(steps ...chromedp.Action[chromedp.Void]) int {
	b.t.Helper()
	response, err := chromedp.RunResponse(b.ctx, steps...)
	if err != nil {
		b.t.Fatal(err)
	}
	return int(response.Status)
}

// path is the address that the tab shows, without the listener.
func (b *tab) path() string {
	b.t.Helper()
	location, err := chromedp.Run(b.ctx, chromedp.Location())
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimPrefix(location, b.base)
}

// text is what people read in an element.
func (b *tab) text(css string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS(css)))
	if err != nil {
		b.t.Fatalf("%s: %v", css, err)
	}
	return text
}

// see waits for a text in an element.
func (b *tab) see(css, text string) {
	b.t.Helper()
	b.poll(fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%q)`, css, text))
}

// poll waits until a condition holds.
func (b *tab) poll(condition string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](condition, chromedp.WithPollingTimeout(30*time.Second))); err != nil {
		b.t.Fatalf("%s: %v\n%s", condition, err, b.text("main"))
	}
}

// eval returns what a script makes of the page.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return value
}

func (b *tab) call(command cdp.Command[cdp.Empty, cdp.Empty]) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, cdp.Empty{}); err != nil {
		b.t.Fatal(err)
	}
}

// look sets how wide the tab is, and whether it is dark.
func (b *tab) look(width int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, 800))
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatal(err)
	}
}

// shoot writes a picture of the page to the folder CMSTAP_PICTURES, if there is
// one.
func (b *tab) shoot(name string) {
	b.t.Helper()
	folder := os.Getenv("CMSTAP_PICTURES")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}
