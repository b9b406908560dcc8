package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// appLog is the log: one line for each step of a story.
type appLog struct {
	logger *slog.Logger
	level  slog.LevelVar
	out    *logFile
}

// openLog opens the log on standard error, or on the file that the config
// names. The error names the setting.
func openLog(c LogConfig, stderr io.Writer) (*appLog, error) {
	out := &logFile{path: c.File, to: stderr}
	if err := out.open(); err != nil {
		return nil, fmt.Errorf("log.file: %w", err)
	}
	l := &appLog{out: out}
	l.level.Set(levels[c.Level])
	options := &slog.HandlerOptions{Level: &l.level, ReplaceAttr: utc}
	l.logger = slog.New(slog.NewTextHandler(out, options))
	if c.Format == "json" {
		l.logger = slog.New(slog.NewJSONHandler(out, options))
	}
	return l, nil
}

func (l *appLog) close() { _ = l.out.close() }

// reopen goes on in a new file after the old one was moved away.
func (l *appLog) reopen() {
	if err := l.out.open(); err != nil {
		l.logger.Error("log", "error", err, "hint", "log.file can not be opened again; the old file stays in use")
	}
}

// utc writes times in UTC with milliseconds.
func utc(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().Round(time.Microsecond).String())
	}
	return a
}

// logFile is a file that can be opened again, or standard error.
type logFile struct {
	path string
	mu   sync.Mutex
	to   io.Writer
	file *os.File
}

func (f *logFile) open() error {
	if f.path == "" {
		return nil
	}
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() { // to open a pipe would wait
		return fmt.Errorf("%s is not a regular file", f.path)
	}
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file, f.to = file, file
	return nil
}

func (f *logFile) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Write writes one line.
func (f *logFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to.Write(line)
}
