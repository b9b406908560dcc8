// Package admin is the operator's window: health, what happened to events and
// calls, metrics.
package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"cmstap/internal/setting"

	"golang.org/x/net/netutil"
)

// Config is the part admin of the config file.
type Config struct {
	Listen string `yaml:"listen"` // empty: no admin listener
	// Token is what a caller must know; it may be left out on a loopback address.
	Token setting.Secret `yaml:"token"`
	// Hosts are the names by which the listener is addressed, besides its own,
	// localhost and IP addresses.
	Hosts []string `yaml:"hosts"`
	// MetricsPublic lets /metrics be read without the token.
	MetricsPublic bool `yaml:"metrics_public"`
}

// minToken is the length of the shortest token, in bytes.
const minToken = 16

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:8081"} }

// Validate reports what is wrong.
func (c Config) Validate(check setting.Check) {
	if c.Listen != "" && !setting.IsListen(c.Listen) {
		check.Add("listen", `want host:port, for example 127.0.0.1:8081, or "" for none, not %q`, c.Listen)
	} else if c.Listen != "" && !c.isLoopback() && !c.Token.IsSet() {
		check.Add("listen", "other machines may reach it: give an admin.token, or listen on 127.0.0.1")
	}
	if c.Token.IsSet() && len(c.Token.Reveal()) < minToken {
		check.Add("token", "must have at least %d characters; for example what openssl rand -hex 16 prints", minToken)
	}
	for i, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, ":/ ") {
			check.Add(fmt.Sprintf("hosts[%d]", i), "want a name without scheme and port, for example cmstap.internal, not %q", host)
		}
	}
}

// Warn reports a token that others may read on its way.
func (c Config) Warn(check setting.Check) {
	if c.Listen != "" && !c.isLoopback() {
		check.Warn("listen", "the token crosses the network as it is; listen on 127.0.0.1, or put something that speaks TLS in front")
	}
}

// isLoopback tells whether only this machine can reach the listener.
func (c Config) isLoopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// Parts are what the window looks at.
type Parts struct {
	Ready    func() bool // whether requests can be proxied
	Store    Store
	Operator Operator // nil: nothing can be done here, only looked at
	Control  Control  // nil: cmstap itself can not be asked
	Metrics  http.Handler
	Log      *slog.Logger // nil: nothing is said
}

// maxConnections bounds the connections, so that who looks can not take the files
// that the proxy needs; readBound is how long a request may take to come.
const (
	maxConnections = 256
	readBound      = 30 * time.Second
)

// Admin is the admin listener.
type Admin struct {
	listener net.Listener
	server   *http.Server
	end      context.CancelFunc // of all requests
}

// New takes the port. The error names the setting.
func New(config Config, parts Parts) (*Admin, error) {
	ctx, end := context.WithCancel(context.Background())
	a := &Admin{end: end, server: &http.Server{
		Handler: Handler(config, parts), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: readBound, WriteTimeout: time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
	}}
	if config.Listen == "" {
		return a, nil
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	a.listener = netutil.LimitListener(listener, maxConnections)
	return a, nil
}

// Handler is the window without its listener.
func Handler(config Config, parts Parts) http.Handler {
	mux := http.NewServeMux()
	a := api{parts.Store}
	for path, handle := range map[string]http.HandlerFunc{
		"/livez":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") },
		"/readyz":          parts.readyz,
		"/api/webhooks":    a.webhooks,
		"/api/calls":       a.calls,
		"/api/calls/{id}":  a.call,
		"/api/events":      a.events,
		"/api/events/{id}": a.event,
	} {
		mux.Handle(path, get(handle))
	}
	if parts.Operator != nil {
		desk{parts.Operator, make(chan struct{}, maxTails)}.routes(mux)
	}
	if parts.Control != nil {
		console{parts.Control}.routes(mux)
	}
	if parts.Metrics != nil {
		mux.Handle("/metrics", get(parts.Metrics.ServeHTTP))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is nothing at "+r.URL.Path)
	})
	g := newGuard(config, parts.Log)
	(&pages{parts, g}).routes(mux)
	return g.around(mux)
}

func (p Parts) readyz(w http.ResponseWriter, _ *http.Request) {
	if !p.Ready() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
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
	a.end()
	err := a.server.Close()
	if a.listener != nil {
		_ = a.listener.Close() // a server that does not serve yet does not know it
	}
	return err
}
