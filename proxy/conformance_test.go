package proxy

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// target is another proxy to ask the same: nginx, which the test starts, or
// host:port of one that is in front of origin. Then nothing fails; what differs is
// logged.
var (
	target = flag.String("target", "", "nginx, or host:port of a proxy in front of -origin")
	origin = flag.String("origin", "127.0.0.1:0", "host:port of the CMS that the test plays")
)

// conformance is what a proxy does with a request: how many requests the CMS got,
// what the client was told, and what must be in what either of them got.
type conformance struct {
	name, sent string
	answer     string // of the CMS; okAnswer if it is empty
	reached    int64
	status     int // 0: the connection is closed without an answer
	cms        string
	client     string
}

const post = "POST /s HTTP/1.1\r\nHost: x\r\n"

var conformances = []conformance{
	{name: "GET", sent: "GET /a?b=%20 HTTP/1.1\r\nHost: x\r\n\r\n", reached: 1, status: 200, cms: "GET /a?b=%20 HTTP/1.1"},
	{name: "target kept", sent: "GET //a/%2e%2e/b%2Fc/../d;e? HTTP/1.1\r\nHost: x\r\n\r\n", reached: 1, status: 200, cms: "GET //a/%2e%2e/b%2Fc/../d;e? HTTP/1.1"},
	{name: "absolute form", sent: "GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", reached: 1, status: 200, cms: "GET /a?b HTTP/1.1"},
	{name: "fragment", sent: "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", reached: 1, status: 200, cms: "GET /a HTTP/1.1"},
	{name: "odd method", sent: "PURGE /a HTTP/1.1\r\nHost: x\r\n\r\n", reached: 1, status: 200, cms: "PURGE /a HTTP/1.1"},
	{name: "CONNECT", sent: "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", status: 400},
	{name: "names keep their case", sent: "GET / HTTP/1.1\r\nHost: x\r\nx-LoWeR: 1\r\n\r\n", reached: 1, status: 200, cms: "x-LoWeR: 1"},
	{name: "fields that come twice", sent: "GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\n\r\n", reached: 1, status: 200, cms: "X-A: 1\r\nX-A: 2"},
	{name: "underscore in a name", sent: "GET / HTTP/1.1\r\nHost: x\r\napi_key: 1\r\n\r\n", reached: 1, status: 200, cms: "api_key: 1"},
	{name: "body on GET", sent: "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", reached: 1, status: 200, cms: "abc"},
	{name: "body on DELETE", sent: "DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", reached: 1, status: 200, cms: "abc"},
	{name: "compressed body", sent: "PUT / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00", reached: 1, status: 200, cms: "\x1f\x8b\x00"},
	{name: "header of 40 KiB", sent: "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("c", 40<<10) + "\r\n\r\n", reached: 1, status: 200, cms: strings.Repeat("c", 40<<10)},
	{name: "header of 100 KiB", sent: "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("c", 100<<10) + "\r\n\r\n", status: 431},
	{name: "HTTP/1.2", sent: "GET / HTTP/1.2\r\nHost: x\r\n\r\n", reached: 1, status: 200},
	{name: "no Host", sent: "GET / HTTP/1.1\r\n\r\n", status: 400},
	{name: "two Hosts", sent: "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", status: 400},
	{name: "length twice", sent: post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", status: 400},
	{name: "two lengths", sent: post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", status: 400},
	{name: "list of lengths", sent: post + "Content-Length: 3, 3\r\n\r\nabc", status: 400},
	{name: "length with a sign", sent: post + "Content-Length: +3\r\n\r\nabc", status: 400},
	{name: "negative length", sent: post + "Content-Length: -1\r\n\r\nabc", status: 400},
	{name: "space before the colon", sent: post + "Content-Length : 3\r\n\r\nabc", status: 400},
	{name: "space in a name", sent: post + "X A: 3\r\n\r\n", status: 400},
	{name: "unknown coding", sent: post + "Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "two codings", sent: post + "Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "coding with a control character", sent: post + "Transfer-Encoding: \x0bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "two fields of coding", sent: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "coding on HTTP/1.0", sent: "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "NUL in a value", sent: post + "X: a\x00b\r\n\r\n", status: 400},
	{name: "bare CR in a value", sent: post + "X: a\rb\r\n\r\n", status: 400},
	{name: "folded field", sent: post + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", status: 400},
	{name: "h2c preface", sent: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 400},
	{name: "length and coding", sent: post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", reached: 1, status: 200, cms: "3\r\nabc\r\n0"},
	{name: "chunk extension", sent: post + "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", reached: 1, status: 200, cms: "3\r\nabc\r\n0"},
	{name: "chunk size 0x3", sent: post + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", status: 400},
	{name: "chunk with bare LF", sent: post + "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", status: 400},
	{name: "chunk of endless size", sent: post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc", status: 400},
	{name: "length as a trailer", sent: post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", status: 400},
	{name: "body cut at a chunk", sent: post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", status: 400},
	{name: "body cut short", sent: post + "Content-Length: 10\r\n\r\nabc", status: 400},
	{name: "pipelined", sent: strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 3), reached: 3, status: 200},

	{name: "Set-Cookie twice", sent: request("GET"), answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", reached: 1, status: 200, client: "Set-Cookie: a\r\nSet-Cookie: b"},
	{name: "reason phrase", sent: request("GET"), answer: "HTTP/1.1 422 Validation Failed\r\nContent-Length: 0\r\n\r\n", reached: 1, status: 422, client: "422 Validation Failed\r\n"},
	{name: "odd status", sent: request("GET"), answer: "HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n", reached: 1, status: 299, client: "299 Odd\r\n"},
	{name: "Date kept", sent: request("GET"), answer: "HTTP/1.1 200 OK\r\nDate: Tue, 01 Jan 2019 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n", reached: 1, status: 200, client: "Date: Tue, 01 Jan 2019 00:00:00 GMT"},
	{name: "length of a HEAD", sent: request("HEAD"), answer: "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", reached: 1, status: 200, client: "Content-Length: 12345"},
	{name: "304", sent: request("GET"), answer: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", reached: 1, status: 304, client: "ETag: \"x\""},
	{name: "204", sent: request("GET"), answer: "HTTP/1.1 204 No Content\r\n\r\n", reached: 1, status: 204},
	{name: "two lengths in the answer", sent: request("GET"), answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", reached: 1, status: 502},
	{name: "garbage", sent: request("GET"), answer: "garbage\r\n\r\n", reached: 1, status: 502},
	{name: "no answer to a PUT", sent: request("PUT"), answer: "none", reached: 1, status: 502},
	{name: "no answer to a GET", sent: request("GET"), answer: "none", reached: 1, status: 502},
	{name: "answer cut short", sent: request("GET"), answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", reached: 1, status: 502},
	{name: "answer cut at a chunk", sent: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", reached: 1, status: 200, client: "3\r\nabc\r\n"},
	{name: "unasked 101", sent: request("GET"), answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", reached: 1, status: 502},
	{name: "trailers", sent: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", reached: 1, status: 200, client: "X-Sum: 1\r\n\r\n"},
}

// TestConformance asks cmstap, or with -target another proxy, one thing after the
// other.
func TestConformance(t *testing.T) {
	var answer atomic.Pointer[string]
	var requests atomic.Int64
	listener, err := net.Listen("tcp", *origin)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go playOrigin(conn, &answer, &requests, got)
		}
	}()
	address := *target
	switch address {
	case "":
		address = newHouse(t, listener.Addr().String(), func(_ *house, c *Config) { c.MaxHeader = 64 << 10 }).Addr()
	case "nginx":
		address = startNginx(t, listener.Addr().String())
	}
	for _, row := range conformances {
		if row.answer == "" {
			row.answer = okAnswer
		}
		answer.Store(&row.answer)
		before := requests.Load()
		raw := exchangeRaw(t, address, row.sent)
		cms := ""
		for len(got) > 0 {
			cms += <-got
		}
		var wrong []string
		if n := requests.Load() - before; n != row.reached {
			wrong = append(wrong, fmt.Sprintf("%d requests reached the CMS, not %d", n, row.reached))
		}
		if status := statusOf(raw); status != row.status {
			wrong = append(wrong, fmt.Sprintf("status %d, not %d", status, row.status))
		}
		if !strings.Contains(cms, row.cms) {
			wrong = append(wrong, fmt.Sprintf("the CMS got %.300q", cms))
		}
		if !strings.Contains(raw, row.client) || strings.Contains(row.name, "cut at a chunk") && strings.HasSuffix(raw, "0\r\n\r\n") {
			wrong = append(wrong, fmt.Sprintf("the client got %.300q", raw))
		}
		switch {
		case len(wrong) > 0 && *target != "":
			t.Logf("%s: %s", row.name, strings.Join(wrong, "; "))
		case len(wrong) > 0:
			t.Errorf("%s: %s", row.name, strings.Join(wrong, "; "))
		}
	}
}

// playOrigin answers requests, and says what it got.
func playOrigin(conn net.Conn, answer *atomic.Pointer[string], requests *atomic.Int64, got chan<- string) {
	defer conn.Close()
	var seen strings.Builder
	r := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		if _, err := readRequest(r); err != nil {
			return
		}
		requests.Add(1)
		got <- seen.String()
		seen.Reset()
		text := *answer.Load()
		if text == "none" {
			return
		}
		if _, err := io.WriteString(conn, text); err != nil || text != okAnswer {
			return
		}
	}
}

// exchangeRaw sends bytes, ends the stream once an answer began or a while has
// passed, and returns all that comes back.
func exchangeRaw(t *testing.T, address, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, raw) }()
	var all strings.Builder
	buffer := make([]byte, 64<<10)
	for wait := 2 * time.Second; ; wait = 100 * time.Millisecond {
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		n, err := conn.Read(buffer)
		all.Write(buffer[:n])
		if n == 0 && isTimeout(err) && wait > time.Second { // it waits for the rest of the body
			_ = conn.(*net.TCPConn).CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			rest, _ := io.ReadAll(conn)
			return all.String() + string(rest)
		}
		if err != nil {
			return all.String()
		}
	}
}

// startNginx runs nginx with what it does by itself, on a free port.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	folder := t.TempDir()
	config := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr crit; events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
large_client_header_buffers 4 64k; underscores_in_headers on;
upstream cms { server %[2]s; keepalive 16; }
server { listen %[3]s; location / { proxy_pass http://cms; proxy_http_version 1.1; proxy_set_header Connection ""; } } }`, folder, upstream, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command("nginx", "-c", config, "-p", folder)
	nginx.Stderr = os.Stderr
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nginx.Process.Signal(os.Interrupt); _ = nginx.Wait() })
	for end := time.Now().Add(5 * time.Second); ; <-time.After(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
