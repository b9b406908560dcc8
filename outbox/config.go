package outbox

import (
	"os"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// Config is the part outbox of the config file.
type Config struct {
	// Path is the folder; it is made if it is not there.
	Path string `yaml:"path"`
	// Sync is whether a write waits for the disk. Without it a kill -9 loses
	// nothing, but a power cut may.
	Sync bool `yaml:"sync"`
	// MaxOpen bounds the open intents. Beyond it no write can be recorded.
	MaxOpen   int          `yaml:"max_open"`
	Retention Retention    `yaml:"retention"`
	MaxSize   setting.Size `yaml:"max_size"`
	// MaxPayload is the largest payload that is kept whole.
	MaxPayload setting.Size `yaml:"max_payload"`
	// MinFree is the free space below which nothing new is begun; see guard.
	MinFree setting.Size `yaml:"min_free"`
	// Links are the aliases that the config tells of.
	Links event.Links `yaml:"-"`
	// Queues are the settings of webhooks by name, where they have any.
	Queues map[string]Queue `yaml:"-"`
}

// Retention says how long what is done with is kept.
type Retention struct {
	Delivered setting.Duration `yaml:"delivered"`
	Failed    setting.Duration `yaml:"failed"`
}

const day = 24 * time.Hour

// DefaultConfig returns the settings of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Path:      "./cmstap-data",
		Sync:      true,
		MaxOpen:   10_000,
		Retention: Retention{Delivered: setting.Duration(7 * day), Failed: setting.Duration(30 * day)},
		MaxSize:   4 << 30, MaxPayload: 4 << 20,
		MinFree: 256 << 20,
	}
}

// Validate reports what is wrong with the settings.
func (c Config) Validate(check setting.Check) {
	if c.Path == "" {
		check.Add("path", "name a folder for the outbox")
	}
	check.File("path", c.Path)
	if c.MaxOpen < 1 {
		check.Add("max_open", "must be at least 1")
	}
	if c.Retention.Delivered.Std() < time.Minute {
		check.Add("retention.delivered", "must be at least 1m")
	}
	if c.Retention.Failed.Std() < time.Minute {
		check.Add("retention.failed", "must be at least 1m")
	}
	if c.MaxSize < 64<<20 {
		check.Add("max_size", "must be at least 64MiB")
	}
	if c.MaxPayload < 64<<10 || c.MaxPayload > 16<<20 {
		check.Add("max_payload", "must be from 64KiB to 16MiB")
	}
	if c.MinFree < 64<<20 {
		check.Add("min_free", "must be at least 64MiB: the store needs room to tidy itself up")
	}
}

// Warn reports a folder that others may read: content that is not published is
// in it.
func (c Config) Warn(check setting.Check) {
	if info, err := os.Stat(c.Path); err == nil && info.IsDir() && info.Mode().Perm()&0o077 != 0 {
		check.Warn("path", "other users of the machine may enter the folder (mode %04o), and it holds content that is not published: chmod 700 %s", info.Mode().Perm(), c.Path)
	}
}
