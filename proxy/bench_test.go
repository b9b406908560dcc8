package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
)

// benchAnswer is what a Node CMS sends.
func benchAnswer(size int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nETag: W/\"abc\"\r\n"+
		"X-Powered-By: Express\r\nVary: Origin\r\nDate: Tue, 01 Jan 2019 00:00:00 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n%s",
		size, strings.Repeat("x", size))
}

// reader returns what makes one read through the proxy, on a connection that is
// kept; neither its client nor its CMS allocates.
func reader(t testing.TB, size int) (exchange func()) {
	t.Helper()
	answer := []byte(benchAnswer(size))
	c := newCMS(t, func(_ *cms, conn net.Conn, _ *bufio.Reader) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			if bytes.HasSuffix(buffer[:n], []byte("\r\n\r\n")) {
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}
	})
	h := newHouse(t, c.addr)
	conn, err := net.Dial("tcp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	request := []byte("GET /spaces/s/entries/x?locale=en HTTP/1.1\r\nHost: cms.example\r\nAuthorization: Bearer abc\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n")
	buffer := make([]byte, 128<<10)
	want := 0
	exchange = func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < max(want, 1); {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			got += n
			if end := bytes.Index(buffer[:n], []byte("\r\n\r\n")); want == 0 && end >= 0 {
				want = end + 4 + size
			}
		}
	}
	exchange()
	return exchange
}

// BenchmarkPass is a read through the proxy.
func BenchmarkPass(b *testing.B) {
	for _, size := range []int{2 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			exchange := reader(b, size)
			b.ReportAllocs()
			for b.Loop() {
				exchange()
			}
		})
	}
}

// TestPassAllocatesNothing: but for what the codec and the runtime do now and
// then.
func TestPassAllocatesNothing(t *testing.T) {
	exchange := reader(t, 2<<10)
	if got := testing.AllocsPerRun(500, exchange); got > 2 && !race { // under the detector pools forget
		t.Errorf("a read makes %v allocations", got)
	}
}
