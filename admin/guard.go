package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// guard lets through who may look: whoever names the listener as it is called,
// comes from no other site, and knows the token if there is one. Health is for
// everybody.
func guard(config Config, next http.Handler) http.Handler {
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "a request from another site's page is refused")
	}))
	allowed := own.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/livez" || r.URL.Path == "/readyz":
			next.ServeHTTP(w, r)
		case !config.isNamed(r.Host):
			fail(w, http.StatusMisdirectedRequest, "the Host header names another server; list its name under admin.hosts if it is this one's")
		case !config.knowsToken(r) && (!config.MetricsPublic || r.URL.Path != "/metrics"):
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "send the header Authorization: Bearer with admin.token")
		default:
			allowed.ServeHTTP(w, r)
		}
	})
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

// knowsToken compares in a time that tells nothing of the token (RFC 6750
// section 2.1).
func (c Config) knowsToken(r *http.Request) bool {
	if !c.Token.IsSet() {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(c.Token.Reveal()))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
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
