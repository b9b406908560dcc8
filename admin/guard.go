package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// guard lets through who may look: whoever names the listener as it is called,
// comes from no other site, and knows the token if there is one, or logged in with
// it. Health is for everybody.
type guard struct {
	config   Config
	sessions *sessions
	log      *slog.Logger
	wrong    atomic.Int64 // when a wrong token was last said; seconds since 1970
}

func newGuard(config Config, log *slog.Logger) *guard {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &guard{config: config, sessions: newSessions(), log: log}
}

// around is the one place that decides who may come in.
func (g *guard) around(next http.Handler) http.Handler {
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "a request from another site's page is refused")
	}))
	allowed := own.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := bearer(r.Header.Get("Authorization"))
		switch {
		case r.URL.Path == "/livez" || r.URL.Path == "/readyz":
			next.ServeHTTP(w, r)
		case !g.config.isNamed(r.Host):
			fail(w, http.StatusMisdirectedRequest, "the Host header names another server; list its name under admin.hosts if it is this one's")
		case isForPrograms(r.URL.Path) && isFromElsewhere(r):
			fail(w, http.StatusForbidden, "a request from another site's page is refused")
		case !g.config.Token.IsSet() || g.config.isOpen(r.URL.Path) || g.sessions.has(r, time.Now()):
			allowed.ServeHTTP(w, r)
		case token == "" && !isForPrograms(r.URL.Path):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(comeBack(r)), http.StatusSeeOther)
		case !g.isToken(r, token):
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "send the header Authorization: Bearer with admin.token")
		default:
			allowed.ServeHTTP(w, r)
		}
	})
}

// isOpen tells whether a path asks for no token: where one logs in, with what that
// looks like, and the metrics if the config says so.
func (c Config) isOpen(path string) bool {
	return path == "/login" || assetTypes[path] != "" || c.MetricsPublic && path == "/metrics"
}

// isForPrograms tells whether a path is no page: whoever comes without a token is
// told so, and not led to the login.
func isForPrograms(path string) bool {
	return path == "/metrics" || strings.HasPrefix(path, "/api/")
}

// isFromElsewhere tells whether a page of another site made a browser send a request
// (Fetch Metadata). A link from there to a page of this listener is no harm.
func isFromElsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// comeBack is the page that a request without a login is for.
func comeBack(r *http.Request) string {
	if r.Method != http.MethodGet {
		return "/"
	}
	return r.URL.RequestURI()
}

// isNamed tells whether a Host header can be the listener's. A page that was
// loaded from another name can not make a browser send one of these (DNS
// rebinding), and an address is no name.
func (c Config) isNamed(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	listen, _, _ := net.SplitHostPort(c.Listen)
	named := func(name string) bool { return name != "" && strings.EqualFold(name, host) }
	return net.ParseIP(host) != nil || host == "localhost" || named(listen) || slices.ContainsFunc(c.Hosts, named)
}

// bearer returns the token of a header (RFC 6750 section 2.1), or "".
func bearer(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// isToken compares in a time that tells nothing of the token, and says wrong ones,
// once a minute at most. Their number is not bounded: nobody guesses a random token of
// 16 characters, and a bound would lock out whoever shares an address with who tries.
func (g *guard) isToken(r *http.Request, token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(g.config.Token.Reveal()))
	if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return true
	}
	now := time.Now().Unix()
	if token != "" && now-g.wrong.Swap(now) >= 60 {
		g.log.Warn("wrong_token", "client", r.RemoteAddr, "hint", "somebody sent a token that is not admin.token; further ones are not said for a minute")
	}
	return false
}

// methods are what a path answers, by method; HEAD goes with GET.
type methods map[string]http.HandlerFunc

// ServeHTTP implements http.Handler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handle := m[method]; handle != nil {
		handle(w, r)
		return
	}
	allowed := slices.Sorted(maps.Keys(m))
	if m[http.MethodGet] != nil {
		allowed = slices.Insert(allowed, 1, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	fail(w, http.StatusMethodNotAllowed, "only "+strings.Join(allowed, " and ")+" is answered here")
}

// get answers GET and HEAD only.
func get(handle http.HandlerFunc) http.Handler { return methods{http.MethodGet: handle} }
