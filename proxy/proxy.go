// Package proxy is the reverse proxy in front of the CMS and its tap. It is the
// only package that knows fasthttp.
//
// A request goes through serve, handle, classify, begin, forward and reply; the
// Tap that is handed in does what lies between. The round trip is its own: it
// takes connections from fasthttp's pool and messages from its codec, and has
// no code that sends anything twice.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/valyala/fasthttp"
)

// Tap is the rest of the house as the proxy sees it.
type Tap interface {
	// Classify says from the head alone what a request means. If the plan asks
	// for the body, Identify says it.
	Classify(head event.Head) event.Plan
	Identify(head event.Head, body event.Copy) event.Plan
	// Begin makes a write's intent durable before it is forwarded; it sets the
	// intent's id and time. After an error it must not be forwarded.
	Begin(x *event.Exchange) error
	// Finish takes how the forward ended. When it returns the answer may go
	// out. It is called once for every Begin that returned nil.
	Finish(x *event.Exchange)
	// Observe takes the whole answer of a request that is only observed, after
	// it went out.
	Observe(x *event.Exchange)
}

// Config is the part proxy of the config file.
type Config struct {
	Listen   string      `yaml:"listen"`
	Upstream setting.URL `yaml:"upstream"`
	Dialect  string      `yaml:"dialect"`
	// Host is the Host header that the CMS gets: upstream or preserve; the
	// dialect says which by default.
	Host string `yaml:"host"`
	TLS  TLS    `yaml:"tls"`
	// UpstreamTLS is for a CMS whose certificate the system does not know, or that
	// wants one.
	UpstreamTLS    setting.ClientTLS `yaml:"upstream_tls"`
	TrustedProxies []setting.Range   `yaml:"trusted_proxies"`
	// Durability is what a write gets that can not be recorded: required (503)
	// or best_effort (it passes, and the gap is counted and logged).
	Durability string `yaml:"durability"`

	HeaderTimeout  setting.Duration `yaml:"header_timeout"`  // a client's header
	IdleTimeout    setting.Duration `yaml:"idle_timeout"`    // between a client's requests
	ConnectTimeout setting.Duration `yaml:"connect_timeout"` // to the CMS, TLS included
	AnswerTimeout  setting.Duration `yaml:"answer_timeout"`  // the CMS's header, once it has the request
	StallTimeout   setting.Duration `yaml:"stall_timeout"`   // a body on either side that does not move
	MaxHeader      setting.Size     `yaml:"max_header"`
	MaxConnections int              `yaml:"max_connections"` // clients'
	MaxPerClient   int              `yaml:"max_per_client"`  // of one address that is no trusted proxy; 0 for any number
	MaxBody        setting.Size     `yaml:"max_body"`        // of a request; 0 for any size
	// UpstreamConnections bounds the connections to the CMS, and WaitTimeout how
	// long a request waits for one.
	UpstreamConnections int              `yaml:"upstream_connections"`
	WaitTimeout         setting.Duration `yaml:"wait_timeout"`

	// MaxCopy is how much is kept of an answer, as it came and decoded, in bytes; 0
	// for 4 MiB. What is larger passes all the same, but is not looked into.
	MaxCopy int `yaml:"-"`

	tls         *tls.Config
	upstreamTLS *tls.Config
}

// TLS is the listener's certificate; without one the listener speaks plain
// HTTP.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8080", Dialect: "contentful", Durability: "required",
		HeaderTimeout: setting.Duration(10 * time.Second), IdleTimeout: setting.Duration(75 * time.Second),
		ConnectTimeout: setting.Duration(5 * time.Second), AnswerTimeout: setting.Duration(time.Minute),
		StallTimeout: setting.Duration(time.Minute), MaxHeader: 16 << 10, MaxConnections: 4096, MaxPerClient: 1024,
		UpstreamConnections: 1024, WaitTimeout: setting.Duration(5 * time.Second),
	}
}

