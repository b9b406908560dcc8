package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the tables of a run, in Markdown.
func (b *bench) report() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n%d rounds of %d s, medians; ratios are of one round each: median (lowest to highest).\n\n", b.machine, b.rounds, b.seconds)
	s.WriteString("| | wanted | measured | |\n|---|---|---|---|\n")
	for _, g := range b.goals() {
		fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", g.what, g.wanted, g.measured, map[bool]string{true: "met", false: "**missed**"}[g.met])
	}
	s.WriteString("\n| cmstap to | in | requests/s | requests per CPU second | p50 | p99 | peak RSS |\n|---|---|---|---|---|---|---|\n")
	for _, l := range b.measured() {
		for _, name := range b.others(l) {
			fmt.Fprintf(&s, "| %s | %s |", name, l)
			for _, of := range []func(result) float64{result.rate, thrift, p50, p99, memory} {
				fmt.Fprintf(&s, " %s |", b.ratio(l, name, of))
			}
			s.WriteString("\n")
		}
	}
	s.WriteString("\n| | | requests/s | p50 ms | p99 ms | CPU s per 100,000 | peak RSS MB |\n|---|---|---|---|---|---|---|\n")
	for _, l := range b.measured() {
		for _, name := range append([]string{"cmstap"}, b.others(l)...) {
			r := b.results[l][name]
			fmt.Fprintf(&s, "| %s | %s | %.0f | %.2f | %.2f | %.2f | %.0f |\n", l, name, median(r, result.rate), median(r, p50)*1000,
				median(r, p99)*1000, median(r, result.cost), median(r, memory)/(1<<20))
		}
	}
	return s.String()
}

func thrift(r result) float64 { return 1 / r.cost() }
func p50(r result) float64    { return r.p50.Seconds() }
func p99(r result) float64    { return r.p99.Seconds() }
func memory(r result) float64 { return float64(r.memory) }

// measured are the names of the legs that were, in order.
func (b *bench) measured() (done []string) {
	for _, l := range legs {
		if b.results[l.name]["cmstap"] != nil {
			done = append(done, l.name)
		}
	}
	return done
}

// others are what cmstap is compared with in a leg.
func (b *bench) others(leg string) (others []string) {
	for _, name := range append(names(), "origin", "direct") {
		if name != "cmstap" && b.results[leg][name] != nil {
			others = append(others, name)
		}
	}
	return others
}

// spread is the median of a few numbers, and their ends.
type spread struct{ median, low, high float64 }

// String is "0.98 (0.95 to 1.01)".
func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.low, s.high) }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(values)
	middle := (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	return spread{middle, values[0], values[len(values)-1]}
}

func median(results []result, of func(result) float64) float64 {
	var values []float64
	for _, r := range results {
		if r.requests > 0 { // else it had errors
			values = append(values, of(r))
		}
	}
	return spreadOf(values).median
}

// ratio compares cmstap with another, round by round.
func (b *bench) ratio(leg, other string, of func(result) float64) spread {
	var values []float64
	for i, r := range b.results[leg]["cmstap"] {
		if with := b.results[leg][other][i]; with.requests > 0 {
			values = append(values, of(r)/of(with))
		}
	}
	return spreadOf(values)
}

// goal is what the program is meant to reach, as a ratio or in memory.
type goal struct {
	what, wanted, measured string
	met                    bool
}

func (b *bench) goals() (goals []goal) {
	atLeast := func(leg, other, unit string, wanted float64, of func(result) float64) {
		if b.results[leg]["cmstap"] == nil || b.results[leg][other] == nil {
			return
		}
		r := b.ratio(leg, other, of)
		goals = append(goals, goal{leg + ": " + unit + " to " + other, fmt.Sprintf("at least %.2f", wanted), r.String(), r.median >= wanted})
	}
	for _, l := range legs {
		if l.write || l.paced || l.anew {
			continue
		}
		for _, name := range b.proxies {
			wanted := map[string]float64{"nginx": 0.75, "reverseproxy": 4, "caddy": 4}[name]
			if wanted > 0 {
				atLeast(l.name, name, "requests/s", wanted, result.rate)
				atLeast(l.name, name, "requests per CPU second", wanted, thrift)
			}
		}
	}
	for _, l := range legs {
		if l.paced && b.results[l.name]["nginx"] != nil {
			r := b.ratio(l.name, "nginx", p99)
			measured := r.String()
			if kept := median(b.results[l.name]["nginx"], result.rate) / median(b.results[pacedAfter]["nginx"], result.rate); kept < 0.45 {
				measured += fmt.Sprintf(", but not even nginx kept the rate: %.2f of its own", kept)
			}
			goals = append(goals, goal{l.name + ": p99 to nginx", "at most 1.50", measured, r.median <= 1.5})
		}
	}
	atLeast(writes, "direct", "requests/s", 0.7, result.rate)
	for _, name := range []string{"cmstap", "cmstap-64k"} {
		if top := b.topMemory(name); top > 0 {
			goals = append(goals, goal{name + ": peak RSS of reads at 256 connections", "under 128 MB", fmt.Sprintf("%.0f MB", top/1e6), top < 128e6})
		}
	}
	return goals
}

// topMemory is the highest peak with 256 connections, 0 if there is none.
func (b *bench) topMemory(name string) (top float64) {
	for _, l := range legs {
		if l.connections != 256 {
			continue
		}
		for _, r := range b.results[l.name][name] {
			top = max(top, memory(r))
		}
	}
	return top
}

// machine says where and when, and what, before a run.
func machine() string {
	words := []string{fmt.Sprintf("%d cores", runtime.NumCPU())}
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	if _, rest, found := strings.Cut(string(cpus), "model name"); found {
		name, _, _ := strings.Cut(rest, "\n")
		words = append(words, strings.Trim(name, "\t :"))
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		words = append(words, "Linux "+strings.TrimSpace(string(kernel)))
	}
	words = append(words, runtime.Version())
	for _, version := range [][]string{{"nginx", "-v"}, {"wrk", "-v"}, {"git", "rev-parse", "--short", "HEAD"}} {
		out, _ := exec.Command(version[0], version[1:]...).CombinedOutput() // wrk exits with 1
		line, _, _ := strings.Cut(string(out), "\n")
		line, _, _ = strings.Cut(strings.TrimPrefix(line, "nginx version: "), " [")
		if !strings.HasPrefix(line, "fatal") { // no repository
			words = append(words, strings.TrimSpace(line))
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		words = append(words, "load before "+strings.Fields(string(load))[0])
	}
	return strings.Join(append(words, time.Now().UTC().Format(time.DateOnly)), ", ")
}
