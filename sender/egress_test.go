package sender

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/internal/testlog"
	"cmstap/sender/shape"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver asks a DNS server that answers from a zone: a name's next addresses
// each time, the last one again and again.
func resolver(t *testing.T, zone map[string][]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) == nil {
				reply := answerDNS(m, zone)
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerDNS(m dnsmessage.Message, zone map[string][]string) []byte {
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	name := strings.TrimSuffix(q.Name.String(), ".")
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	if answers := zone[name]; len(answers) > 0 {
		for text := range strings.FieldsSeq(answers[0]) {
			ip := netip.MustParseAddr(text)
			switch {
			case q.Type == dnsmessage.TypeA && ip.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}})
			case q.Type == dnsmessage.TypeAAAA && !ip.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
			}
		}
		if len(m.Answers) > 0 && len(answers) > 1 {
			zone[name] = answers[1:]
		}
	} else {
		m.RCode = dnsmessage.RCodeNameError
	}
	reply, _ := m.Pack()
	return reply
}

// caller sends one delivery to a host at the port of a receiver.
type caller struct {
	port     string
	hits     atomic.Int32
	resolver *net.Resolver
}

func newCaller(t *testing.T, zone map[string][]string) *caller {
	t.Helper()
	if six, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		_ = six.Close()
	}
	c := &caller{resolver: resolver(t, zone)}
	listener, err := net.Listen("tcp", ":0") // every address of this machine
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.hits.Add(1)
		w.Header().Set("Connection", "close")
	})}}
	server.Start()
	t.Cleanup(server.Close)
	_, c.port, _ = net.SplitHostPort(listener.Addr().String())
	return c
}

func (c *caller) call(t *testing.T, host string, change func(*Endpoint)) answerOf {
	t.Helper()
	u, err := url.Parse("http://" + host + ":" + c.port + "/hook")
	if err != nil {
		t.Fatal(err)
	}
	e := endpoint(t, "http://later.example", "timeout: 5s")
	e.URL = shape.Address{URL: u}
	e.Egress.resolver = c.resolver
	change(&e)
	before := c.hits.Load()
	l := New([]Webhook{{Name: "hook", Endpoint: e}}, newFakeStore(), (&testlog.Log{}).Logger()).lines["hook"]
	defer l.closeIdle()
	a := l.send(t.Context(), bundle{delivery(0)})
	return answerOf{a, c.hits.Load() > before}
}

type answerOf struct {
	answer
	arrived bool
}

func everything() []setting.Range {
	return []setting.Range{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}
}

// What is not public is refused if somebody else than the operator had a say in
// the host, however it is written and wherever its name leads.
func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	all, zone := hosts(private)
	if len(all) < 60 {
		t.Fatalf("only %d forms", len(all))
	}
	c := newCaller(t, zone)
	for _, host := range all {
		for name, change := range map[string]func(*Endpoint){
			"imported": func(e *Endpoint) { e.Imported = true },
			"strict":   func(e *Endpoint) { e.Egress.Strict = true },
		} {
			a := c.call(t, host, change)
			if a.arrived || a.failure != refused || !strings.Contains(a.attempt.Error, "is not a public address; if it is meant, name it or its range in egress.allow") {
				t.Errorf("%s, %s: arrived %v, %q %s", host, name, a.arrived, a.failure, a.attempt.Error)
			}
		}
	}
}

// The old ways to write an address lead nowhere.
func TestNumbersAreNoHosts(t *testing.T) {
	t.Parallel()
	all, zone := hosts(numbers)
	for _, host := range all {
		zone[host] = []string{"127.0.0.1"}
	}
	c := newCaller(t, zone)
	for _, host := range all {
		if a := c.call(t, host, func(*Endpoint) {}); a.arrived || !strings.Contains(a.attempt.Error, "no such host") {
			t.Errorf("%s: arrived %v, %s", host, a.arrived, a.attempt.Error)
		}
	}
}

// Metadata services are refused whoever wrote the host, and whatever is allowed.
func TestMetadataIsAlwaysRefused(t *testing.T) {
	t.Parallel()
	all, zone := hosts(refusedAlways)
	c := newCaller(t, zone)
	for _, host := range all {
		for name, change := range map[string]func(*Endpoint){
			"own":     func(*Endpoint) {},
			"allowed": func(e *Endpoint) { e.Egress.Allow = everything() },
			"foreign": func(e *Endpoint) { e.Imported, e.Egress.Strict, e.Egress.Allow = true, true, everything() },
		} {
			a := c.call(t, host, change)
			if a.arrived || a.failure != refused || !strings.Contains(a.attempt.Error, "is a cloud's metadata service, which is never called") {
				t.Errorf("%s, %s: arrived %v, %q %s", host, name, a.arrived, a.failure, a.attempt.Error)
			}
		}
	}
}

