package proxy

import (
	"bytes"
	"fmt"
	"io"
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

// BenchmarkPass is a read on a connection that is kept; it counts the proxy's
// allocations, because neither client nor CMS make any.
func BenchmarkPass(b *testing.B) {
	for _, size := range []int{2 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			answer := []byte(benchAnswer(size))
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { listener.Close() })
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
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
			}()
			h := newHouse(b, listener.Addr().String())
			conn, err := net.Dial("tcp", h.Addr())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			request := []byte("GET /spaces/s/entries/x?locale=en HTTP/1.1\r\nHost: cms.example\r\nAuthorization: Bearer abc\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n")
			buffer := make([]byte, 128<<10)
			want := 0
			exchange := func() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				for got := 0; got < max(want, 1); {
					n, err := io.ReadAtLeast(conn, buffer, 1)
					if err != nil {
						b.Fatal(err)
					}
					got += n
					if want == 0 && bytes.Contains(buffer[:n], []byte("\r\n\r\n")) {
						want = bytes.Index(buffer[:n], []byte("\r\n\r\n")) + 4 + size
					}
				}
			}
			exchange()
			b.ReportAllocs()
			for b.Loop() {
				exchange()
			}
		})
	}
}
