// Package testlog is a log that tests read while it is written.
package testlog

import (
	"bytes"
	"log/slog"
	"sync"
)

// Log collects what is logged to it. The zero value is ready to use; it may be
// used from any goroutine.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes a line of the log.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// String returns all that was logged, or was since the last Take.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Take returns what was logged and forgets it.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// Logger returns a logger that writes logfmt, every level, to the log.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
