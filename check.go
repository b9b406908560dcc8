package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"cmstap/internal/setting"
)

// check says what run would make of the config: the error is what it would
// refuse, the warnings go to stderr. It opens no port and writes nothing.
func (c *runCommand) check(stdout, stderr io.Writer) error {
	config, err := loadConfig(c.Config, c, (*Config).tryMachine)
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
	if err := tryFolder(c.Outbox.Path); err != nil {
		check.Add("outbox.path", "the folder can not be written: %v; let the user that runs cmstap write there, or name another folder", err)
	}
	if err := tryFile(c.Log.File); err != nil {
		check.Add("log.file", "can not be written: %v; let the user that runs cmstap write there, or name another file", err)
	}
	for path, address := range map[string]string{"proxy.listen": c.Proxy.Listen, "admin.listen": c.Admin.Listen} {
		switch err := tryListen(address); {
		case errors.Is(err, syscall.EADDRINUSE):
			check.Warn(path, "the port is in use: by a cmstap that runs already, or by another program; then stop that, or give another port")
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

// tryFolder tells whether files can be made in a folder, or the folder itself.
func tryFolder(path string) error {
	info, err := os.Stat(path)
	above := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && above != path:
		return tryFolder(above)
	case err != nil:
		return err
	case !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	return access(path, toWrite|toEnter)
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
	case info.IsDir():
		return &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	}
	return access(path, toWrite)
}

func access(path string, mode uint32) error {
	if err := syscall.Access(path, mode); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// errBound ends a trial before the port opens.
var errBound = errors.New("bound")

// tryListen tells whether an address could be listened on. It binds a socket to
// it, but does not listen: nobody can connect, and a cmstap that starts at the
// same time is not disturbed.
func tryListen(address string) error {
	if address == "" {
		return nil
	}
	trial := net.ListenConfig{Control: func(network, address string, socket syscall.RawConn) error {
		err := errBound
		failed := socket.Control(func(fd uintptr) {
			if refused := bind(int(fd), network, address); refused != nil {
				err = refused
			}
		})
		return errors.Join(failed, err)
	}}
	listener, err := trial.Listen(context.Background(), "tcp", address)
	if errors.Is(err, errBound) {
		return nil
	}
	if err == nil { // it can not be: the trial always ends by an error
		err = listener.Close()
	}
	return err
}

// bind binds a socket to an address that has been looked up, as net does: one
// for IPv6 to which 0.0.0.0 is given takes all addresses.
func bind(fd int, network, address string) error {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	ip, _ := netip.AddrFromSlice(at.IP)
	every := !ip.IsValid() || ip.IsUnspecified()
	if network == "tcp4" {
		to := &syscall.SockaddrInet4{Port: at.Port}
		if !every {
			to.Addr = ip.Unmap().As4()
		}
		return syscall.Bind(fd, to)
	}
	to := &syscall.SockaddrInet6{Port: at.Port}
	if !every {
		to.Addr = ip.As16()
	}
	if scope, err := net.InterfaceByName(at.Zone); err == nil {
		to.ZoneId = uint32(scope.Index)
	}
	return syscall.Bind(fd, to)
}
