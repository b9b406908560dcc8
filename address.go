package main

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// listener is an address of this machine: one of a port, or all of them.
type listener struct{ host, port string } // host: "" is all

// listenerAt names an address in one way, so that equal ones compare so.
func listenerAt(host, port string) listener {
	ip, err := netip.ParseAddr(host)
	switch {
	case strings.EqualFold(host, "localhost"):
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = ""
	case err == nil:
		host = ip.Unmap().String()
	}
	return listener{strings.ToLower(host), port}
}

// parseListener reads host:port; ok is false if that has no port of its own.
func parseListener(text string) (l listener, ok bool) {
	host, port, err := net.SplitHostPort(text)
	return listenerAt(host, port), err == nil && port != "0"
}

// sameListener tells whether two listeners can not both have their port.
func sameListener(a, b string) bool {
	first, okFirst := parseListener(a)
	second, okSecond := parseListener(b)
	return okFirst && okSecond && first.port == second.port && (first.host == second.host || first.host == "" || second.host == "")
}

// leadsTo tells whether an address leads to a listener of this machine.
func leadsTo(u *url.URL, listen string) bool {
	at, ok := parseListener(listen)
	if u == nil || !ok {
		return false
	}
	to := listenerAt(u.Hostname(), portOf(u))
	if to.host == "" { // the system takes it for itself
		to.host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(to.host)
	return to == at || at == listener{"", to.port} && err == nil && ip.IsLoopback()
}

// portOf is the port of an address, also where it is left out.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// isLocal tells whether a host is on this machine or in its own network, as far
// as its name says.
func isLocal(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() || ip.IsUnspecified() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return !strings.Contains(host, ".") || hasDomain(host, "localhost", "local", "internal")
}

// hasDomain tells whether a host is one of the domains or below it.
func hasDomain(host string, domains ...string) bool {
	host = "." + strings.ToLower(host)
	return slices.ContainsFunc(domains, func(domain string) bool { return strings.HasSuffix(host, "."+domain) })
}
