// Command proxy measures cmstap beside other reverse proxies: on one machine, in
// one run, one after the other in each round, before the same origin. What it
// says are ratios of that run. Requests that fail, fail the run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	rounds, seconds int
	proxies         []string
	legs            *regexp.Regexp
	out             string
	folder          string // where everything is written that a run needs
	workers         int
	cmstap, caddy   string // programs; built if empty
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/proxy: FAILED:", err)
		os.Exit(1)
	}
}

// run is one of the parts that run as processes of their own, or the whole.
func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "reverseproxy":
		return reverseProxy(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "codec":
		return codec(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "direct":
		return direct(ctx, args[1], args[2])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(o.folder, "cmstap-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b := &bench{options: o, folder: folder, machine: machine(), results: map[string]map[string][]result{}}
	if err := b.run(ctx); err != nil {
		return err
	}
	text := b.report()
	fmt.Print(text)
	if o.out == "" {
		return b.failures
	}
	return errors.Join(os.WriteFile(o.out, []byte(text), 0o644), b.failures)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench/proxy", flag.ExitOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "how often each measurement is made")
	flags.IntVar(&o.seconds, "seconds", 5, "how long each takes")
	proxies := flags.String("proxies", "cmstap,nginx,reverseproxy", "of "+strings.Join(names(), ", "))
	legs := flags.String("legs", ".", "a regular expression for the names of what is measured")
	flags.StringVar(&o.out, "out", "", "a file for the tables, besides the standard output")
	flags.StringVar(&o.folder, "folder", "", "a folder on the disk that writes are to go to; the system's for temporary files")
	flags.IntVar(&o.workers, "workers", 2, "processes or threads of each proxy")
	flags.StringVar(&o.cmstap, "cmstap", "", "the program; built if left out")
	flags.StringVar(&o.caddy, "caddy", "", "the program; built if left out and asked for")
	_ = flags.Parse(args) // it exits
	o.proxies = strings.Split(*proxies, ",")
	for _, name := range o.proxies {
		if !slices.Contains(names(), name) {
			return o, fmt.Errorf("there is no proxy %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	if o.rounds < 1 || o.seconds < 1 || !slices.Contains(o.proxies, "cmstap") {
		return o, errors.New("want a round, a second, and cmstap among the proxies")
	}
	var err error
	o.legs, err = regexp.Compile(*legs)
	return o, err
}

// bench is one run.
type bench struct {
	options
	folder   string
	machine  string
	origin   string                         // host:port
	results  map[string]map[string][]result // by leg and proxy, one a round
	failures error                          // of other proxies
}

func (b *bench) run(ctx context.Context) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	origin, err := b.startOrigin(ctx)
	if err != nil {
		return err
	}
	defer origin.stop()
	b.origin = origin.address
	for round := range b.rounds {
		if err := b.round(ctx, round, origin); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return nil
}

// prepare builds what is to be run, and looks for the rest.
func (b *bench) prepare(ctx context.Context) error {
	for _, tool := range []string{"wrk", "nginx"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install wrk nginx-light, and haproxy if it is asked for", tool)
		}
	}
	if err := os.WriteFile(filepath.Join(b.folder, "wrk.lua"), wrkScript, 0o600); err != nil {
		return err
	}
	if b.cmstap == "" {
		b.cmstap = filepath.Join(b.folder, "cmstap")
		if err := command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-o", b.cmstap, "cmstap"); err != nil {
			return err
		}
	}
	if b.caddy == "" && slices.Contains(b.proxies, "caddy") {
		b.caddy = filepath.Join(b.folder, "caddy")
		return command(ctx, []string{"CGO_ENABLED=0", "GOBIN=" + b.folder}, "go", "install", caddyModule)
	}
	return nil
}

func command(ctx context.Context, env []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c, err, out)
	}
	return nil
}

// leg is one thing that is measured.
type leg struct {
	name        string
	path        string
	write, anew bool // a PUT; a new connection for each request
	connections int
	paced       bool // at half the rate of nginx, not as fast as it goes
	origin      bool // the origin is measured by itself, too
}

const (
	entries    = "/spaces/s/environments/master/entries/"
	smallSize  = 2 << 10
	largeSize  = 100 << 10
	writeSize  = 4 << 10
	pacedAfter = "read 2 KB, 64"
	writes     = "write 4 KB, 64"
)

