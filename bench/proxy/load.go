package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what was measured of a proxy in one leg of a round.
type result struct {
	requests int
	took     time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // of the proxy, all its processes
	memory   int64         // its peak, in bytes
}

// rate is requests per second.
func (r result) rate() float64 { return float64(r.requests) / r.took.Seconds() }

// cost is CPU seconds per 100,000 requests.
func (r result) cost() float64 { return r.cpu.Seconds() / float64(r.requests) * 100_000 }

//go:embed wrk.lua
var wrkScript []byte

// fields are the headers of every request.
var fields = []string{"Authorization: Bearer CFPAT-0123456789abcdefghijklmnopqrstuvwxyzABCD", "Accept: */*", "User-Agent: bench"}

// wrk loads an address with a leg as fast as it goes.
func (b *bench) wrk(ctx context.Context, l leg, address string, seconds int) (result, error) {
	args := []string{
		"-t", strconv.Itoa(min(2, l.connections)), "-c", strconv.Itoa(l.connections), "-d", fmt.Sprint(seconds, "s"),
		"-s", filepath.Join(b.folder, "wrk.lua"),
	}
	for _, field := range fields {
		args = append(args, "-H", field)
	}
	if l.anew {
		args = append(args, "-H", "Connection: close")
	}
	args = append(args, "http://"+address+entries+l.path)
	if l.write {
		args = append(args, "--", filepath.Join(b.folder, "write.json"), fmt.Sprintf("%x", rand.Uint64()))
	}
	out, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	r, err := parseWrk(string(out))
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, out)
	}
	return r, nil
}

// parseWrk reads the last line of wrk.lua.
func parseWrk(out string) (result, error) {
	var r result
	var took, p50, p99 int64
	var connect, read, write, status, timeout int
	_, line, _ := strings.Cut(out, "\nresult ")
	_, err := fmt.Sscanf(line, "%d %d %d %d errors %d %d %d %d %d", &r.requests, &took, &p50, &p99, &connect, &read, &write, &status, &timeout)
	switch {
	case err != nil:
		return r, fmt.Errorf("wrk said no result: %w", err)
	case connect+read+write+status+timeout > 0:
		return r, fmt.Errorf("errors: %d connect, %d read, %d write, %d by status, %d timeouts", connect, read, write, status, timeout)
	case r.requests == 0:
		return r, errors.New("no request was answered")
	}
	r.took, r.p50, r.p99 = time.Duration(took)*time.Microsecond, time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond
	return r, nil
}

// paced sends reads at a constant rate over so many connections, or as fast as
// they are answered. The time of a request that had to wait for the one before
// it counts from when it was due.
func paced(ctx context.Context, address, path string, connections int, rate float64, span time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, span+10*time.Second)
	defer cancel()
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n")
	every := time.Duration(float64(connections) / rate * float64(time.Second))
	begun := time.Now()
	spans, errs := make([][]time.Duration, connections), make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			first := begun.Add(every * time.Duration(i) / time.Duration(connections))
			spans[i], errs[i] = pacedConnection(ctx, address, request, first, begun.Add(span), every)
		})
	}
	all.Wait()
	r := result{took: time.Since(begun)}
	times := slices.Concat(spans...)
	if err := errors.Join(errs...); err != nil || len(times) == 0 {
		return r, fmt.Errorf("paced: %d requests: %w", len(times), err)
	}
	slices.Sort(times)
	r.requests, r.p50, r.p99 = len(times), times[len(times)/2], times[len(times)*99/100]
	return r, nil
}

func pacedConnection(ctx context.Context, address string, request []byte, due, end time.Time, every time.Duration) ([]time.Duration, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reader := bufio.NewReaderSize(conn, 16<<10)
	var spans []time.Duration
	for ; due.Before(end) && time.Now().Before(end); due = due.Add(every) {
		from := due
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			from = time.Now() // that a timer is late is not the proxy's doing
		}
		if _, err := conn.Write(request); err != nil {
			return spans, err
		}
		if err := readAnswer(reader); err != nil {
			return spans, err
		}
		spans = append(spans, time.Since(from))
	}
	return spans, nil
}

// readAnswer wants a whole answer with the status 200 and a length. It costs
// little: what it takes, the proxy does not get.
func readAnswer(reader *bufio.Reader) error {
	line, err := reader.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return errors.Join(err, fmt.Errorf("the answer begins with %q", line))
	}
	const name = "Content-Length: "
	size := -1
	for len(line) > 2 {
		if line, err = reader.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	if size < 0 {
		return errors.New("the answer has no length")
	}
	_, err = reader.Discard(size)
	return err
}
