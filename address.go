package main

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// collide tells whether two listeners can not both have their port.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" && (hostA == hostB || isEvery(hostA) || isEvery(hostB))
}

// leadsTo tells whether an address leads to a listener of this machine.
func leadsTo(u *url.URL, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if u == nil || err != nil || port != portOf(u) {
		return false
	}
	return strings.EqualFold(host, u.Hostname()) || isLoopback(u.Hostname()) && (isLoopback(host) || isEvery(host))
}

// portOf is the port of an address, also where it is left out.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// isEvery tells whether a listener's host stands for all addresses.
func isEvery(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// isLocal tells whether a host is on this machine or in its own network, as far
// as its name says.
func isLocal(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return !strings.Contains(host, ".") || hasDomain(host, "localhost", "local", "internal")
}

// hasDomain tells whether a host is one of the domains or below it.
func hasDomain(host string, domains ...string) bool {
	host = "." + strings.ToLower(host)
	return slices.ContainsFunc(domains, func(domain string) bool { return strings.HasSuffix(host, "."+domain) })
}
