package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmstap/internal/demo"
)

// brokenDisk is a real ext4 file system that can be made read-only, as the kernel
// does when a disk has errors.
type brokenDisk struct {
	smallDisk
	image string
}

func mountBrokenDisk(t *testing.T) *brokenDisk {
	t.Helper()
	for _, tool := range []string{"mount", "mkfs.ext4", "e2fsck"} {
		need(t, tool)
	}
	d := &brokenDisk{smallDisk{t, t.TempDir()}, filepath.Join(t.TempDir(), "image")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 256<<20); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", d.image)
	d.mount("errors=remount-ro")
	t.Cleanup(func() { d.run("umount", d.folder) })
	return d
}

func (d *brokenDisk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %q: %v, %s", name, args, err, out)
	}
}

// mount skips the test where that is not allowed.
func (d *brokenDisk) mount(option string) {
	d.t.Helper()
	out, err := exec.Command("mount", "-o", "loop,"+option, d.image, d.folder).CombinedOutput()
	if err != nil {
		d.t.Skipf("an image can not be mounted here, that needs root and loop devices: %s", out)
	}
}

// fail makes the kernel believe that the disk has an error.
func (d *brokenDisk) fail() {
	d.t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		d.t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(mounts), " "+d.folder+" ")
	device := filepath.Base(before[strings.LastIndex(before, "\n")+1:])
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("test\n"), 0); err != nil {
		d.t.Skipf("no error can be made: %v", err)
	}
}

// repair is what an operator does.
func (d *brokenDisk) repair(option string) {
	d.t.Helper()
	d.run("umount", d.folder)
	_ = exec.Command("e2fsck", "-fy", d.image).Run() // it exits with 1 when it mended something
	d.mount(option)
}

// TestReadOnlyDisk: when the disk fails, writes are refused before the CMS sees
// them and reads pass; what was accepted is delivered after the repair.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := mountBrokenDisk(t)
	answers := make(chan int, 1)
	d := newDiskTrialOn(t, &disk.smallDisk, "required", demo.ContentAPIOptions{}, demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		if strings.Contains(string(call.Body), `"id":"waits"`) {
			select {
			case status := <-answers:
				return demo.Reply{Status: status}
			default:
				return demo.Reply{Status: 500}
			}
		}
		return demo.Reply{}
	}})
	d.start()
	d.put("before", 201)
	d.waitLine(t, "msg=delivered", "entity=before")
	d.put("waits", 201)
	d.waitLine(t, "msg=retrying", "entity=waits")
	disk.fail()
	d.put("refused", 503)
	d.put("refused", 503)
	d.passes()
	if _, err := d.stop(); err != nil {
		t.Error(err)
	}

	disk.repair("ro")
	var stderr strings.Builder
	file := filepath.Join(t.TempDir(), "cmstap.yaml")
	if err := os.WriteFile(file, []byte(d.config), 0o600); err != nil {
		t.Fatal(err)
	}
	code := run(context.Background(), nil, []string{"run", "-c", file}, io.Discard, &stderr)
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n") // a warning of the config, and the reason
	if last := lines[len(lines)-1]; code != 1 || len(lines) != 2 || !strings.Contains(last, "outbox.path") || !strings.Contains(last, "read-only file system") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}

	disk.repair("errors=remount-ro")
	answers <- 200
	d.start()
	d.waitLine(t, "msg=delivered", "entity=waits")
	d.put("after", 201)
	d.waitLine(t, "msg=delivered", "entity=after")
	if before, refused, after, writes := d.calls("before"), d.calls("refused"), d.calls("after"), len(d.api.Writes()); before < 1 || refused != 0 || after != 1 || writes != 3 {
		t.Errorf("%d calls about before, %d about refused, %d about after; %d writes", before, refused, after, writes)
	}
	if _, err := d.stop(); err != nil {
		t.Error(err)
	}
}