// Validate reports what is wrong, and reads the certificate.
func (c *Config) Validate(check setting.Check) {
	if !setting.IsListen(c.Listen) {
		check.Add("listen", "want host:port, for example 127.0.0.1:8080, not %q", c.Listen)
	}
	if c.Upstream.URL == nil {
		check.Add("upstream", "name the address of the CMS's content API, for example https://api.contentful.com")
	} else if c.Upstream.User != nil || c.Upstream.RawQuery != "" {
		check.Add("upstream", "the address must not have a user or a query; clients send their own credentials")
	}
	if c.Host != "" && c.Host != "upstream" && c.Host != "preserve" {
		check.Add("host", "must be upstream or preserve")
	}
	if c.Durability != "required" && c.Durability != "best_effort" {
		check.Add("durability", "must be required or best_effort")
	}
	if c.MaxHeader < 4<<10 || c.MaxHeader > 1<<20 {
		check.Add("max_header", "must be from 4KiB to 1MiB")
	}
	if c.MaxConnections < 1 {
		check.Add("max_connections", "must be at least 1")
	}
	if c.UpstreamConnections < 1 {
		check.Add("upstream_connections", "must be at least 1")
	}
	if c.MaxPerClient < 0 {
		check.Add("max_per_client", "must be at least 1, or 0 for any number")
	}
	for path, span := range map[string]setting.Duration{
		"header_timeout": c.HeaderTimeout, "idle_timeout": c.IdleTimeout, "connect_timeout": c.ConnectTimeout,
		"answer_timeout": c.AnswerTimeout, "stall_timeout": c.StallTimeout, "wait_timeout": c.WaitTimeout,
	} {
		if span <= 0 {
			check.Add(path, "must be longer than 0s")
		}
	}
	c.readCertificate(check)
	c.readUpstreamTLS(check)
}

// readUpstreamTLS reads the certificates for the CMS's side.
func (c *Config) readUpstreamTLS(check setting.Check) {
	c.upstreamTLS = c.UpstreamTLS.Load(check.In("upstream_tls"))
	if c.Upstream.URL == nil {
		return
	}
	c.upstreamTLS.ServerName = cmp.Or(c.UpstreamTLS.ServerName, c.Upstream.Hostname())
	if c.UpstreamTLS != (setting.ClientTLS{}) && c.Upstream.Scheme != "https" {
		check.Add("upstream_tls", "is for an upstream that begins with https://")
	}
}

func (c *Config) readCertificate(check setting.Check) {
	if c.TLS == (TLS{}) {
		return
	}
	check.File("tls.cert", c.TLS.Cert)
	check.File("tls.key", c.TLS.Key)
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		check.Add("tls", "the certificate and key can not be read: %v", err)
	}
	c.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
}

// Warn reports a certificate that no client accepts any more.
func (c *Config) Warn(check setting.Check) {
	if c.tls == nil || c.tls.Certificates[0].Leaf == nil {
		return
	}
	if end := c.tls.Certificates[0].Leaf.NotAfter; end.Before(time.Now()) {
		check.Warn("tls.cert", "the certificate expired on %s; clients refuse it", end.UTC().Format(time.DateOnly))
	}
}

// Proxy is the reverse proxy. Listen it, Serve it, Shutdown it.
type Proxy struct {
	config   Config
	tap      Tap
	log      *slog.Logger
	server   *fasthttp.Server
	pool     *fasthttp.HostClient
	listener net.Listener
	conns    *openConns
	observed chan struct{} // one for each answer that is being observed
	basePath string
	cutting  atomic.Bool // a stop closes the connections that are left
	host     string      // the Host header for the CMS; "" keeps the client's

	holding    chan struct{} // one for each answer of a write that is large
	tunnels    atomic.Int64  // that are open
	exhausted  atomic.Int64  // when there were last too many files; seconds since 1970
	turnedAway atomic.Int64  // when a client last had too many connections; seconds since 1970
	stopped    chan struct{}
	stop       sync.Once
}

// New returns a proxy for a validated config.
func New(config Config, tap Tap, log *slog.Logger) *Proxy {
	p := &Proxy{
		config: config, tap: tap, log: log, basePath: strings.TrimSuffix(config.Upstream.EscapedPath(), "/"),
		observed: make(chan struct{}, maxObserved), holding: make(chan struct{}, maxHolding), stopped: make(chan struct{}),
	}
	p.config.MaxCopy = cmp.Or(config.MaxCopy, copyLimit)
	if config.Host != "preserve" {
		p.host = config.Upstream.Host
	}
	shortest := min(config.HeaderTimeout, config.IdleTimeout, config.AnswerTimeout, config.StallTimeout).Std()
	p.conns = &openConns{stall: config.StallTimeout.Std(), slack: shortest / 16, open: map[*watchedConn]bool{}, of: map[netip.Addr]int{}}
	p.server = p.newServer()
	p.pool = p.newPool()
	return p
}

// newServer streams bodies, keeps header names as they are, adds nothing to
// answers, and keeps credentials out of its log. There is no total limit on
// writing an answer: it would cut downloads and event streams.
func (p *Proxy) newServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:               p.handle,
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
		DisableHeaderNamesNormalizing: true,
		StreamRequestBody:             true, DisablePreParseMultipartForm: true,
		ReadBufferSize: int(p.config.MaxHeader), WriteBufferSize: 64 << 10,
		ReadTimeout:    p.config.HeaderTimeout.Std(), // the header; the body has a rolling deadline
		HeaderReceived: p.headerReceived,
		IdleTimeout:    p.config.IdleTimeout.Std(), CloseOnShutdown: true, Concurrency: p.config.MaxConnections,
		SecureErrorLogMessage: true, Logger: debugLog{p.log},
	}
}