// The legs with few connections come first, and reads before writes: a peak of
// memory is the leg's own then.
var legs = []leg{
	{name: "read 2 KB, 1", path: "small", connections: 1},
	{name: pacedAfter, path: "small", connections: 64, origin: true},
	{name: "read 2 KB, 64, half of nginx", path: "small", connections: 64, paced: true},
	{name: "read 2 KB, 64, new connections", path: "small", connections: 64, anew: true},
	{name: "read 2 KB, 256", path: "small", connections: 256},
	{name: "read 100 KB, 1", path: "large", connections: 1},
	{name: "read 100 KB, 64", path: "large", connections: 64, origin: true},
	{name: "read 100 KB, 256", path: "large", connections: 256},
	{name: writes, write: true, connections: 64, origin: true},
	{name: "write 4 KB, 64, new connections", write: true, connections: 64, anew: true},
}

// round starts every proxy afresh, and measures leg by leg, one proxy after the
// other; who is first changes.
func (b *bench) round(ctx context.Context, round int, origin *process) error {
	running := map[string]*process{}
	defer func() {
		for _, p := range running {
			p.stop()
		}
	}()
	for _, name := range b.proxies {
		p, err := b.start(ctx, name)
		if err != nil {
			return err
		}
		running[name] = p
		if err := b.warm(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for i, l := range legs {
		if !b.legs.MatchString(l.name) {
			continue
		}
		for j := range b.proxies {
			name := b.proxies[(round+i+j)%len(b.proxies)]
			err := b.measure(ctx, l, name, running[name])
			if err != nil && strings.HasPrefix(name, "cmstap") || ctx.Err() != nil {
				return fmt.Errorf("%s: %s: %w", l.name, name, err)
			}
			if err != nil { // the others' errors are told in the end
				fmt.Fprintf(os.Stderr, "%s: %s: %v\n", l.name, name, err)
				b.note(l.name, name, result{})
				b.failures = errors.Join(b.failures, fmt.Errorf("round %d: %s: %s had errors; that round does not count for it", round+1, l.name, name))
			}
		}
		if l.origin {
			if err := b.measure(ctx, l, "origin", origin); err != nil {
				return fmt.Errorf("%s: the origin: %w", l.name, err)
			}
		}
	}
	if !b.legs.MatchString(writes) {
		return nil
	}
	return b.measureDirect(ctx)
}

// measure runs a leg against one proxy.
func (b *bench) measure(ctx context.Context, l leg, name string, p *process) error {
	var rate float64
	if l.paced {
		nginx := b.results[pacedAfter]["nginx"]
		if len(nginx) == 0 || name == "reverseproxy" || name == "caddy" {
			return nil // nobody knows what half of it is, or it is more than these can do
		}
		rate = nginx[len(nginx)-1].rate() / 2
	}
	written, err := p.written()
	if err != nil {
		return err
	}
	before, err := p.begin()
	if err != nil {
		return err
	}
	var r result
	if l.paced {
		r, err = paced(ctx, p.address, entries+l.path, l.connections, rate, time.Duration(b.seconds)*time.Second)
	} else {
		r, err = b.wrk(ctx, l, p.address, b.seconds)
	}
	if err != nil {
		return err
	}
	if r.cpu, r.memory, err = p.end(before); err != nil {
		return err
	}
	if l.write {
		if now, err := p.written(); err != nil || p.log != "" && now-written < r.requests {
			return errors.Join(err, fmt.Errorf("%d writes were answered, and %d captured", r.requests, now-written))
		}
	}
	b.note(l.name, name, r)
	return nil
}

// note keeps a result, and says it.
func (b *bench) note(leg, name string, r result) {
	if b.results[leg] == nil {
		b.results[leg] = map[string][]result{}
	}
	b.results[leg][name] = append(b.results[leg][name], r)
	fmt.Fprintf(os.Stderr, "%-32s %-12s %8.0f requests/s, p50 %v, p99 %v, %.2f CPU s per 100,000, %d MB\n",
		leg, name, r.rate(), r.p50, r.p99, r.cost(), r.memory>>20)
}

// measureDirect drives the calls of a tapped write without HTTP.
func (b *bench) measureDirect(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(b.folder, "direct-")
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, "direct", folder, strconv.Itoa(b.seconds))
	c.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(b.workers))
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("direct: %w", err)
	}
	r, err := parseDirect(string(out), c.ProcessState)
	if err == nil {
		b.note(writes, "direct", r)
	}
	return err
}
