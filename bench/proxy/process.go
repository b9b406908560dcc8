package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running program and the processes that it started.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
	output  bytes.Buffer
	address string // where it listens
	log     string // the file that says what was captured; "" but for cmstap
}

// launch starts a program that listens on an address, and waits until it does.
func launch(ctx context.Context, address string, env []string, name string, args ...string) (*process, error) {
	p := &process{command: exec.Command(name, args...), ended: make(chan struct{}), address: address}
	p.command.Env = append(os.Environ(), env...)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.command.Wait()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return p, nil
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%s ended:\n%s", name, &p.output)
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen:\n%s", name, &p.output)
}

func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// written counts the writes that were captured so far.
func (p *process) written() (int, error) {
	if p.log == "" {
		return 0, nil
	}
	text, err := os.ReadFile(p.log)
	return bytes.Count(text, []byte(" msg=captured ")), err
}

// begin starts a measurement: peaks of memory are forgotten. It returns the CPU
// time so far.
func (p *process) begin() (time.Duration, error) {
	for _, folder := range p.tree() {
		if err := os.WriteFile(filepath.Join(folder, "clear_refs"), []byte("5"), 0); err != nil {
			return 0, err
		}
	}
	cpu, _, err := p.usage()
	return cpu, err
}

// end returns the CPU time since begin, and the peak of memory.
func (p *process) end(before time.Duration) (cpu time.Duration, memory int64, err error) {
	cpu, memory, err = p.usage()
	return cpu - before, memory, err
}

// usage sums up the tree: CPU time, and peaks of resident memory. What processes
// share counts for each.
func (p *process) usage() (cpu time.Duration, memory int64, err error) {
	for _, folder := range p.tree() {
		stat, err := os.ReadFile(filepath.Join(folder, "stat"))
		if err != nil {
			return 0, 0, err
		}
		_, rest, _ := bytes.Cut(stat, []byte(") ")) // state is the third field
		for _, field := range bytes.Fields(rest)[11:13] {
			ticks, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, 0, err
			}
			cpu += time.Duration(ticks) * (time.Second / 100) // USER_HZ
		}
		status, err := os.ReadFile(filepath.Join(folder, "status"))
		if err != nil {
			return 0, 0, err
		}
		memory += peak(string(status))
	}
	return cpu, memory, nil
}

// peak reads VmHWM.
func peak(status string) int64 {
	_, rest, _ := strings.Cut(status, "VmHWM:")
	var kilobytes int64
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes << 10
}

// tree lists the folders in /proc of the process and its children.
func (p *process) tree() []string {
	id := strconv.Itoa(p.command.Process.Pid)
	folders := []string{"/proc/" + id}
	children, _ := os.ReadFile(filepath.Join("/proc", id, "task", id, "children")) // none if it ended, which usage says
	for _, child := range strings.Fields(string(children)) {
		folders = append(folders, "/proc/"+child)
	}
	return folders
}
