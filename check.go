package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"cmstap/internal/setting"
	"cmstap/outbox"
)

// check says what run would make of the config: the error is what it would
// refuse, the warnings go to stderr. It writes nothing, and answers nobody.
func (c *checkCommand) check(stdout, stderr io.Writer) error {
	if c.Dialect != "" {
		return checkDialect(c.Dialect, stdout)
	}
	config, err := loadConfig(c.Config, &c.runCommand, (*Config).tryMachine)
	if config != nil {
		for _, warning := range config.warnings {
			fmt.Fprintf(stderr, "warning: %v\n", warning)
		}
	}
	if err != nil {
		return err
	}
	return config.summarize(c.Config, stdout)
}

// tryMachine reports what run would find only when it uses the machine.
func (c *Config) tryMachine(check setting.Check) {
	c.tryFolder(check)
	if err := tryFile(c.Log.File); err != nil {
		check.Add("log.file", "can not be written: %v; let the user that runs cmstap write there, or name another file", err)
	}
	for path, address := range map[string]string{"proxy.listen": c.Proxy.Listen, "admin.listen": c.Admin.Listen} {
		switch err := tryListen(address); {
		case errors.Is(err, syscall.EADDRINUSE):
			check.Warn(path, "the port is in use: by a cmstap that runs already, or by another program; then stop that, or give another port")
		case errors.Is(err, syscall.EACCES):
			check.Add(path, "%v; give a port above 1023, or the right to this one (AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit)", err)
		case err != nil:
			check.Add(path, "%v; give an address of this machine, or only :PORT for all of them", err)
		}
	}
}

// What access is asked for.
const (
	toWrite = 2
	toEnter = 1
)

// tryFolder looks at the folder of the outbox, or at the one that it would be
// made in.
func (c *Config) tryFolder(check setting.Check) {
	folder, err := existing(c.Outbox.Path)
	if err == nil {
		err = access(folder, toWrite|toEnter)
	}
	if err != nil {
		check.Add("outbox.path", "the folder can not be written: %v; let the user that runs cmstap write there, or name another folder", err)
		return
	}
	if outbox.InUse(c.Outbox.Path) {
		check.Warn("outbox.path", "the folder is in use: by a cmstap that runs already; another one needs a folder of its own")
	}
	if free, err := outbox.FreeSpace(folder); err == nil && free < c.Outbox.MinFree {
		check.Warn("outbox.min_free", "only %dMiB are free for %s: no write can be recorded (proxy.durability); make room", free>>20, c.Outbox.Path)
	}
}

// existing is a folder, or the first one above it that is there.
func existing(path string) (string, error) {
	info, err := os.Stat(path)
	above := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && above != path:
		return existing(above)
	case err == nil && !info.IsDir():
		err = &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	return path, err
}

// tryFile tells whether a file can be written, or made; its folder must be there.
func tryFile(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return access(filepath.Dir(path), toWrite|toEnter)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	return access(path, toWrite)
}

func access(path string, mode uint32) error {
	if err := syscall.Access(path, mode); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// tryListen tells whether an address can be listened on.
func tryListen(address string) error {
	if address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}
