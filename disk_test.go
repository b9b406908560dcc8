package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// smallDisk is a real file system of 128 MiB that a test fills.
type smallDisk struct {
	t      *testing.T
	folder string
}

func mountSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	need(t, "mount")
	d := &smallDisk{t, t.TempDir()}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", d.folder).CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("a small file system can not be mounted: %v, %s", err, out)
	default:
		t.Skipf("a small file system can not be mounted here, that needs root: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", d.folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return d
}

// fill writes a file until so many MiB are free; 0 is until nothing fits.
func (d *smallDisk) fill(leave int) {
	d.t.Helper()
	file, err := os.OpenFile(filepath.Join(d.folder, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	chunk := make([]byte, 1<<20)
	for d.free() > leave || leave == 0 {
		if _, err = file.Write(chunk); err != nil {
			break
		}
	}
	if err != nil && (leave > 0 || !errors.Is(err, syscall.ENOSPC)) {
		d.t.Fatal(err)
	}
}

// free is in MiB.
func (d *smallDisk) free() int {
	d.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.folder, &s); err != nil {
		d.t.Fatal(err)
	}
	return int(s.Bavail * uint64(s.Bsize) >> 20)
}

func (d *smallDisk) clear() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.folder, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

// diskTrial is a sample CMS and receiver, and a cmstap on a small disk.
type diskTrial struct {
	*process
	t        *testing.T
	disk     *smallDisk
	api      *demo.ContentAPI
	receiver *demo.Receiver
	program  string
	config   string
}

func newDiskTrial(t *testing.T, durability string, api demo.ContentAPIOptions, receiver demo.ReceiverOptions) *diskTrial {
	t.Helper()
	return newDiskTrialOn(t, mountSmallDisk(t), durability, api, receiver)
}

func newDiskTrialOn(t *testing.T, disk *smallDisk, durability string, api demo.ContentAPIOptions, receiver demo.ReceiverOptions) *diskTrial {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &diskTrial{t: t, program: program, disk: disk, api: demo.NewContentAPI(api), receiver: demo.NewReceiver(receiver)}
	d.config = fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, durability: %s }
outbox: { path: %q, min_free: 64MiB }
admin: { listen: "127.0.0.1:0" }
webhooks: [{ name: all, url: %q, topics: ["*.*"], retry: { delays: [10ms, 1s, 1s, 1s, 1s, 1s, 1s, 1s] } }]
`, serve(t, d.api).URL, durability, d.disk.folder+"/data", serve(t, d.receiver).URL)
	return d
}

func (d *diskTrial) start() {
	d.t.Helper()
	d.process = start(d.t, d.program, d.config)
}

// put writes a content type.
func (d *diskTrial) put(id string, want int) {
	d.t.Helper()
	status, body, err := ask("PUT", "http://"+d.proxy+"/spaces/s/content_types/"+id, `{"name":"c","fields":[]}`, nil)
	if status != want {
		d.t.Errorf("PUT %s: got %d %s %v, want %d", id, status, body, err, want)
	}
}

// passes checks that cmstap is alive and passes reads.
func (d *diskTrial) passes() {
	d.t.Helper()
	for _, url := range []string{"http://" + d.proxy + "/spaces/s/content_types", "http://" + d.admin + "/readyz"} {
		if status, body, err := ask("GET", url, "", nil); status != 200 {
			d.t.Errorf("GET %s: %d %s %v", url, status, body, err)
		}
	}
}

// calls counts the calls about an entity.
func (d *diskTrial) calls(id string) int {
	n := 0
	for _, call := range d.receiver.Calls() {
		n += strings.Count(string(call.Body), `"id":"`+id+`"`)
	}
	return n
}

// TestFullDisk: on a full disk writes are refused and reads pass; what was
// begun is ended when there is room again, without a restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	called, answer := make(chan bool), make(chan bool)
	d := newDiskTrial(t, "required", demo.ContentAPIOptions{}, demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		if strings.Contains(string(call.Body), `"id":"held"`) {
			called <- true
			<-answer
		}
		return demo.Reply{}
	}})
	d.start()
	d.put("before", 201)
	d.waitLine(t, "msg=delivered", "entity=before")
	d.disk.fill(48)
	d.put("low", 503)
	d.waitLine(t, "level=ERROR", "msg=disk_full", "min_free=64MiB", d.disk.folder+"/data")
	d.waitLine(t, "level=ERROR", "msg=refused", "/low", "outbox.path", "outbox.min_free")
	d.passes()
	d.disk.clear()
	d.waitLine(t, "level=WARN", "msg=disk_freed")

	d.put("held", 201)
	<-called
	d.disk.fill(0)
	d.put("full", 503)
	d.waitLine(t, "msg=disk_full")
	d.passes()
	answer <- true
	d.waitLine(t, "msg=store", "webhook=all", "outbox.min_free")
	d.passes()
	d.disk.clear()
	d.waitLine(t, "msg=delivered", "entity=held")
	d.waitLine(t, "msg=disk_freed")
	d.put("after", 201)
	d.waitLine(t, "msg=delivered", "entity=after")

	d.disk.fill(0)
	if lines, err := d.stop(); err != nil || !strings.Contains(strings.Join(lines, "\n"), "msg=stopped") {
		t.Errorf("%v:\n%s", err, strings.Join(lines, "\n"))
	}
	d.disk.clear()
	d.start()
	d.put("last", 201)
	d.waitLine(t, "msg=delivered", "entity=last")
	for _, id := range []string{"before", "held", "after", "last"} {
		if n := d.calls(id); n != 1 {
			t.Errorf("%d calls about %s", n, id)
		}
	}
	if writes, calls := len(d.api.Writes()), len(d.receiver.Calls()); writes != 4 || calls != 4 {
		t.Errorf("%d writes and %d calls, want 4", writes, calls)
	}
}

// TestFullDiskBestEffort: writes pass, and each that succeeds is a gap.
func TestFullDiskBestEffort(t *testing.T) {
	t.Parallel()
	d := newDiskTrial(t, "best_effort", demo.ContentAPIOptions{}, demo.ReceiverOptions{})
	d.start()
	d.put("before", 201)
	d.waitLine(t, "msg=delivered", "entity=before")
	d.disk.fill(0)
	d.put("gap", 201)
	d.waitLine(t, "msg=gap", "/gap", "without a record", "outbox.min_free")
	d.waitLine(t, "msg=gap", "/gap", "it is lost", "outbox.min_free")
	d.put("before", 409)
	d.waitLine(t, "msg=gap", "/before", "without a record")
	d.passes()
	d.disk.clear()
	d.waitLine(t, "msg=disk_freed")
	d.put("after", 201)
	d.waitLine(t, "msg=delivered", "entity=after")
	lines, err := d.stop()
	if err != nil || strings.Contains(strings.Join(lines, "\n"), "msg=gap") {
		t.Errorf("%v, or a gap too many:\n%s", err, strings.Join(lines, "\n"))
	}
	if d.calls("before") != 1 || d.calls("gap") != 0 || d.calls("after") != 1 {
		t.Errorf("calls: %v", d.receiver.Calls())
	}
}

// TestStartOnFullDisk: cmstap stands in front of the CMS all the same, and
// takes up what an earlier process left as soon as there is room.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	begun := make(chan bool, 1)
	d := newDiskTrial(t, "required", demo.ContentAPIOptions{After: func(w demo.Write) demo.Fault {
		if w.ID == "orphan" {
			begun <- true
			<-t.Context().Done()
		}
		return demo.NoFault
	}}, demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		if call.Number < 3 {
			return demo.Reply{Status: 500}
		}
		return demo.Reply{}
	}})
	d.start()
	d.put("waiting", 201)
	d.waitLine(t, "msg=retrying", "entity=waiting", "attempt=2")
	go func() {
		_, _, _ = ask("PUT", "http://"+d.proxy+"/spaces/s/content_types/orphan", `{"name":"c","fields":[]}`, nil)
	}()
	<-begun
	d.kill()

	d.disk.fill(0)
	for range 2 { // a stop is clean, too
		d.start()
		d.waitLine(t, "level=ERROR", "msg=disk_full")
		d.passes()
		d.put("full", 503)
		if lines, err := d.stop(); err != nil || strings.Contains(strings.Join(lines, "\n"), "disk_full") {
			t.Errorf("%v, or said twice:\n%s", err, strings.Join(lines, "\n"))
		}
	}
	d.start()
	d.waitLine(t, "msg=disk_full")
	d.disk.clear()
	d.waitLine(t, "msg=unconfirmed", "entity=orphan")
	d.waitLine(t, "msg=delivered", "entity=waiting")
	d.waitLine(t, "msg=delivered", "entity=orphan")
	d.put("after", 201)
	d.waitLine(t, "msg=delivered", "entity=after")
}

// TestDiskFillsUp: another process fills the disk as fast as it can while 16
// clients write, three times. cmstap lives, and no event is lost or invented.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range fillUp(t, program) {
		t.Error(violation)
	}
}

// TestDiskControls shows that the trial can fail: without the guard the process
// dies of SIGBUS.
func TestDiskControls(t *testing.T) {
	if number("CMSTAP_CONTROL_TRIALS", 0) == 0 {
		t.Skip("set CMSTAP_CONTROL_TRIALS=20 to run the controls; each builds a broken cmstap")
	}
	program := buildBroken(t, []string{
		"outbox/guard.go", "free, err := g.read(g.path)\n", "free, err := setting.Size(1<<40), error(nil)\n",
	})
	violations := fillUp(t, program)
	if len(violations) == 0 || !strings.Contains(violations[0], "SIGBUS") {
		t.Fatalf("want a death by SIGBUS, got %v", violations)
	}
	t.Logf("it fails as it should: %s", violations[0])
}

// fillUp is the trial; it returns every broken promise.
func fillUp(t *testing.T, program string) []string {
	t.Helper()
	disk := mountSmallDisk(t)
	c := newCrash(t, program, 1)
	c.storeOn(t, disk.folder+"/data")
	p, err := launch(program, c.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	c.address.Store(&p.proxy)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	for n := range 16 {
		writers.Go(func() { c.write(ctx, n) })
	}
	for range 3 {
		for _, wait := range []struct {
			do   func()
			msg  string
			many int
		}{{func() {}, "captured", 100}, {func() { disk.fill(0) }, "refused", 100}, {disk.clear, "disk_freed", 1}} {
			wait.do()
			for range wait.many {
				if death := p.waitOrDeath("msg=" + wait.msg); death != "" {
					return []string{death}
				}
			}
		}
	}
	cancel()
	writers.Wait()
	violations := c.verify()
	if lines, err := p.stop(); err != nil {
		violations = append(violations, fmt.Sprintf("%v: %v", err, lines))
	}
	t.Log(c.tally)
	return violations
}

// storeOn moves the trial's store to a folder of a small disk.
func (c *crash) storeOn(t *testing.T, folder string) {
	t.Helper()
	text, err := os.ReadFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "outbox:")
	_, after, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("no outbox in %s", text)
	}
	moved := fmt.Sprintf("%soutbox: { path: %q, min_free: 64MiB }\n%s", before, folder, after)
	if err := os.WriteFile(c.config, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitOrDeath waits for a line of the log; if the process dies it returns of
// what.
func (p *process) waitOrDeath(word string) (death string) {
	timeout := time.After(20 * time.Second)
	for {
		select {
		case <-timeout:
			return "no line with " + word
		case line, open := <-p.lines:
			switch {
			case !open:
				return "the log ended"
			case strings.Contains(line, word):
				return ""
			case strings.Contains(line, "SIGBUS"):
				return line
			}
		}
	}
}