// A host that the operator wrote is called wherever it is; so is what is allowed.
func TestOwnAndAllowedAddressesAreCalled(t *testing.T) {
	t.Parallel()
	c := newCaller(t, map[string][]string{"neighbour.example": {"127.0.0.1"}, "six.example": {"::1"},
		"several.example": {"10.0.0.1 fd00::1 127.0.0.1"}, "mixed.example": {"169.254.169.254 fd00:ec2::254 127.0.0.1"}})
	check := func(want bool, host string, change func(*Endpoint)) {
		t.Helper()
		if a := c.call(t, host, change); a.arrived != want {
			t.Errorf("%s: arrived %v, %s", host, a.arrived, a.attempt.Error)
		}
	}
	allow := func(ranges ...string) func(*Endpoint) {
		return func(e *Endpoint) {
			e.Imported = true
			for _, text := range ranges {
				var r setting.Range
				if err := r.UnmarshalText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				e.Egress.Allow = append(e.Egress.Allow, r)
			}
		}
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "localhost", "neighbour.example", "six.example"} {
		check(true, host, func(*Endpoint) {})
		check(true, host, allow("127.0.0.0/8", "::1"))
		check(true, host, func(e *Endpoint) { allow("127.0.0.0/8", "::1")(e); e.Egress.Strict = true })
		check(false, host, allow("10.0.0.0/8", "fd00::/8"))
	}
	check(true, "several.example", allow("127.0.0.0/8")) // what may be called of it
	check(true, "mixed.example", func(*Endpoint) {})
	check(true, "127.0.0.1", allow("127.0.0.1"))
	check(false, "127.0.0.2", allow("127.0.0.1"))
	for _, public := range []string{"8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"} {
		if err := (Egress{}).guard(true).judge(netip.MustParseAddr(public)); err != nil {
			t.Error(err)
		}
	}
}

// A name that leads elsewhere at each question is judged by the address that is
// dialled.
func TestRebinding(t *testing.T) {
	t.Parallel()
	c := newCaller(t, map[string][]string{"rebound.example": {"127.0.0.1", "127.0.0.2", "127.0.0.1", "10.0.0.1", "169.254.169.254"}})
	for i, want := range []string{"", "127.0.0.2 is not", "", "10.0.0.1 is not", "169.254.169.254 is a cloud's"} {
		a := c.call(t, "rebound.example", func(e *Endpoint) {
			e.Imported = true
			e.Egress.Allow = []setting.Range{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}
		})
		if a.arrived != (want == "") || !strings.Contains(a.attempt.Error, want) {
			t.Errorf("%d: arrived %v, %s", i, a.arrived, a.attempt.Error)
		}
	}
}

// An address that can not be judged is refused.
func TestUnreadableAddress(t *testing.T) {
	t.Parallel()
	if err := (Egress{}).guard(false).control("tcp", "somewhere", nil); !isRefused(err) {
		t.Error(err)
	}
}

// A refused address is tried three times, for a name may lead elsewhere soon,
// and says nothing of the receiver.
func TestRefusedIsGivenUpSoon(t *testing.T) {
	t.Parallel()
	for number, want := range map[int]event.Result{1: event.Retry, 2: event.Retry, 3: event.GiveUp, 4: event.GiveUp} {
		r := presets[standard]
		s := r.judge(answer{failure: refused, attempt: event.Attempt{Number: number}}, 0.5)
		if s.Result != want || want == event.GiveUp && s.Reason != "the address is refused (egress)" {
			t.Errorf("%d: %+v", number, s)
		}
	}
	r := run(t, "http://localhost:1", "imported: true\nbreaker: { failures: 1, wait: 1m }")
	for n := range 4 {
		if s := r.deliver(n); !strings.Contains(s.Attempt.Error, "127.0.0.1 is not a public address") && !strings.Contains(s.Attempt.Error, "::1 is not a public address") || s.Attempt.Answer != "" {
			t.Errorf("%+v", s.Settlement)
		}
	}
	if strings.Contains(r.log.String(), "msg=breaker") {
		t.Error(r.log)
	}
}

// An address that is written as such is refused when the config is read.
func TestRefusedInTheConfig(t *testing.T) {
	t.Parallel()
	check := func(want, url, more string, egress Egress) {
		t.Helper()
		var e Endpoint
		e.SetDefaults()
		e.Egress = egress
		got := ""
		if err := setting.Decode("c.yaml", []byte("url: "+url+"\n"+more), &e, e.Validate); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s %s: %s", url, more, got)
		}
	}
	const private = "10.0.0.1 is not a public address; if it is meant, name it or its range in egress.allow"
	const never = "169.254.169.254 is a cloud's metadata service, which is never called"
	check("", "http://10.0.0.1/", "", Egress{})
	check("c.yaml:1: url: "+private, "http://10.0.0.1/", "", Egress{Strict: true})
	check("c.yaml:1: url: "+private, "http://10.0.0.1/", "imported: true", Egress{})
	check("", "http://10.0.0.1/", "imported: true", Egress{Strict: true, Allow: everything()})
	check("c.yaml:1: url: "+never, "http://169.254.169.254/", "", Egress{Allow: everything()})
	check("c.yaml:2: proxy: "+never, "http://x.example/", "proxy: http://169.254.169.254:80", Egress{})
	check("", "http://x.example/", "imported: true\nproxy: http://10.0.0.1:3128", Egress{})
	check("c.yaml:2: proxy: "+private, "http://x.example/", "proxy: http://10.0.0.1:3128", Egress{Strict: true})
}

