// Package admin is the operator's window: for now, health.
package admin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"cmstap/internal/setting"
)

// Config is the part admin of the config file.
type Config struct {
	Listen string `yaml:"listen"` // empty: no admin listener
}

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:8081"} }

// Validate reports what is wrong.
func (c Config) Validate(check setting.Check) {
	if c.Listen != "" && !setting.IsListen(c.Listen) {
		check.Add("listen", `want host:port, for example 127.0.0.1:8081, or "" for none, not %q`, c.Listen)
	}
}

// Warn reports a listener that others may reach.
func (c Config) Warn(check setting.Check) {
	host, _, err := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		check.Warn("listen", "other machines may reach it, and it asks for no password; listen on 127.0.0.1, or keep others out by a firewall")
	}
}

// Admin is the admin listener.
type Admin struct {
	listener net.Listener
	server   *http.Server
}

// New takes the port. Ready tells whether requests can be proxied. The error
// names the setting.
func New(config Config, ready func() bool) (*Admin, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	a := &Admin{server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}}
	if config.Listen == "" {
		return a, nil
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	a.listener = listener
	return a, nil
}

// Addr is the address that was taken, with its real port; "" if there is none.
func (a *Admin) Addr() string {
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

// Serve answers until Close.
func (a *Admin) Serve() error {
	if a.listener == nil {
		return http.ErrServerClosed
	}
	return a.server.Serve(a.listener)
}

// Close stops the listener and ends its connections: nobody loses by that.
func (a *Admin) Close() error {
	err := a.server.Close()
	if a.listener != nil {
		_ = a.listener.Close() // a server that does not serve yet does not know it
	}
	return err
}
