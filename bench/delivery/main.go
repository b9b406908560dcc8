// Command delivery measures how cmstap delivers: from the write to the receiver,
// the drain of a backlog beside a bare client, ten webhooks of which one hangs, and
// what a large backlog costs. It prints a table; times are of this machine.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/outbox"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/delivery: FAILED:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	folder   string
	program  string
	seconds  time.Duration
	backlogs []int
	receiver *receiver
	origin   string
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench/delivery", flag.ExitOnError)
	seconds := flags.Int("seconds", 5, "how long each measurement takes")
	backlogs := flags.String("backlogs", "1000,100000", "how many deliveries wait; 1000000 takes some minutes")
	only := flags.String("only", "write,idle,isolation,backlog", "what is measured")
	_ = flags.Parse(args) // it exits
	b := &bench{seconds: time.Duration(*seconds) * time.Second}
	for text := range strings.SplitSeq(*backlogs, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		b.backlogs = append(b.backlogs, n)
	}
	var err error
	if b.folder, err = os.MkdirTemp("", "cmstap-delivery-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.folder) }()
	b.program = filepath.Join(b.folder, "cmstap")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.program, "cmstap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if b.receiver, err = newReceiver(); err != nil {
		return err
	}
	if b.origin, err = serve(http.HandlerFunc(answer)); err != nil {
		return err
	}
	fmt.Printf("%d cores, Go %s, %s\n\n| what | result |\n|---|---|\n", runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format("2006-01-02"))
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"write", b.throughput}, {"idle", b.latency}, {"isolation", b.isolation}, {"backlog", b.drain}} {
		if slices.Contains(strings.Split(*only, ","), part.name) {
			if err := part.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
	}
	return nil
}

func row(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// answer is that of a CMS: it gives back what is saved.
func answer(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes())
}

func serve(handler http.Handler) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(listener, handler) }() //nolint:gosec // loopback, and it ends with the process
	return listener.Addr().String(), nil
}

// receiver counts what arrives, and when which write did.
type receiver struct {
	address string
	count   atomic.Int64
	mu      sync.Mutex
	arrived map[string]time.Time // by path and the id in the body
}

func newReceiver() (*receiver, error) {
	r := &receiver{arrived: map[string]time.Time{}}
	var err error
	r.address, err = serve(r)
	return r, err
}

