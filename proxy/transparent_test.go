package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"cmstap/event"
	"cmstap/internal/setting"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func preserveHost(_ *house, c *Config) { c.Host = "preserve" }

func trustLoopback(_ *house, c *Config) {
	c.TrustedProxies = []setting.Range{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
}

func basePath(_ *house, c *Config) { c.Upstream = mustURL("http://" + c.Upstream.Host + "/base/") }

// The CMS gets the request line and the fields in their order, with their
// spelling, without what ends at this hop.
func TestRequestHead(t *testing.T) {
	t.Parallel()
	const ours = "X-Forwarded-For: 127.0.0.1|X-Forwarded-Host: a.b|X-Forwarded-Proto: http"
	check := func(sent, want string, change ...func(*house, *Config)) {
		t.Helper()
		c := newCMS(t, answering(okAnswer))
		h := newHouse(t, c.addr, change...)
		if got := h.talk(strings.ReplaceAll(sent, "|", "\r\n") + "\r\n\r\n"); statusOf(got) != 200 {
			t.Fatalf("answer %q", got)
		}
		got := next(t, c.got)
		want = strings.ReplaceAll(want, "CMS", c.addr)
		if diff := cmp.Diff(want, got.line+"|"+strings.Join(got.fields, "|")); diff != "" {
			t.Error(diff)
		}
	}
	line := func(target, want string, change ...func(*house, *Config)) {
		t.Helper()
		check("GET "+target+" HTTP/1.1|Host: a.b", "GET "+want+" HTTP/1.1|Host: CMS|"+ours, change...)
	}
	line("/", "/")
	line("//a//b", "//a//b")
	line("/a%2Fb/%zz/../c;d", "/a%2Fb/%zz/../c;d")
	line("/a?", "/a?")
	line("/a?b=%20&c#frag", "/a?b=%20&c")
	line("http://other.example/a?b", "/a?b")
	line("http://other.example?b", "/?b")
	line("http://u:p@other.example", "/")
	line("/a/b?c", "/base/a/b?c", basePath)
	line("/?", "/base/?", basePath)
	check("OPTIONS * HTTP/1.1|Host: a.b", "OPTIONS * HTTP/1.1|Host: CMS|"+ours+"|Content-Length: 0", basePath)
	check("BREW /pot HTTP/1.1|Host: a.b|Content-Length: 0", "BREW /pot HTTP/1.1|Host: CMS|Content-Length: 0|"+ours)
	check("GET / HTTP/1.2|Host: a.b", "GET / HTTP/1.1|Host: CMS|"+ours)
	check("GET / HTTP/1.0|Host: a.b|Connection: keep-alive", "GET / HTTP/1.1|Host: CMS|"+ours)

	fields := func(sent, want string, change ...func(*house, *Config)) {
		t.Helper()
		check("GET / HTTP/1.1|Host: a.b|"+sent, "GET / HTTP/1.1|Host: CMS|"+want, change...)
	}
	fields("user-agent: U|x-ver: 1|X-VER: 2|content-type: a/b|X-Ver: 3", "user-agent: U|x-ver: 1|X-VER: 2|content-type: a/b|X-Ver: 3|"+ours)
	fields("Connection: close|X-A: 1|X-A: 2|X-A: 3", "X-A: 1|X-A: 2|X-A: 3|"+ours)
	fields("cookie: a=b;c; d=\"x y\"|Cookie: e", "cookie: a=b;c; d=\"x y\"|Cookie: e|"+ours)
	fields("Accept-Encoding: gzip, br|Authorization: Bearer x|If-Match: \"1\"", "Accept-Encoding: gzip, br|Authorization: Bearer x|If-Match: \"1\"|"+ours)
	fields("X-Empty:|X-Utf: \xc3\xa4", "X-Empty: |X-Utf: \xc3\xa4|"+ours)
	fields("connection: keep-alive, X-Gone|KEEP-ALIVE: 5|x-gone: 1|te: trailers|Upgrade: h2c|Proxy-Connection: x|Proxy-Authorization: y|X-Stays: 1", "X-Stays: 1|"+ours)
	fields("Connection: Host, Content-Length|X-A: 1", "X-A: 1|"+ours)
	fields("X-Forwarded-For: 6.6.6.6|x-forwarded-proto: https|Forwarded: for=6.6.6.6|X-Real-IP: 6.6.6.6|X-Forwarded-Host: evil|X-Forwarded-Port: 1", ours)
	fields("X-Forwarded-For: 1.1.1.1|x-forwarded-for: 2.2.2.2|x-forwarded-proto: https|X-Forwarded-Host: c.d|Forwarded: for=x",
		"x-forwarded-proto: https|X-Forwarded-Host: c.d|Forwarded: for=x|X-Forwarded-For: 1.1.1.1, 2.2.2.2, 127.0.0.1", trustLoopback)
	fields("X-A: 1", "X-A: 1|"+ours, trustLoopback)
	check("GET / HTTP/1.1|host: a.b", "GET / HTTP/1.1|Host: a.b|"+ours, preserveHost)
}

// The client gets the status line and the fields as the CMS sent them, without
// what ends at this hop; nothing is invented. (The codec moves some fields to
// the front and spells their names in its own way.)
func TestAnswerHead(t *testing.T) {
	t.Parallel()
	check := func(method, answer, want string) {
		t.Helper()
		for _, path := range []string{"/w", "/"} { // a write's answer and a streamed one
			c := newCMS(t, answeringOnce(strings.ReplaceAll(answer, "|", "\r\n")))
			h := newHouse(t, c.addr)
			got := h.talk(strings.Replace(request(method), "/w", path, 1))
			if diff := cmp.Diff(want, strings.ReplaceAll(got, "\r\n", "|")); diff != "" {
				t.Errorf("%s %s: %s", method, path, diff)
			}
		}
	}
	const date = "Date: Tue, 01 Jan 2019 00:00:00 GMT"
	check("GET", "HTTP/1.1 200 OK|"+date+"|Content-Length: 2||ok", "HTTP/1.1 200 OK|Content-Length: 2|"+date+"||ok")
	check("GET", "HTTP/1.1 200 OK|d"+date[1:]+"|Content-Length: 2||ok", "HTTP/1.1 200 OK|Content-Length: 2|d"+date[1:]+"||ok")
	check("GET", "HTTP/1.1 200 OK|Content-Length: 2||ok", "HTTP/1.1 200 OK|Content-Length: 2||ok")
	check("GET", "HTTP/1.1 299 Odd Thing|Content-Length: 2||ok", "HTTP/1.1 299 Odd Thing|Content-Length: 2||ok")
	check("GET", "HTTP/1.1 422 Validation Failed|Content-Length: 2||ok", "HTTP/1.1 422 Validation Failed|Content-Length: 2||ok")
	check("GET", "HTTP/1.1 200 OK|Connection: keep-alive, X-Gone|Keep-Alive: timeout=5|x-gone: 1|x-dup: 1|X-Dup: 2|x-dup: 3|Content-Length: 2||ok",
		"HTTP/1.1 200 OK|Content-Length: 2|x-dup: 1|X-Dup: 2|x-dup: 3||ok")
	check("GET", "HTTP/1.1 200 OK|connection: close, x-gone|X-Gone: 1|Upgrade: h2c|Content-Length: 2||ok", "HTTP/1.1 200 OK|Content-Length: 2||ok")
	check("GET", "HTTP/1.1 200 OK|Content-Length: 2|Set-Cookie: a=b; Path=/|Set-Cookie: a=c|set-cookie: d||ok",
		"HTTP/1.1 200 OK|Content-Length: 2|Set-Cookie: a=b; Path=/|Set-Cookie: a=c|Set-Cookie: d||ok")
	check("GET", "HTTP/1.1 200 OK|Server: S|Content-Type: a/b|ETag: \"x\"|Content-Length: 2||ok",
		"HTTP/1.1 200 OK|Server: S|Content-Type: a/b|Content-Length: 2|ETag: \"x\"||ok")
	check("HEAD", "HTTP/1.1 200 OK|Content-Length: 12345||", "HTTP/1.1 200 OK|Content-Length: 12345||")
	check("HEAD", "HTTP/1.1 200 OK|Transfer-Encoding: chunked|X: y||", "HTTP/1.1 200 OK|X: y||")
	check("GET", "HTTP/1.1 204 No Content|"+date+"||", "HTTP/1.1 204 No Content|"+date+"||")
	check("GET", "HTTP/1.1 304 Not Modified|ETag: \"x\"|Content-Length: 12345||", "HTTP/1.1 304 Not Modified|Content-Length: 12345|ETag: \"x\"||")
	check("GET", "HTTP/1.1 304 Not Modified|ETag: \"x\"||", "HTTP/1.1 304 Not Modified|ETag: \"x\"||")
	check("GET", "HTTP/1.1 100 Continue||HTTP/1.1 103 Early Hints|Link: x|Connection: y|y: 1||HTTP/1.1 103 Early Hints|Link: z||HTTP/1.1 200 OK|Content-Length: 2||ok",
		"HTTP/1.1 103 Early Hints|Link: x||HTTP/1.1 103 Early Hints|Link: z||HTTP/1.1 200 OK|Content-Length: 2||ok")
	check("DELETE", "HTTP/1.0 200 OK|Content-Length: 2||ok", "HTTP/1.1 200 OK|Content-Length: 2||ok")
}

// Answers of unknown length keep their bytes; only their framing changes.
func TestAnswerOfUnknownLength(t *testing.T) {
	t.Parallel()
	check := func(answer string) {
		t.Helper()
		for _, path := range []string{"/w", "/"} {
			c := newCMS(t, answeringOnce(answer))
			h := newHouse(t, c.addr)
			raw := h.talk(strings.Replace(request("GET"), "/w", path, 1))
			got, err := readRequest(bufio.NewReader(strings.NewReader(raw)))
			if err != nil || got.line != "HTTP/1.1 200 OK" || got.body != "hello world" {
				t.Errorf("%s: %q, %v", path, raw, err)
			}
		}
	}
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
	check("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\nX-Sum: 1\r\n\r\n")
	check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
	check("HTTP/1.1 200 OK\r\n\r\nhello world")
	check("HTTP/1.0 200 OK\r\n\r\nhello world")
}

// Bodies of every size and framing arrive as they were sent, in both
// directions and with every method.
func TestBodies(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, smallBody, smallBody + 1, holdLimit, holdLimit + 1, 5 << 20} {
		body := strings.Repeat("0123456789abcdef\x00\r\n\xff", size/20+1)[:size]
		for framing, framed := range map[string]string{
			"fixed":   fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
			"chunked": "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body),
		} {
			t.Run(fmt.Sprintf("%s/%d", framing, size), func(t *testing.T) {
				t.Parallel()
				c := newCMS(t, answering("HTTP/1.1 200 OK\r\n"+framed))
				h := newHouse(t, c.addr)
				client := h.dial()
				for _, line := range []string{"PUT /", "DELETE /", "GET /", "GET /w", "POST /w"} {
					go func() { _, _ = io.WriteString(client, line+" HTTP/1.1\r\nHost: x\r\n"+framed) }()
					if got := client.answer(); got.body != body {
						t.Errorf("%s: %d bytes came back", line, len(got.body))
					}
					if got := next(t, c.got); got.body != body {
						t.Errorf("%s: %d bytes arrived", line, len(got.body))
					}
				}
				for range 4 {
					x := h.outcome()
					if whole := size <= copyLimit; whole != (string(x.Answer.Bytes) == body) || whole != (x.Answer.Err == "") {
						t.Errorf("copy of %d bytes, %q", len(x.Answer.Bytes), x.Answer.Err)
					}
				}
			})
		}
	}
}

