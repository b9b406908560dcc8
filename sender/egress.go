package sender

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"cmstap/internal/setting"

	"code.dny.dev/ssrf"
)

// Egress says which addresses may be called. A host that the operator wrote is
// the operator's choice; one that somebody else had a say in is judged.
type Egress struct {
	// Allow lists ranges that may be called though they are not public.
	Allow []setting.Range `yaml:"allow"`
	// Strict judges the hosts that the operator wrote, too.
	Strict bool `yaml:"strict"`

	resolver *net.Resolver // nil: the system's
}

// guard judges the addresses that a webhook's connections go to.
type guard struct {
	judges   bool // false: only what is never called is refused
	public   *ssrf.Guardian
	resolver *net.Resolver
}

// guard is the one for an address that somebody else than the operator had a
// say in, or not.
func (e Egress) guard(foreign bool) guard {
	var v4, v6 []netip.Prefix
	for _, r := range e.Allow {
		if r.Addr().Is4() {
			v4 = append(v4, r.Prefix)
		} else {
			v6 = append(v6, r.Prefix)
		}
	}
	return guard{
		judges: foreign || e.Strict, resolver: e.resolver,
		public: ssrf.New(ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
	}
}

// guard is the one for the webhook's own address. Behind a proxy only the proxy
// is dialled, which the operator wrote.
func (e *Endpoint) guard() guard {
	return e.Egress.guard(e.Proxy.URL == nil && (e.Imported || e.TemplatedHost()))
}

// control is a net.Dialer's: it sees each address that is dialled, after its
// name was resolved.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return refusedError(fmt.Sprintf("the address %s can not be judged", address))
	}
	return g.judge(at.Addr())
}

// refusedError says why an address is not called.
type refusedError string

// Error returns the reason, with the address and what to do.
func (r refusedError) Error() string { return string(r) }

func (g guard) judge(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	carried := carriedBy(ip)
	if slices.ContainsFunc(append(carried, ip), isMetadata) {
		return refusedError(fmt.Sprintf("%v is a cloud's metadata service, which is never called", ip))
	}
	if ssrf.IPv6NAT64Prefix.Contains(ip) {
		ip = carried[0] // a network without IPv4 reaches all of it like this
	}
	if g.judges && g.public.SafeAddr(ip) != nil {
		return refusedError(fmt.Sprintf("%v is not a public address; if it is meant, name it or its range in egress.allow", ip))
	}
	return nil
}

// judgeHost judges a host that is written as an address.
func (g guard) judgeHost(u *url.URL) error {
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return g.judge(ip)
	}
	return nil
}

// metadata are the addresses at which clouds tell a machine its credentials.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google, Oracle, DigitalOcean and others
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle, classic
	netip.MustParseAddr("169.254.0.23"),    // Tencent
	netip.MustParseAddr("169.254.42.42"),   // Scaleway
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
}

func isMetadata(ip netip.Addr) bool { return slices.Contains(metadata, ip) }

// carriers are the ranges of IPv6 addresses that carry an IPv4 address: at which
// byte, and whether its bits are flipped.
var carriers = []struct {
	prefix  netip.Prefix
	at      int
	flipped bool
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12, false},    // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, false},  // NAT64, RFC 8215
	{netip.MustParsePrefix("::/96"), 12, false},           // IPv4-compatible, RFC 4291 section 2.5.5.1
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, false}, // IPv4-translated, RFC 2765 section 2.1
	{netip.MustParsePrefix("2002::/16"), 2, false},        // 6to4, RFC 3056
	{netip.MustParsePrefix("2001::/32"), 4, false},        // Teredo's server, RFC 4380 section 4
	{netip.MustParsePrefix("2001::/32"), 12, true},        // Teredo's client
}

// carriedBy lists the IPv4 addresses that an IPv6 address carries.
func carriedBy(ip netip.Addr) []netip.Addr {
	var carried []netip.Addr
	for _, c := range carriers {
		if !c.prefix.Contains(ip) {
			continue
		}
		all := ip.As16()
		v4 := [4]byte(all[c.at:])
		for i := range v4 {
			if c.flipped {
				v4[i] ^= 0xff
			}
		}
		carried = append(carried, netip.AddrFrom4(v4))
	}
	return carried
}

// newTransport makes the connections of one webhook. Redirects are answers, not
// followed; answers are bounded. The environment names no proxy: that would go
// past the guard.
func newTransport(e *Endpoint) *http.Transport {
	t := &http.Transport{
		DialContext: e.guard().dial, TLSClientConfig: e.tls.Clone(), ForceAttemptHTTP2: true,
		MaxConnsPerHost: e.Concurrency, MaxIdleConnsPerHost: e.Concurrency, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	if e.Proxy.URL != nil {
		t.Proxy = http.ProxyURL(e.Proxy.URL)
	}
	return t
}

// dial connects to an address that may be called. If there is one that may and
// does not answer, the call is not refused: another attempt may reach it.
func (g guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var allowed atomic.Bool
	dialer := &net.Dialer{Timeout: 5 * time.Second, Resolver: g.resolver, Control: func(network, address string, c syscall.RawConn) error {
		err := g.control(network, address, c)
		if err == nil {
			allowed.Store(true)
		}
		return err
	}}
	conn, err := dialer.DialContext(ctx, network, address)
	if isRefused(err) && allowed.Load() {
		return nil, errors.New("dial " + address + ": no address that may be called answers")
	}
	return conn, err
}

// validateEgress reports addresses that would be refused, as far as they can be
// told without a question, and reads the certificates.
func (e *Endpoint) validateEgress(check setting.Check) {
	for _, to := range []struct {
		path string
		setting.URL
		guard
	}{
		{"url", setting.URL{URL: e.URL.URL}, e.guard()}, {"proxy", e.Proxy, e.guard()},
		{"auth.oauth2.token_url", e.Auth.OAuth2.TokenURL, e.tokenGuard()},
	} {
		if to.URL.URL == nil {
			continue
		}
		if err := to.judgeHost(to.URL.URL); err != nil {
			check.Add(to.path, "%v", err)
		}
	}
	e.tls = e.TLS.Load(check.In("tls"))
	if e.TLS != (setting.ClientTLS{}) && e.URL.URL != nil && e.URL.Scheme != "https" {
		check.Add("tls", "is for a url that begins with https://")
	}
	if e.TLS != (setting.ClientTLS{}) && e.Proxy.URL != nil && e.Proxy.Scheme == "https" {
		check.Add("tls", "would be used for the proxy, too; name a proxy that begins with http://")
	}
}

// isRefused tells whether a call failed because its address is not to be called.
func isRefused(err error) bool {
	var refused refusedError
	return errors.As(err, &refused)
}
