package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"cmstap/event"

	"golang.org/x/sys/unix"
)

type replayCommand struct {
	window    `embed:""`
	Diff      bool   `help:"Send nothing: say which deliveries the config of --config would make, and which the one that runs."`
	At        string `placeholder:"FILE" help:"The config of the cmstap that runs, if that is not --config: where it listens, and its token."`
	selection `embed:""`
}

// run puts recorded events through the config once more, or compares.
func (c *replayCommand) run(ctx context.Context, in *os.File, out, progress io.Writer) error {
	if c.Since == "" {
		return errors.New("say since when: --since 7d")
	}
	runs := c.window
	runs.Config = cmp.Or(c.At, c.Config)
	if c.Diff {
		return c.diff(ctx, &runs, out, progress)
	}
	if c.At != "" {
		return errors.New("--at is for --diff: events are put through the config that runs, and no other")
	}
	count, err := lines(ctx, &runs, http.MethodGet, "/api/replay", c.query(), nil, count(progress, func(t event.Tally) int { return t.Events }))
	if err != nil {
		return err
	}
	if err := c.confirm(in, progress, fmt.Sprintf("Send %d deliveries of %d events again", count.Deliveries, count.Events), count.Deliveries); err != nil {
		return runs.refuse(out, count, err)
	}
	tally, err := lines(ctx, &runs, http.MethodPost, "/api/replay", c.query(), nil, bar(progress, count.Events, func(t event.Tally) int { return t.Events }))
	if err != nil {
		return err
	}
	return runs.finish(out, tally)
}

// diff has the file decided beside the config that runs.
func (c *replayCommand) diff(ctx context.Context, runs *window, out, progress io.Writer) error {
	text, err := readFile(c.Config)
	if err != nil {
		return fmt.Errorf("the config can not be read: %w", err)
	}
	query := c.query()
	query.Del("rate")
	result, err := lines(ctx, runs, http.MethodPost, "/api/replay/diff", query, bytes.NewReader(text), count(progress, func(r event.Comparison) int { return r.Events }))
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(out, result)
	} else {
		err = printComparison(out, &result)
	}
	if n := result.Appear + result.Disappear; err == nil && n > 0 {
		return fmt.Errorf("%d deliveries differ%w", n, errNothing)
	}
	return err
}

func printComparison(out io.Writer, r *event.Comparison) error {
	fmt.Fprintf(out, "%d events: %d deliveries are the same, %d appear, %d disappear; %d events can not be decided for a webhook\n",
		r.Events, r.Same, r.Appear, r.Disappear, r.Undecided)
	if len(r.Differences) == 0 {
		return nil
	}
	rows := [][]string{{"TIME", "CHANGE", "WEBHOOK", "TOPIC", "ENTITY", "EVENT"}}
	for _, d := range r.Differences {
		rows = append(rows, []string{d.Time.Format(time.RFC3339), d.Change, d.Webhook, d.Topic, cmp.Or(d.Entity, "-"), d.Event})
	}
	err := table(out, rows...)
	if r.Cut {
		fmt.Fprintf(out, "... and %d more\n", r.Appear+r.Disappear-len(r.Differences))
	}
	return err
}

// lines sends a request that is answered with lines of JSON: each is told, and the
// last one returned.
func lines[T any](ctx context.Context, w *window, method, path string, query url.Values, body io.Reader, tell func(T, bool)) (last T, err error) {
	response, err := w.ask(ctx, method, path, query, nil, body)
	if err != nil {
		return last, err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return last, fmt.Errorf("the answer ended early, and cmstap may go on: %w", err)
		}
		var so struct {
			Done   bool
			Detail string
		}
		var line T
		if err := errors.Join(json.Unmarshal(raw, &so), json.Unmarshal(raw, &line)); err != nil {
			return last, err
		}
		if so.Detail != "" {
			tell(last, true)
			return last, errors.New(printable(so.Detail))
		}
		last = line
		tell(last, so.Done)
		if so.Done {
			return last, nil
		}
	}
}

// bar shows on a terminal how much of a work is done.
func bar[T any](out io.Writer, of int, how func(T) int) func(T, bool) {
	const width = 40
	return show(out, func(so T) string {
		n := min(how(so), of)
		full := width * n / max(of, 1)
		return fmt.Sprintf("[%s%s] %d of %d", strings.Repeat("=", full), strings.Repeat(" ", width-full), n, of)
	})
}

// count shows on a terminal how much was looked at.
func count[T any](out io.Writer, how func(T) int) func(T, bool) {
	return show(out, func(so T) string { return fmt.Sprintf("%d events", how(so)) })
}

func show[T any](out io.Writer, text func(T) string) func(T, bool) {
	file, isFile := out.(*os.File)
	if !isFile || !isTerminal(file) {
		return func(T, bool) {}
	}
	return func(so T, done bool) { fmt.Fprintf(out, "\r%s%s", text(so), either(done, "\n", "")) }
}

// isTerminal tells whether somebody sits at the other end.
func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