func inChunks(body string) string {
	var b strings.Builder
	for size := 1; body != ""; size *= 3 {
		size = min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", size, body[:size])
		body = body[size:]
	}
	return b.String() + "0\r\n\r\n"
}

// The client gets a coded body as it is; the tap's copy is decoded.
func TestContentCoding(t *testing.T) {
	t.Parallel()
	const plain = `{"sys":{"id":"x"}}`
	check := func(coding string, body []byte, want string) {
		t.Helper()
		c := newCMS(t, answeringOnce(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", coding, len(body), body)))
		h := newHouse(t, c.addr)
		if got := h.talk(request("PUT")); !strings.HasSuffix(got, "\r\n\r\n"+string(body)) || !strings.Contains(got, "Content-Encoding: "+coding+"\r\n") {
			t.Errorf("%s: answer %.200q", coding, got)
		}
		x := h.outcome()
		if x.Outcome != event.Done || string(x.Answer.Bytes) != want || (x.Answer.Err == "") != (want != "") {
			t.Errorf("%s: %s, %q, %q", coding, x.Outcome, x.Answer.Bytes, x.Answer.Err)
		}
	}
	bomb := packed(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, strings.Repeat("x", 50<<20))
	gzipped := packed(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, plain)
	check("gzip", gzipped, plain)
	check("GZIP", gzipped, plain)
	check("deflate", packed(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, plain), plain)
	check("br", fasthttp.AppendBrotliBytes(nil, []byte(plain)), plain)
	check("zstd", fasthttp.AppendZstdBytes(nil, []byte(plain)), plain)
	check("identity", []byte(plain), plain)
	check("gzip", bomb, "")
	check("gzip", gzipped[:len(gzipped)-9], "")
	check("gzip", []byte(plain), "")
	check("br", []byte("\xff\xff\xff\xff"), "")
	check("zstd", []byte("(\xb5/\xfdgarbage"), "")
	check("compress", []byte(plain), "")
	check("gzip, br", gzipped, "")
}

func packed(coder func(io.Writer) io.WriteCloser, text string) []byte {
	var b bytes.Buffer
	w := coder(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

// A client that waits for 100 Continue gets it, however it spells the field;
// the CMS never sees the field.
func TestExpect(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"Expect: 100-continue", "expect: 100-Continue"} {
		for _, size := range []int{5, 100_000} {
			c := newCMS(t, answering(okAnswer))
			h := newHouse(t, c.addr)
			client := h.dial()
			client.send(fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n", field, size))
			if got, err := readHead(client.r); err != nil || got.line != "HTTP/1.1 100 Continue" {
				t.Fatalf("%s: %+v, %v", field, got, err)
			}
			client.send(strings.Repeat("x", size))
			if got := client.answer(); got.line != "HTTP/1.1 200 OK" {
				t.Errorf("%s: %+v", field, got)
			}
			if got := next(t, c.got); len(got.body) != size || got.field("Expect") != nil {
				t.Errorf("%s: the CMS got %q", field, got.fields)
			}
		}
	}
}

// The CMS may answer before it has the whole body; the client gets that.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	const tooLarge = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
	check := func(name, framing string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			t.Parallel()
			done := make(chan bool)
			c := newCMS(t, func(_ *cms, conn net.Conn, r *bufio.Reader) {
				_, _ = readHead(r)
				_, _ = io.WriteString(conn, tooLarge)
				<-done
			})
			t.Cleanup(func() { close(done) })
			h := newHouse(t, c.addr)
			client := h.dial()
			client.send("PUT / HTTP/1.1\r\nHost: x\r\n" + framing)
			go func() {
				for piece := strings.Repeat("x", 0x10000); ; {
					if _, err := io.WriteString(client, "10000\r\n"+piece+"\r\n"); err != nil {
						return
					}
				}
			}()
			if got := client.rest(); statusOf(got) != 413 || !strings.Contains(got, "Connection: close\r\n") || !strings.HasSuffix(got, "no") {
				t.Errorf("answer %q", got)
			}
			if x := h.outcome(); x.Outcome != event.Refused {
				t.Errorf("outcome %s", x.Outcome)
			}
		})
	}
	check("fixed", "Content-Length: 500000000\r\n\r\n")
	check("chunked", "Transfer-Encoding: chunked\r\n\r\n")
}
