package proxy

import "golang.org/x/sys/unix"

// endsWith tells whether the peer sends nothing after the few bytes that wait.
// TLS 1.3 encrypts its last word, so the system is asked.
func endsWith(fd int, _ []byte) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}
