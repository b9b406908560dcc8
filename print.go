package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"cmstap/event"
)

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printable replaces what a terminal would obey: texts may be a receiver's.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// table prints rows whose cells are on one line.
func table(out io.Writer, rows ...[]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = strings.Join(strings.Fields(printable(cell)), " ")
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// facts prints names and values, but for those that are empty.
func facts(out io.Writer, pairs ...string) error {
	var rows [][]string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, pairs[i:i+2])
		}
	}
	return table(out, rows...)
}

func printBacklogs(out io.Writer, list []event.Backlog, now time.Time) error {
	rows := [][]string{{"WEBHOOK", "WAITING", "OLDEST", "GIVEN UP", ""}}
	state := func(b *event.Backlog) string {
		switch {
		case b.Parked:
			return "not in the config"
		case b.Paused:
			return "paused"
		case b.Breaker != "" && b.Breaker != "closed":
			return "breaker " + b.Breaker
		}
		return ""
	}
	for _, b := range list {
		oldest := "-"
		if !b.Oldest.IsZero() {
			oldest = now.Sub(b.Oldest).Round(time.Second).String()
		}
		rows = append(rows, []string{b.Webhook, fmt.Sprint(b.Waiting), oldest, fmt.Sprint(b.Dead), state(&b)})
	}
	return table(out, rows...)
}

func printCalls(out io.Writer, calls []event.Call) error {
	rows := [][]string{{"TIME", "WEBHOOK", "RESULT", "STATUS", "TOOK", "TRY", "TOPIC", "ENTITY", "ID"}}
	for _, c := range calls {
		rows = append(rows, []string{
			c.Time.Format(time.RFC3339), c.Webhook, c.Result, status(&c), took(&c), fmt.Sprint(c.Attempt), c.Topic, cmp.Or(c.Entity, "-"), c.ID,
		})
	}
	return table(out, rows...)
}

func printEvents(out io.Writer, events []event.Recorded) error {
	rows := [][]string{{"TIME", "TOPIC", "ENTITY", "ENVIRONMENT", "WEBHOOKS", "ID"}}
	for _, e := range events {
		rows = append(rows, []string{
			e.Time.Format(time.RFC3339), e.Topic, cmp.Or(e.Entity.ID, "-"), cmp.Or(e.Environment, "-"), cmp.Or(strings.Join(e.Webhooks, ","), "-"), e.ID,
		})
	}
	return table(out, rows...)
}

func status(c *event.Call) string { return either(c.Status == 0, "none", fmt.Sprint(c.Status)) }

func took(c *event.Call) string {
	return time.Duration(c.Duration * float64(time.Millisecond)).Round(time.Millisecond).String()
}

func printCall(out io.Writer, c *event.Call) error {
	err := facts(out, "call", c.ID, "webhook", c.Webhook, "event", c.Event, "topic", c.Topic, "entity", c.Entity, "environment", c.Environment,
		"attempt", fmt.Sprint(c.Attempt), "time", c.Time.Format(time.RFC3339Nano), "took", took(c), "result", c.Result, "status", status(c), "error", c.Error)
	if err != nil || c.Wire == nil {
		return err
	}
	fmt.Fprintf(out, "\n%s %s (%d bytes)\n", printable(c.Wire.Method), printable(c.Wire.URL), c.Wire.Bytes)
	printHeaders(out, c.Wire.Headers)
	if c.Wire.Body != "" {
		fmt.Fprintf(out, "\n%s\n", printable(c.Wire.Body))
	}
	if c.Status != 0 {
		fmt.Fprintf(out, "\n%d\n", c.Status)
		printHeaders(out, c.Wire.AnswerHeaders)
		fmt.Fprintf(out, "\n%s\n", printable(c.Wire.Answer))
	}
	return nil
}

func printHeaders(out io.Writer, headers []event.Header) {
	for _, h := range headers {
		fmt.Fprintf(out, "  %s: %s\n", printable(h.Name), printable(h.Value))
	}
}

func printStory(out io.Writer, s *event.Story) error {
	err := facts(out, "event", s.ID, "topic", s.Topic, "entity", s.Entity.ID, "environment", s.Environment, "time", s.Time.Format(time.RFC3339Nano),
		"confirmed", fmt.Sprint(s.Confirmed), "request", s.Request.Method+" "+s.Request.Path, "payload", fmt.Sprint(s.PayloadBytes, " bytes"))
	if err != nil {
		return err
	}
	rows := [][]string{{"WEBHOOK", "STATE", "TRIES", "NEXT", "REASON"}}
	for _, d := range s.Deliveries {
		next := "-"
		if !d.Next.IsZero() {
			next = d.Next.Format(time.RFC3339)
		}
		rows = append(rows, []string{d.Webhook, d.State, fmt.Sprint(d.Attempts), next, cmp.Or(d.Reason, d.Undecided)})
	}
	fmt.Fprintln(out)
	if err := table(out, rows...); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printCalls(out, s.Calls)
}
