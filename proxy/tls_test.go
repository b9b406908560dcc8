package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

var testCert, testKey string // files: a certificate for 127.0.0.1 that the system trusts

// trustTestAuthority makes a certificate and has this process trust it.
func trustTestAuthority() {
	testCert, testKey = makeCertificate(time.Now().Add(time.Hour))
	check(os.Setenv("SSL_CERT_FILE", testCert))
}

// makeCertificate makes the files of a certificate, in a folder of their own.
func makeCertificate(end time.Time, names ...string) (certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: end, IsCA: true, BasicConstraintsValid: true,
		DNSNames: names,
	}
	if names == nil {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	dir, err := os.MkdirTemp("", "proxy-test")
	check(err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	check(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	check(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return certFile, keyFile
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// newTLSCMS is newCMS behind TLS.
func newTLSCMS(t *testing.T, serve func(*cms, net.Conn, *bufio.Reader)) *cms {
	pair, err := tls.LoadX509KeyPair(testCert, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return newCMS(t, func(c *cms, conn net.Conn, _ *bufio.Reader) {
		secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}})
		serve(c, secured, bufio.NewReader(secured))
		_ = secured.CloseWrite()
	})
}

func withTLS(_ *house, c *Config) {
	c.Upstream = mustURL("https://" + c.Upstream.Host)
	c.TLS = TLS{Cert: testCert, Key: testKey}
}

// talkTLS sends a request and TLS's own end of the stream.
func (h *house) talkTLS(raw string) string {
	h.Helper()
	conn, err := tls.Dial("tcp", h.Addr(), nil)
	if err != nil {
		h.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, raw); err != nil {
		h.Fatal(err)
	}
	_ = conn.CloseWrite()
	all, _ := io.ReadAll(conn)
	return string(all)
}

func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	expired, key := makeCertificate(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(expired)) })
	for pair, want := range map[TLS]string{
		{}: "", {testCert, testKey}: "", {expired, key}: "f: tls.cert: the certificate expired on 2026-01-02; clients refuse it",
	} {
		config, got := Config{TLS: pair}, ""
		_ = setting.Decode("f", []byte("{}"), &config, func(check setting.Check) {
			config.readCertificate(check)
			config.Warn(check)
			got = check.Warnings().Error()
		})
		if got != want {
			t.Errorf("%v: got %q", pair, got)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	const chunked = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	// A CMS that closes says so, else the next request would race with its end.
	const once = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
	const chunkedAnswer = once + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	run := func(name string, serve func(*cms, net.Conn, *bufio.Reader), request string, status int, outcome event.Outcome) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			c := newTLSCMS(t, serve)
			h := newHouse(t, c.addr, withTLS)
			for range 3 {
				got := h.talkTLS(request)
				if statusOf(got) != status {
					t.Errorf("answer %q", got)
				}
				if x := h.outcome(); x.Outcome != outcome {
					t.Errorf("outcome %s", x.Outcome)
				}
			}
			if status == 200 && (next(t, c.got).field("X-Forwarded-Proto")[0] != "https" || c.whole.Load() != 3) {
				t.Error("the CMS got something else")
			}
		})
	}
	run("intact", answering(okAnswer), request("PUT"), 200, event.Done)
	run("intact, one request a connection", answeringOnce(once+"Content-Length: 2\r\n\r\nok"), request("PUT"), 200, event.Done)
	run("intact chunked upload", answering(okAnswer), chunked+"0\r\n\r\n", 200, event.Done)
	run("cut chunked upload", answering(okAnswer), chunked, 400, event.Cut)
	run("intact chunked answer, then the end", answeringOnce(chunkedAnswer+"0\r\n\r\n"), request("PUT"), 200, event.Done)
	run("cut chunked answer", answeringOnce(chunkedAnswer), request("PUT"), 502, event.Unknown)
	run("answer that the end ends", answeringOnce(once+"\r\nhello"), request("PUT"), 200, event.Done)
}

// TLS may tell the last bytes and the end of the stream in one Read.
func TestEndWithTheLastBytes(t *testing.T) {
	t.Parallel()
	conn := &watchedConn{Conn: lastBytes{}}
	if n, err := conn.Read(make([]byte, 5)); n != 5 || err != nil || conn.ended.Load() || conn.isAlive() {
		t.Errorf("%d, %v, ended %t, alive %t", n, err, conn.ended.Load(), conn.isAlive())
	}
}

type lastBytes struct{ net.Conn }

func (lastBytes) Read(p []byte) (int, error) { return len(p), io.EOF }
