package sender

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmstap/internal/setting"
)

// Retry says when a failed call is made again.
type Retry struct {
	// Delays are the waits before the second, third, ... attempt.
	Delays []setting.Duration `yaml:"delays"`
	// On lists what is retried: timeout, connection, a status (429), a class
	// (5xx). Other failures are final.
	On []string `yaml:"on"`

	preset string // its name, if it is one
}

// standard is the schedule of who says nothing.
const standard = "standard"

// presets are schedules by name: ours, and those of the vendors.
var presets = map[string]Retry{
	// Svix's: 8 attempts over 27 h 35 min.
	standard: preset(standard, everyFailure,
		5*time.Second, 5*time.Minute, 30*time.Minute, 2*time.Hour, 5*time.Hour, 10*time.Hour, 10*time.Hour),
	// Two more attempts about 30 s apart, after 429 and 5xx, not after a timeout
	// (www.contentful.com/developers/docs/webhooks). What is done when there is
	// no connection is not said there: doubt tries again.
	"contentful": preset("contentful", []string{"connection", "429", "5xx"}, 30*time.Second, 30*time.Second),
	// auto_retry: up to seven times, after timeouts too
	// (www.datocms.com/docs/general-concepts/webhooks).
	"datocms": preset("datocms", everyFailure,
		2*time.Minute, 6*time.Minute, 30*time.Minute, time.Hour, 5*time.Hour, 24*time.Hour, 48*time.Hour),
	// The table of "Webhook Retry Policy" (www.contentstack.com/docs): four more
	// attempts, after anything but 2xx. The formula on that page gives other waits.
	"contentstack": preset("contentstack", everyFailure, 5*time.Second, 25*time.Second, 125*time.Second, 625*time.Second),
}

const maxDelay = 30 * 24 * time.Hour

// everyFailure retries all that may succeed later.
var everyFailure = []string{"timeout", "connection", "3xx", "4xx", "5xx"}

func preset(name string, on []string, delays ...time.Duration) Retry {
	r := Retry{On: on, preset: name}
	for _, delay := range delays {
		r.Delays = append(r.Delays, setting.Duration(delay))
	}
	return r
}

// UnmarshalText reads the name of a preset.
func (r *Retry) UnmarshalText(text []byte) error {
	named, known := presets[string(text)]
	if !known {
		return fmt.Errorf("want %s, or { delays: [5s, 1m, 10m], on: [timeout, connection, 429, 5xx] }, not %q",
			strings.Join(slices.Sorted(maps.Keys(presets)), ", "), text)
	}
	*r = named
	return nil
}

func (r *Retry) validate(check setting.Check) {
	if len(r.On) == 0 && len(r.Delays) > 0 {
		check.Add("on", "names nothing; list what is retried, or give delays: [] for no second attempt")
	}
	if len(r.Delays) > 100 {
		check.Add("delays", "at most 100")
	}
	for i, delay := range r.Delays {
		if delay.Std() > maxDelay {
			check.Add(fmt.Sprintf("delays[%d]", i), "at most %v", setting.Duration(maxDelay))
		}
	}
	for i, class := range r.On {
		if !validClass(class) {
			check.Add(fmt.Sprintf("on[%d]", i), "want timeout, connection, a status such as 429 or a class such as 5xx, not %q", class)
		}
	}
}

func validClass(class string) bool {
	switch class {
	case "timeout", "connection", "3xx", "4xx", "5xx":
		return true
	}
	status, err := strconv.Atoi(class)
	return err == nil && status >= 300 && status <= 599
}