// headerReceived gives the body its own time. The codec finds Expect only in
// this spelling, and a client may wait for its answer before it sends a body.
func (p *Proxy) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if strings.EqualFold((&requestHeaders{header: h}).Get("Expect"), "100-continue") {
		h.Set("Expect", "100-continue")
	}
	return fasthttp.RequestConfig{ReadTimeout: p.config.StallTimeout.Std()}
}

// newPool makes the pool of connections to the CMS. They are kept idle for
// less time than a CMS keeps them (Node closes after 5 s).
func (p *Proxy) newPool() *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr:     upstreamAddress(p.config),
		MaxConns: p.config.UpstreamConnections, MaxConnWaitTimeout: p.config.WaitTimeout.Std(),
		MaxIdleConnDuration: 4 * time.Second, ConnPoolStrategy: fasthttp.LIFO,
		ReadBufferSize: max(int(p.config.MaxHeader), 16<<10), WriteBufferSize: 64 << 10,
		Dial: func(string) (net.Conn, error) {
			conn, err := dialUpstream(p.config)
			if err != nil {
				return nil, err
			}
			return p.conns.watch(conn), nil
		},
	}
}

// upstreamAddress is host:port of the CMS.
func upstreamAddress(c Config) string {
	port := c.Upstream.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[c.Upstream.Scheme]
	}
	return net.JoinHostPort(c.Upstream.Hostname(), port)
}

// Listen takes the port; requests wait until Serve. The error names the
// setting.
func (p *Proxy) Listen() error {
	listener, err := net.Listen("tcp", p.config.Listen)
	if err != nil {
		return fmt.Errorf("proxy.listen: %w", err)
	}
	if p.config.tls != nil {
		listener = tls.NewListener(listener, p.config.tls)
	}
	p.listener = clientListener{listener, p}
	return nil
}

// Addr is the address that Listen took, with its real port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Serve answers requests until Shutdown.
func (p *Proxy) Serve() error {
	go p.watchClients()
	return p.server.Serve(p.listener)
}

// watchClients looks every second for clients that left.
func (p *Proxy) watchClients() {
	defer p.recovered("looking for clients that left", func() {})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.conns.letGo()
		case <-p.stopped:
			return
		}
	}
}

// Shutdown stops accepting and waits for requests in flight until ctx ends;
// then it closes their connections and waits until they have noticed. A Serve
// that has not begun yet ends at once.
func (p *Proxy) Shutdown(ctx context.Context) error {
	defer p.stop.Do(func() { close(p.stopped) })
	err := p.server.ShutdownWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("cut", "error", "requests were still running at the stop; their connections are closed")
		p.cutting.Store(true)
		p.conns.closeAll()
		err = p.awaitHandlers(time.Second)
	}
	_ = p.listener.Close() // a server that does not serve yet does not know it
	p.pool.CloseIdleConnections()
	return errors.Join(err, p.endTunnels(time.Second))
}

// endTunnels closes the tunnels, which the server does not know any more.
func (p *Proxy) endTunnels(longest time.Duration) error {
	for end := time.Now().Add(longest); p.tunnels.Load() > 0; <-time.After(10 * time.Millisecond) {
		if p.conns.closeAll(); time.Now().After(end) {
			return errors.New("tunnels are still open")
		}
	}
	return nil
}

// awaitHandlers waits until no connection is served any more.
func (p *Proxy) awaitHandlers(longest time.Duration) error {
	for end := time.Now().Add(longest); p.server.GetOpenConnectionsCount() > 0; <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("requests are still running")
		}
	}
	return nil
}

// debugLog takes what fasthttp has to say about broken connections. What it
// quotes of a message may be a credential or a query, and is left out.
type debugLog struct{ log *slog.Logger }

func (l debugLog) Printf(format string, args ...any) {
	if strings.Contains(format, "concurrent connections are served") { // once a minute at most
		l.log.Warn("busy", "connections", args[0], "hint", "there are no more connections (proxy.max_connections): further ones get 503; look for clients that leave theirs open, or allow more")
		return
	}
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			args[i], _, _ = strings.Cut(err.Error(), `"`)
		}
	}
	l.log.Debug("connection", "error", fmt.Sprintf(format, args...))
}
