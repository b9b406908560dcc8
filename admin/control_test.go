package admin_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"cmstap/admin"
	"cmstap/internal/setting"
)

// console is a cmstap that can be asked, and refuses a reload if it is told to.
type console struct {
	refused error
	level   string
}

func (c *console) Reload() (admin.Reloaded, error) {
	return admin.Reloaded{Webhooks: 2, Changed: []string{"webhooks[0].url"}}, c.refused
}

func (c *console) Settings() []setting.Shown {
	return []setting.Shown{{Path: "admin.token", Value: "<secret>"}}
}
func (c *console) Level() string { return c.level }

func (c *console) SetLevel(name string) bool {
	if name == "info" || name == "debug" {
		c.level = name
		return true
	}
	return false
}

func TestControl(t *testing.T) {
	t.Parallel()
	w, c := newWindow(t, "listen: 127.0.0.1:8081"), &console{level: "info"}
	config, err := settings("listen: 127.0.0.1:8081")
	if err != nil {
		t.Fatal(err)
	}
	w.Handler = admin.Handler(config, admin.Parts{Operator: idle{}, Control: c})
	check := func(method, path, body string, status int, want string) {
		t.Helper()
		got, answer := w.ask(method, path, func(r *http.Request) {
			if body != "" {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				r.Header.Set("Content-Type", "application/json")
			}
		})
		if got != status || !strings.Contains(answer, want) {
			t.Errorf("%s %s %s: %d %s", method, path, body, got, answer)
		}
	}
	check("POST", "/api/reload", "", 200, `{"webhooks":2,"changed":["webhooks[0].url"]}`)
	c.refused = errors.New("proxy.listen can be changed by a restart only")
	check("POST", "/api/reload", "", 422, "proxy.listen can be changed")
	check("GET", "/api/reload", "", 405, "only POST")
	check("GET", "/api/settings", "", 200, `{"setting":"admin.token","value":"<secret>"}`)
	check("GET", "/api/log-level", "", 200, `{"level":"info"}`)
	check("PUT", "/api/log-level", `{"level":"debug"}`, 200, `{"level":"debug"}`)
	for _, body := range []string{`{"level":"loud"}`, `debug`, `[]`, strings.Repeat(" ", 2000) + `{"level":"info"}`} {
		check("PUT", "/api/log-level", body, 400, `send {\"level\": \"debug\"}`)
	}
	if status, _ := w.ask("POST", "/api/reload", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); status != 403 {
		t.Errorf("another site's page reloads: %d", status)
	}
}
