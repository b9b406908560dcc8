package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/internal/setting"
)

// window is how a command finds the admin port of a cmstap that runs, and how it
// prints what that says.
type window struct {
	Config string `short:"c" placeholder:"FILE" help:"The config file of the cmstap that runs: where it listens, and its token."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

type webhooksCommand struct {
	window `embed:""`
}

type callsCommand struct {
	window      `embed:""`
	Webhook     string `placeholder:"NAME" help:"Calls of this webhook only."`
	Result      string `placeholder:"RESULT" help:"delivered, retrying or failed."`
	Status      string `placeholder:"STATUS" help:"404, a class such as 5xx, or none."`
	Topic       string `placeholder:"TYPE.ACTION" help:"Of this topic."`
	Entity      string `placeholder:"ID" help:"Of this entity."`
	Environment string `placeholder:"NAME" help:"Of this environment."`
	Text        string `placeholder:"TEXT" help:"A part of topic, entity, event id or error."`
	Since       string `placeholder:"TIME" help:"A time (RFC 3339), or how long ago: 1h, 7d."`
	Until       string `placeholder:"TIME" help:"The same; that time is not included."`
	Limit       int    `default:"20" help:"How many, the newest first."`
}

type eventsCommand struct {
	window      `embed:""`
	Topic       string `placeholder:"TYPE.ACTION" help:"Of this topic."`
	Entity      string `placeholder:"ID" help:"Of this entity."`
	Environment string `placeholder:"NAME" help:"Of this environment."`
	Text        string `placeholder:"TEXT" help:"A part of topic, entity or event id."`
	Since       string `placeholder:"TIME" help:"A time (RFC 3339), or how long ago: 1h, 7d."`
	Until       string `placeholder:"TIME" help:"The same; that time is not included."`
	Limit       int    `default:"20" help:"How many, the newest first."`
}

type showCommand struct {
	window `embed:""`
	ID     string `arg:"" help:"The id of a call or of an event."`
}

// run prints what waits for each webhook.
func (c *webhooksCommand) run(ctx context.Context, out io.Writer) error {
	var list event.Page[event.Backlog]
	if err := c.read(ctx, "/api/webhooks", nil, &list); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(out, list)
	}
	return printBacklogs(out, list.Items, time.Now())
}

// run prints calls.
func (c *callsCommand) run(ctx context.Context, out io.Writer) error {
	query := parameters(map[string]string{
		"webhook": c.Webhook, "result": c.Result, "status": c.Status, "topic": c.Topic, "entity": c.Entity, "environment": c.Environment,
		"text": c.Text, "since": c.Since, "until": c.Until,
	})
	all, err := readPages[event.Call](ctx, &c.window, "/api/calls", query, c.Limit)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(out, all)
	}
	return printCalls(out, all.Items)
}

// run prints events.
func (c *eventsCommand) run(ctx context.Context, out io.Writer) error {
	query := parameters(map[string]string{
		"topic": c.Topic, "entity": c.Entity, "environment": c.Environment, "text": c.Text, "since": c.Since, "until": c.Until,
	})
	all, err := readPages[event.Recorded](ctx, &c.window, "/api/events", query, c.Limit)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(out, all)
	}
	return printEvents(out, all.Items)
}

// readPages reads pages until it has so many items.
func readPages[T any](ctx context.Context, w *window, path string, query url.Values, limit int) (event.Page[T], error) {
	all := event.Page[T]{Items: []T{}}
	if limit < 1 {
		return all, errors.New("--limit must be at least 1")
	}
	for first := true; first || all.Cursor != "" && len(all.Items) < limit; first = false {
		var page event.Page[T]
		query.Set("limit", strconv.Itoa(min(limit-len(all.Items), 500)))
		if !first {
			query.Set("cursor", all.Cursor)
		}
		if err := w.read(ctx, path, query, &page); err != nil {
			return all, err
		}
		all.Items, all.Cursor = append(all.Items, page.Items...), page.Cursor
	}
	return all, nil
}

// parameters are those of a query that are not empty.
func parameters(values map[string]string) url.Values {
	query := url.Values{}
	for name, value := range values {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// callDigits is the length of a call's id; an event's is longer.
const callDigits = 48

// run prints one call, or one event with its deliveries and calls.
func (c *showCommand) run(ctx context.Context, out io.Writer) error {
	if len(c.ID) == callDigits {
		var call event.Call
		if err := c.read(ctx, "/api/calls/"+url.PathEscape(c.ID), nil, &call); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out, call)
		}
		return printCall(out, &call)
	}
	var story event.Story
	if err := c.read(ctx, "/api/events/"+url.PathEscape(c.ID), nil, &story); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(out, story)
	}
	return printStory(out, &story)
}

// read asks the cmstap that runs with the config.
func (w *window) read(ctx context.Context, path string, query url.Values, into any) error {
	return w.do(ctx, http.MethodGet, path, query, into)
}

// do has something done by it, and reads the answer.
func (w *window) do(ctx context.Context, method, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	response, err := w.ask(ctx, method, path, query, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// ask sends a request to it. An answer other than 200 is an error.
func (w *window) ask(ctx context.Context, method, path string, query url.Values, headers map[string]string, body io.Reader) (*http.Response, error) {
	config, err := w.settings()
	if err != nil {
		return nil, err
	}
	address, err := reachable(config.Admin.Listen)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	if config.Admin.Token.IsSet() {
		request.Header.Set("Authorization", "Bearer "+config.Admin.Token.Reveal())
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request) // no proxy: the token is for nobody else
	if err != nil {
		return nil, fmt.Errorf("%s (admin.listen) does not answer; does cmstap run with this config? %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		var problem struct{ Detail string }
		_ = json.NewDecoder(response.Body).Decode(&problem)
		return nil, &refusal{response.StatusCode, fmt.Sprintf("%s answered %d: %s", address, response.StatusCode, printable(problem.Detail))}
	}
	return response, nil
}

// refusal is an answer that says why something is not done.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// settings reads the config. Mistakes outside of its part admin do not matter: a
// secret of a webhook may be known only where cmstap runs.
func (w *window) settings() (*Config, error) {
	config, err := loadConfig(w.Config, &runCommand{})
	var problems setting.Problems
	if !errors.As(err, &problems) {
		return config, err
	}
	for _, p := range problems {
		if p.Path == "" || p.Path == "admin" || strings.HasPrefix(p.Path, "admin.") {
			return nil, err
		}
	}
	return config, nil
}

// reachable is the address by which this machine reaches a listener.
func reachable(listen string) (string, error) {
	if listen == "" {
		return "", errors.New("admin.listen is empty: cmstap has no admin port with this config")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", errors.New("admin.listen names no port; give it one, for example 127.0.0.1:8081")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
