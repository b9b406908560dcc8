package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"cmstap/event"
)

// selection says which deliveries or events are meant.
type selection struct {
	Webhook     string `placeholder:"NAME" help:"Of this webhook only."`
	Topic       string `placeholder:"TYPE.ACTION" help:"Of this topic."`
	Entity      string `placeholder:"ID" help:"Of this entity."`
	Environment string `placeholder:"NAME" help:"Of this environment."`
	Text        string `placeholder:"TEXT" help:"A part of topic, entity or event id."`
	Since       string `placeholder:"TIME" help:"A time (RFC 3339), or how long ago: 1h, 7d."`
	Until       string `placeholder:"TIME" help:"The same; that time is not included."`
	Rate        int    `default:"10" help:"Deliveries a second for each webhook."`
	Yes         bool   `help:"Do not ask."`
}

func (s *selection) query() url.Values {
	return parameters(map[string]string{
		"webhook": s.Webhook, "topic": s.Topic, "entity": s.Entity, "environment": s.Environment, "text": s.Text,
		"since": s.Since, "until": s.Until, "rate": strconv.Itoa(s.Rate),
	})
}

type resendCommand struct {
	window    `embed:""`
	ID        string `arg:"" optional:"" help:"The id of a call or of an event."`
	To        string `arg:"" name:"webhook" optional:"" help:"The webhook; without it, that of the call, or all that wanted the event."`
	Failed    bool   `help:"Send again all that was given up, as far as the other flags select it; since and until are about when it was."`
	selection `embed:""`
}

// run sends one event again, or all that was given up.
func (c *resendCommand) run(ctx context.Context, in *os.File, out, progress io.Writer) error {
	switch {
	case c.Failed && c.ID != "":
		return errors.New("--failed is for many; leave out the id")
	case c.Failed:
		return c.resendFailed(ctx, in, out, progress)
	case c.ID == "":
		return errors.New("name the id of a call or of an event, or use --failed")
	}
	id, webhooks, err := c.target(ctx)
	if err != nil {
		return err
	}
	resent := []event.Resent{}
	var refused error // one webhook does not keep the others from it
	for _, webhook := range webhooks {
		var one event.Resent
		if err := c.do(ctx, http.MethodPost, "/api/events/"+url.PathEscape(id)+"/resend", url.Values{"webhook": {webhook}}, &one); err != nil {
			refused = errors.Join(refused, fmt.Errorf("webhook %s: %w", printable(webhook), err))
			continue
		}
		resent = append(resent, one)
	}
	if c.JSON {
		return errors.Join(printJSON(out, event.Page[event.Resent]{Items: resent}), refused)
	}
	for _, one := range resent {
		fmt.Fprintf(out, "event %s goes to %s again\n", printable(one.Event), printable(one.Webhook))
	}
	if len(webhooks) == 0 {
		return fmt.Errorf("no webhook wanted the event%w", errNothing)
	}
	return refused
}

// target is the event that is meant, and the webhooks.
func (c *resendCommand) target(ctx context.Context) (id string, webhooks []string, err error) {
	if len(c.ID) == callDigits {
		var call event.Call
		if err := c.read(ctx, "/api/calls/"+url.PathEscape(c.ID), nil, &call); err != nil {
			return "", nil, err
		}
		if c.To != "" && c.To != call.Webhook {
			return "", nil, fmt.Errorf("the call was one of %s; leave the name out, or give the event's id", printable(call.Webhook))
		}
		return call.Event, []string{call.Webhook}, nil
	}
	if c.To != "" {
		return c.ID, []string{c.To}, nil
	}
	var story event.Story
	err = c.read(ctx, "/api/events/"+url.PathEscape(c.ID), nil, &story)
	return c.ID, story.Webhooks, err
}

func (c *resendCommand) resendFailed(ctx context.Context, in *os.File, out, progress io.Writer) error {
	var count event.Tally
	if err := c.read(ctx, "/api/resend", c.query(), &count); err != nil {
		return err
	}
	what := fmt.Sprintf("%d deliveries that were given up", count.Deliveries)
	if err := c.confirm(in, progress, "Send again "+what, count.Deliveries); err != nil {
		return c.refuse(out, count, err)
	}
	tally, err := lines(ctx, &c.window, http.MethodPost, "/api/resend", c.query(), nil, bar(progress, count.Deliveries, func(t event.Tally) int { return t.Deliveries }))
	if err != nil {
		return err
	}
	return c.finish(out, tally)
}

// refuse prints the count for a program that reads it.
func (w *window) refuse(out io.Writer, count event.Tally, err error) error {
	if w.JSON {
		count.Done = false
		return errors.Join(printJSON(out, count), err)
	}
	return err
}

// finish prints how much was done.
func (w *window) finish(out io.Writer, tally event.Tally) error {
	if w.JSON {
		return printJSON(out, tally)
	}
	_, err := fmt.Fprintf(out, "%d deliveries are due again%s\n", tally.Deliveries,
		either(tally.Waiting > 0, fmt.Sprintf(", %d waited already", tally.Waiting), ""))
	return err
}

// confirm asks whether to go on, unless --yes says so.
func (s *selection) confirm(in *os.File, out io.Writer, question string, n int) error {
	switch {
	case n == 0:
		return fmt.Errorf("there is nothing to send%w", errNothing)
	case s.Yes:
		return nil
	case !isTerminal(in):
		return fmt.Errorf("%s? Say --yes", question)
	}
	fmt.Fprintf(out, "%s? [y/N] ", question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return fmt.Errorf("nothing was sent%w", errNothing)
	}
	return nil
}