func (v *receiver) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/hang" {
		<-r.Context().Done()
		return
	}
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	v.count.Add(1)
	if r.URL.Path == "/count" {
		return
	}
	_, rest, _ := bytes.Cut(body.Bytes(), []byte(`"n":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.arrived[r.URL.Path+string(id)] = time.Now()
}

// await waits until so many calls came.
func (v *receiver) await(ctx context.Context, n int64, longest time.Duration) error {
	for end := time.Now().Add(longest); v.count.Load() < n; <-time.After(time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%d of %d calls came", v.count.Load(), n)
		}
	}
	return nil
}

// cmstap is a running program.
type cmstap struct {
	command *exec.Cmd
	proxy   string
}

func (b *bench) start(webhooks, folder string) (*cmstap, time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	c := &cmstap{proxy: listener.Addr().String()}
	if err := listener.Close(); err != nil {
		return nil, 0, err
	}
	config := fmt.Sprintf("proxy: { listen: %q, upstream: 'http://%s', dialect: rest }\nadmin: { listen: '' }\noutbox: { path: %q }\nlog: { level: error }\nwebhooks:\n%s",
		c.proxy, b.origin, folder, webhooks)
	file := filepath.Join(b.folder, "cmstap.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	c.command = exec.Command(b.program, "run", "-c", file)
	c.command.Stderr = os.Stderr
	if err := c.command.Start(); err != nil {
		return nil, 0, err
	}
	for time.Since(begun) < time.Minute {
		if conn, err := net.Dial("tcp", c.proxy); err == nil {
			conn.Close()
			return c, time.Since(begun), nil
		}
		<-time.After(5 * time.Millisecond)
	}
	c.stop()
	return nil, 0, errors.New("cmstap does not listen")
}

func (c *cmstap) stop() {
	_ = c.command.Process.Signal(syscall.SIGTERM)
	_ = c.command.Wait()
}

// memory is what the process has, and how much of it is no file, in MiB.
func (c *cmstap) memory() (peak, anonymous int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.command.Process.Pid))
	for name, to := range map[string]*int{"VmHWM:": &peak, "RssAnon:": &anonymous} {
		_, rest, _ := strings.Cut(string(status), name)
		_, _ = fmt.Sscan(rest, to)
		*to >>= 10
	}
	return peak, anonymous
}

// watchMemory looks ten times a second, until done, and then says how much memory
// that is no file there was at most, in MiB.
func (c *cmstap) watchMemory(done <-chan bool) <-chan int {
	most := make(chan int, 1)
	go func() {
		highest := 0
		for {
			_, anonymous := c.memory()
			highest = max(highest, anonymous)
			select {
			case <-done:
				most <- highest
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return most
}

// cpu is the CPU time that the process had.
func (c *cmstap) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.command.Process.Pid))
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // state is the third field
	var ticks int64
	if fields := bytes.Fields(rest); len(fields) > 12 {
		user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
		system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
		ticks = user + system
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ
}

// save writes something of 4 KB, and returns when that began.
func (c *cmstap) save(ctx context.Context, n int64) (time.Time, error) {
	body := fmt.Sprintf(`{"id":"%d","n":"%d","text":%q}`, n%500, n, strings.Repeat("word ", 800))
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s/posts/%d", c.proxy, n%500), strings.NewReader(body))
	if err != nil {
		return time.Time{}, err
	}
	begun := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return begun, err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return begun, fmt.Errorf("a write was answered with %d", response.StatusCode)
	}
	return begun, nil
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func hook(name, address, path string) string {
	return fmt.Sprintf("  - { name: %s, url: 'http://%s%s', topics: ['*.*'], concurrency: 16 }\n", name, address, path)
}

// throughput writes as fast as 64 clients can, and waits for the last delivery.
func (b *bench) throughput(ctx context.Context) error {
	c, _, err := b.start(hook("all", b.receiver.address, "/count"), filepath.Join(b.folder, "throughput"))
	if err != nil {
		return err
	}
	defer c.stop()
	before := b.receiver.count.Load()
	var n atomic.Int64
	errs := make(chan error, 64)
	begun := time.Now()
	for range cap(errs) {
		go func() {
			for time.Since(begun) < b.seconds {
				if _, err := c.save(ctx, n.Add(1)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	wrote := time.Since(begun)
	if err := b.receiver.await(ctx, before+n.Load(), time.Minute); err != nil {
		return err
	}
	peak, anonymous := c.memory()
	row("64 clients write 4 KB each", "%.0f writes/s; %.0f deliveries/s until the last one; %d MB, %d of it no files",
		float64(n.Load())/wrote.Seconds(), float64(n.Load())/time.Since(begun).Seconds(), peak, anonymous)
	return nil
}

// paced writes at a rate and returns how long the deliveries to each path took.
func (b *bench) paced(ctx context.Context, c *cmstap, rate int, paths []string) ([]time.Duration, error) {
	b.receiver.mu.Lock()
	clear(b.receiver.arrived)
	b.receiver.mu.Unlock()
	before := b.receiver.count.Load()
	total := rate * int(b.seconds/time.Second)
	begun := make([]time.Time, total)
	errs := make(chan error, total)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := range total {
		<-tick.C
		go func() {
			var err error
			begun[n], err = c.save(ctx, int64(n))
			errs <- err
		}()
	}
	var err error
	for range total {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return nil, err
	}
	if err := b.receiver.await(ctx, before+int64(total*len(paths)), 20*time.Second); err != nil {
		return nil, err
	}
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	var took []time.Duration
	for n := range total {
		for _, path := range paths {
			took = append(took, b.receiver.arrived[path+strconv.Itoa(n)].Sub(begun[n]))
		}
	}
	slices.Sort(took)
	return took, nil
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Round(10 * time.Microsecond)
}

// latency is how long it takes from the start of a write to the receiver.
func (b *bench) latency(ctx context.Context) error {
	c, _, err := b.start(hook("all", b.receiver.address, "/a"), filepath.Join(b.folder, "latency"))
	if err != nil {
		return err
	}
	defer c.stop()
	for _, rate := range []int{20, 500} {
		took, err := b.paced(ctx, c, rate, []string{"/a"})
		if err != nil {
			return err
		}
		row(fmt.Sprintf("write to receiver at %d writes/s", rate), "p50 %v, p99 %v", percentile(took, 50), percentile(took, 99))
	}
	return nil
}

// isolation has nine webhooks, alone and beside one that hangs, in turns.
func (b *bench) isolation(ctx context.Context) error {
	var nine string
	var paths []string
	for i := range 9 {
		paths = append(paths, fmt.Sprint("/", i))
		nine += hook(fmt.Sprint("w", i), b.receiver.address, paths[i])
	}
	ratios := []float64{}
	for round := range 3 {
		var p99 [2]time.Duration
		for i, webhooks := range []string{nine, nine + hook("hangs", b.receiver.address, "/hang")} {
			c, _, err := b.start(webhooks, filepath.Join(b.folder, fmt.Sprint("isolation", round, i)))
			if err != nil {
				return err
			}
			took, err := b.paced(ctx, c, 50, paths)
			c.stop()
			if err != nil {
				return err
			}
			p99[i] = percentile(took, 99)
			row(fmt.Sprintf("nine webhooks, %s", []string{"alone", "beside one that hangs"}[i]), "p50 %v, p99 %v", percentile(took, 50), p99[i])
		}
		ratios = append(ratios, float64(p99[1])/float64(p99[0]))
	}
	slices.Sort(ratios)
	row("p99 of the nine beside one that hangs, to theirs alone", "%.2f (%.2f to %.2f)", ratios[1], ratios[0], ratios[2])
	return nil
}

const payloadSize = 1000

// drain fills stores with waiting deliveries, and looks at what that costs.
func (b *bench) drain(ctx context.Context) error {
	bare, err := b.bare(ctx)
	if err != nil {
		return err
	}
	row("a bare client loop, 16 calls at a time", "%.0f calls/s", bare)
	for _, n := range b.backlogs {
		folder := filepath.Join(b.folder, fmt.Sprint("backlog", n))
		if err := fill(ctx, folder, n); err != nil {
			return err
		}
		claim, err := claimCost(ctx, folder)
		if err != nil {
			return err
		}
		size := sizeOf(folder)
		before := b.receiver.count.Load()
		c, boot, err := b.start(hook("hook", b.receiver.address, "/count"), folder)
		if err != nil {
			return err
		}
		begun := time.Now()
		<-time.After(300 * time.Millisecond)
		_, anonymous := c.memory()
		drained := make(chan bool)
		most := c.watchMemory(drained)
		err = b.receiver.await(ctx, before+int64(n), 30*time.Minute)
		took := time.Since(begun)
		close(drained)
		peak, _ := c.memory()
		cpu := c.cpu()
		c.stop()
		if err != nil {
			return err
		}
		rate := float64(n) / took.Seconds()
		row(fmt.Sprintf("%d waiting", n), "claim and settle %v; start in %v; drained at %.0f/s, %.2f of the bare loop, with %v of CPU time each; %d MB at the start that are no files, %d MB of them at most, %d MB with mapped files; %d MB on disk, then %d",
			claim.Round(time.Microsecond), boot.Round(time.Millisecond), rate, rate/bare, (cpu / time.Duration(n)).Round(time.Microsecond), anonymous, <-most, peak, size>>20, sizeOf(folder)>>20)
	}
	return nil
}

// bare is how fast a client alone calls the receiver.
func (b *bench) bare(ctx context.Context) (float64, error) {
	var n atomic.Int64
	body := strings.Repeat("x", payloadSize)
	begun := time.Now()
	errs := make(chan error, 16)
	for range cap(errs) {
		go func() {
			for time.Since(begun) < b.seconds {
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.receiver.address+"/count", strings.NewReader(body))
				if err != nil {
					errs <- err
					return
				}
				response, err := client.Do(request)
				if err != nil {
					errs <- err
					return
				}
				response.Body.Close()
				n.Add(1)
			}
			errs <- nil
		}()
	}
	var err error
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	return float64(n.Load()) / time.Since(begun).Seconds(), err
}

func open(folder string) (*outbox.Outbox, error) {
	config := outbox.DefaultConfig()
	config.Path = folder
	config.MaxSize = setting.Size(64 << 30)
	return outbox.Open(config, []string{"hook"}, slog.New(slog.DiscardHandler))
}

// fill stores n events that wait for a webhook, of 10,000 entities at most.
func fill(ctx context.Context, folder string, n int) error {
	o, err := open(folder)
	if err != nil {
		return err
	}
	payload := []byte(fmt.Sprintf(`{"text":%q}`, strings.Repeat("word ", payloadSize/5)))
	for at := 0; at < n; at += 100 {
		var captured []event.Captured
		for i := at; i < min(at+100, n); i++ {
			e := event.Event{Type: "posts", Action: "update", Time: time.Now().UTC(), Confirmed: true, Entity: event.Entity{Type: "posts", ID: strconv.Itoa(i % 10_000)}, Payload: payload}
			e.ID = event.NewID(strconv.Itoa(i), e.Topic(), e.Address(), 0)
			captured = append(captured, event.Captured{Event: e, Want: []event.Want{{Webhook: "hook"}}})
		}
		if err := o.Commit(ctx, strconv.Itoa(at), captured, nil, nil); err != nil {
			return errors.Join(err, o.Close())
		}
	}
	return o.Close()
}

// claimCost is how long it takes to claim a delivery and to settle it, one after
// the other, on average; they are due again later.
func claimCost(ctx context.Context, folder string) (time.Duration, error) {
	o, err := open(folder)
	if err != nil {
		return 0, err
	}
	const rounds = 300
	begun := time.Now()
	for range rounds {
		deliveries, err := o.Next(ctx, "hook", 1)
		if err != nil {
			return 0, errors.Join(err, o.Close())
		}
		for _, d := range deliveries {
			now := time.Now().UTC()
			s := event.Settlement{Attempt: event.Attempt{Number: d.Attempts + 1, Time: now}, Result: event.Retry}
			if err := o.Settle(ctx, d, s); err != nil {
				return 0, errors.Join(err, o.Close())
			}
		}
	}
	return time.Since(begun) / rounds, o.Close()
}

func sizeOf(folder string) (bytes int64) {
	_ = filepath.Walk(folder, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += stat.Blocks * 512 // memory tables are sparse
			}
		}
		return nil
	})
	return bytes
}