// Calls go through the proxy that the webhook names, and through no other.
func TestProxy(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	proxy := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
	})
	s := run(t, "http://x.example/hook?a=b", "imported: true\nproxy: "+strings.Replace(proxy, "://", "://u:p@", 1)).deliver(0)
	if got := await(t, asked, "no call"); got != "http://x.example/hook?a=b Basic dTpw" || s.Result != event.Delivered {
		t.Errorf("%s, %+v", got, s.Settlement)
	}
	e := endpoint(t, "http://x.example", "")
	if newTransport(&e).Proxy != nil {
		t.Error("without the setting there must be no proxy, not the environment's either")
	}
}

// secure starts a receiver with TLS, and returns files with its certificate and
// key.
func secure(t *testing.T, of *tls.Config, handle http.HandlerFunc) (address, cert, key string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handle)
	server.TLS, server.Config.ErrorLog = of, log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	private := marshalKey(t, server.TLS.Certificates[0].PrivateKey)
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, key: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return server.URL, cert, key
}

func TestTLS(t *testing.T) {
	t.Parallel()
	check := func(of *tls.Config, settings, want string) {
		t.Helper()
		address, cert, key := secure(t, of, func(http.ResponseWriter, *http.Request) {})
		settings = strings.NewReplacer("CERT", cert, "KEY", key).Replace(settings)
		s := run(t, address, "tls: { "+settings+" }").deliver(0)
		if (s.Result == event.Delivered) != (want == "") || !strings.Contains(s.Attempt.Error, want) {
			t.Errorf("%s: %+v", settings, s.Settlement)
		}
	}
	check(&tls.Config{}, "ca: CERT", "")
	check(&tls.Config{}, "ca: CERT, server_name: example.com", "")
	check(&tls.Config{}, "ca: CERT, server_name: elsewhere.example", "certificate is valid for")
	check(&tls.Config{}, "", "certificate signed by unknown authority")
	check(&tls.Config{MaxVersion: tls.VersionTLS12}, "ca: CERT", "")
	check(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "ca: CERT", "protocol version")
	check(&tls.Config{ClientAuth: tls.RequireAnyClientCert}, "ca: CERT, cert: CERT, key: KEY", "")
	check(&tls.Config{ClientAuth: tls.RequireAnyClientCert}, "ca: CERT", "certificate required")
}

func marshalKey(t *testing.T, key any) []byte {
	t.Helper()
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTemplatedHostIsJudged: what a template makes of an event is nobody's choice.
func TestTemplatedHostIsJudged(t *testing.T) {
	t.Parallel()
	c := newCaller(t, map[string][]string{"e1.example": {"127.0.0.1"}})
	call := func(allow ...string) answerOf {
		return c.call(t, "later.example", func(e *Endpoint) {
			if err := e.URL.UnmarshalText([]byte("http://${entity.id}.example:" + c.port + "/hook")); err != nil {
				t.Fatal(err)
			}
			for _, text := range allow {
				var r setting.Range
				if err := r.UnmarshalText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				e.Egress.Allow = append(e.Egress.Allow, r)
			}
		})
	}
	if a := call(); a.failure != refused || a.arrived {
		t.Errorf("%+v", a)
	}
	if a := call("127.0.0.0/8"); a.attempt.Status != 200 || !a.arrived {
		t.Errorf("%+v", a)
	}
}

// TestOneAddressIsRefused: a name of which one address may be called is not refused
// while that does not answer.
func TestOneAddressIsRefused(t *testing.T) {
	t.Parallel()
	c := newCaller(t, map[string][]string{"two.example": {"10.0.0.1 127.0.0.1"}})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	_ = closed.Close()
	a := c.call(t, "later.example", func(e *Endpoint) {
		e.Imported = true
		e.Egress.Allow = []setting.Range{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}
		e.URL = shape.Address{URL: &url.URL{Scheme: "http", Host: "two.example:" + port, Path: "/"}}
	})
	if a.failure != "connection" || !strings.Contains(a.attempt.Error, "no address that may be called answers") && !strings.Contains(a.attempt.Error, "refused") {
		t.Errorf("%+v", a)
	}
}
