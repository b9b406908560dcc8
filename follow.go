package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cmstap/event"
)

type tailCommand struct {
	window      `embed:""`
	Webhook     string `placeholder:"NAME" help:"Calls of this webhook, and events that it wanted."`
	Result      string `placeholder:"RESULT" help:"Calls only: delivered, retrying or failed."`
	Status      string `placeholder:"STATUS" help:"Calls only: 404, a class such as 5xx, or none."`
	Topic       string `placeholder:"TYPE.ACTION" help:"Of this topic."`
	Entity      string `placeholder:"ID" help:"Of this entity."`
	Environment string `placeholder:"NAME" help:"Of this environment."`
	Text        string `placeholder:"TEXT" help:"A part of topic, entity, event id or error."`
}

// again is how long is waited before a tail that broke is taken up again.
const again = time.Second

// run prints what happens until ctx ends. A connection that breaks is made anew,
// from where it was.
func (c *tailCommand) run(ctx context.Context, out, messages io.Writer) error {
	query := parameters(map[string]string{
		"webhook": c.Webhook, "result": c.Result, "status": c.Status, "topic": c.Topic, "entity": c.Entity, "environment": c.Environment, "text": c.Text,
	})
	last, said := "", false
	for first := true; ; first = false {
		err := c.follow(ctx, query, &last, out)
		var refused *refusal
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOutput), first && !errors.Is(err, errBroken), errors.As(err, &refused) && refused.status != http.StatusServiceUnavailable:
			return err
		case !said:
			fmt.Fprintf(messages, "cmstap: %v; it is tried again every second\n", err)
		}
		said = !errors.Is(err, errBroken)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// What ends following: a tail was there and is no more; or nobody reads what is
// printed.
var (
	errBroken = errors.New("the connection ended")
	errOutput = errors.New("it can not be printed")
)

// follow prints what one connection brings; last is the id of what came last.
func (c *tailCommand) follow(ctx context.Context, query url.Values, last *string, out io.Writer) error {
	headers := map[string]string{}
	if *last != "" {
		headers["Last-Event-ID"] = *last
	}
	response, err := c.ask(ctx, http.MethodGet, "/api/tail", query, headers, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var kind, id string
	for reader := bufio.NewReader(response.Body); ; {
		line, err := reader.ReadString('\n')
		if err != nil {
			return errBroken
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			if err := c.print(out, kind, []byte(value)); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			*last = cmp.Or(id, *last)
		}
	}
}

func (c *tailCommand) print(out io.Writer, kind string, data []byte) error {
	if c.JSON {
		_, err := fmt.Fprintf(out, "{\"kind\":%q,\"data\":%s}\n", kind, data)
		return err
	}
	var err error
	switch kind {
	case "call":
		var call event.Call
		if err = json.Unmarshal(data, &call); err == nil {
			err = printLine(out, call.Time, call.Webhook, call.Result, status(&call), took(&call), call.Topic, call.Entity, call.ID)
		}
	case "event":
		var e event.Recorded
		if err = json.Unmarshal(data, &e); err == nil {
			err = printLine(out, e.Time, "-", "event", "-", "-", e.Topic, e.Entity.ID, e.ID)
		}
	case "missed":
		var missed struct{ Missed int }
		if err = json.Unmarshal(data, &missed); err == nil {
			_, err = fmt.Fprintf(out, "... %d were missed\n", missed.Missed)
		}
	}
	return err
}

func printLine(out io.Writer, at time.Time, webhook, result, status, took, topic, entity, id string) error {
	_, err := fmt.Fprintf(out, "%s  %-16s  %-9s  %-4s  %-6s  %-20s  %s  %s\n",
		at.Format(time.RFC3339), oneLine(webhook), result, status, took, oneLine(topic), cmp.Or(oneLine(entity), "-"), id)
	return err
}

func oneLine(text string) string { return strings.Join(strings.Fields(printable(text)), " ") }

type pauseCommand struct {
	window `embed:""`
	Name   string `arg:"" help:"The webhook."`
}

type resumeCommand struct{ pauseCommand }

// run pauses a webhook.
func (c *pauseCommand) run(ctx context.Context, out io.Writer) error { return c.set(ctx, "pause", out) }

// run resumes a webhook.
func (c *resumeCommand) run(ctx context.Context, out io.Writer) error {
	return c.set(ctx, "resume", out)
}

func (c *pauseCommand) set(ctx context.Context, what string, out io.Writer) error {
	var state struct {
		Webhook string `json:"webhook"`
		Paused  bool   `json:"paused"`
	}
	if err := c.do(ctx, http.MethodPost, "/api/webhooks/"+url.PathEscape(c.Name)+"/"+what, nil, &state); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(out, state)
	}
	_, err := fmt.Fprintf(out, "%s is %s\n", printable(state.Webhook), either(state.Paused, "paused", "not paused"))
	return err
}

type testCommand struct {
	window `embed:""`
	Name   string `arg:"" help:"The webhook."`
}

// run tries a webhook with a made-up event. A call that is not answered with
// success is an error.
func (c *testCommand) run(ctx context.Context, out io.Writer) error {
	response, err := c.ask(ctx, http.MethodPost, "/api/webhooks/"+url.PathEscape(c.Name)+"/test", nil, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var call event.Call
	if err := json.NewDecoder(response.Body).Decode(&call); err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(out, call)
	} else {
		err = printCall(out, &call)
	}
	if err == nil && call.Result != event.Delivered.String() {
		err = errors.New("the webhook did not take the event")
	}
	return err
}
