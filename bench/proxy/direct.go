package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
	"cmstap/outbox"
	"cmstap/rules"

	"github.com/google/uuid"
)

// directWriters are as many as a leg of writes has connections.
const directWriters = 64

// direct makes the calls of a tapped write, begin, derive, match and commit, as
// fast as they go, without HTTP and without a CMS. It prints what parseDirect
// reads.
func direct(ctx context.Context, folder, seconds string) error {
	debug.SetMemoryLimit(136 << 20) // as cmstap sets it
	span, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	d, err := newDriver(folder)
	if err != nil {
		return err
	}
	spans, errs := make([][]time.Duration, directWriters), make([]error, directWriters)
	var all sync.WaitGroup
	begun := time.Now()
	end := begun.Add(time.Duration(span) * time.Second)
	for i := range directWriters {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil && errs[i] == nil {
				from := time.Now()
				errs[i] = d.write(ctx)
				spans[i] = append(spans[i], time.Since(from))
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	if err := errors.Join(append(errs, ctx.Err(), d.outbox.Close())...); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	times := slices.Sorted(slices.Values(slices.Concat(spans...)))
	fmt.Println(len(times), int64(took), int64(times[len(times)/2]), int64(times[len(times)*99/100]), peak(string(status)))
	return nil
}

// parseDirect reads the result of direct. Its CPU time is that of the process.
func parseDirect(out string, state *os.ProcessState) (r result, err error) {
	_, err = fmt.Sscan(out, &r.requests, &r.took, &r.p50, &r.p99, &r.memory)
	usage, _ := state.SysUsage().(*syscall.Rusage)
	r.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return r, err
}

// driver makes the calls that stand between a request and its answer.
type driver struct {
	rules  *rules.Rules
	outbox *outbox.Outbox
	answer [2][]byte // before and after the id
	count  atomic.Int64
}

func newDriver(folder string) (*driver, error) {
	dialect, err := rules.LoadDialect("contentful")
	if err != nil {
		return nil, err
	}
	var s rules.Subscription
	if err := setting.Decode("bench", []byte("{ "+subscription+" }"), &s, func(check setting.Check) { s.Validate(check) }); err != nil {
		return nil, err
	}
	config := outbox.DefaultConfig()
	config.Path = filepath.Join(folder, "data")
	d := &driver{rules: rules.New(dialect, []rules.Webhook{{Name: "w", Subscription: s}})}
	d.answer[0], d.answer[1], _ = bytes.Cut([]byte(entry(writeSize, "$id")), []byte("$id"))
	d.outbox, err = outbox.Open(config, []string{"w"}, slog.New(slog.DiscardHandler))
	return d, err
}

// write is one write, to an entity of its own.
func (d *driver) write(ctx context.Context) error {
	id := fmt.Sprint("direct-", d.count.Add(1))
	plan := d.rules.Classify(event.Head{Method: "PUT", Path: entries + id, Headers: version{}}, d.outbox.Links())
	x := &event.Exchange{Intent: plan.Intent, Outcome: event.Done, Status: 200}
	number, err := uuid.NewV7()
	if err != nil {
		return err
	}
	x.Intent.ID, x.Intent.Time = number.String(), time.Now().UTC()
	if err := d.outbox.Begin(ctx, x.Intent); err != nil {
		return err
	}
	x.Answer.Bytes, x.Time = slices.Concat(d.answer[0], []byte(id), d.answer[1]), time.Now().UTC()
	links := d.outbox.Links()
	keys, content := d.rules.Recall(x, links)
	states, err := d.outbox.Recall(ctx, keys, content)
	if err != nil {
		return err
	}
	var captured []event.Captured
	for _, e := range d.rules.Derive(x, links, states) {
		if e.PayloadError != "" {
			return errors.New(e.PayloadError)
		}
		for _, decision := range d.rules.Match(&e, links) {
			if decision.Wanted {
				return errors.New("nobody should want the event: " + decision.Undecided)
			}
		}
		captured = append(captured, event.Captured{Event: e})
	}
	if len(captured) != 1 {
		return fmt.Errorf("%d events of a write", len(captured))
	}
	return d.outbox.Commit(ctx, x.Intent.ID, captured, d.rules.Learn(x), d.rules.Job(x))
}

// version are the headers of a write.
type version struct{}

// Get implements event.Headers.
func (version) Get(name string) string {
	if name == "X-Contentful-Version" {
		return "1"
	}
	return ""
}
