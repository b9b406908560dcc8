package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"cmstap/event"
	"cmstap/rules"
)

type explainCommand struct {
	runCommand `embed:""`
	Method     string   `arg:"" name:"method|event-id" help:"The method of a request; or the id of a recorded event, about which the cmstap that runs is asked."`
	Path       string   `arg:"" optional:"" help:"The path of the request, with the query if there is one."`
	Webhook    string   `placeholder:"NAME" help:"Only this webhook."`
	Header     []string `short:"H" sep:"none" placeholder:"'NAME: VALUE'" help:"A header of the request."`
	Request    string   `placeholder:"FILE" help:"The body of the request."`
	Status     int      `default:"-1" help:"The status of the answer; 0 if there was none. Without it, a success."`
	Response   string   `placeholder:"FILE" help:"The body of the answer. Without it, what only the answer tells is unknown."`
	Before     string   `placeholder:"FILE" help:"What the entity was, in the form of its events' payload; null if there was none. Without it, it is unknown."`
	JSON       bool     `help:"Print JSON."`
}

// explanation is what would become of a request.
type explanation struct {
	Request string           `json:"request"`
	Class   string           `json:"class"` // pass, observe or write
	Routes  []rules.Tried    `json:"routes,omitempty"`
	Others  []string         `json:"other_methods,omitempty"` // of the path, if no route has it
	Status  int              `json:"status,omitempty"`        // 0: there was none
	Outcome string           `json:"outcome,omitempty"`       // done, refused or unknown
	Learned []event.Link     `json:"learned,omitempty"`
	Events  []explainedEvent `json:"events,omitempty"`
}

type explainedEvent struct {
	event.Event
	Payload  json.RawMessage   `json:"payload"`
	Webhooks []event.Explained `json:"webhooks"`
}

// run explains a recorded event if there is no path, else a request.
func (c *explainCommand) run(ctx context.Context, stdout io.Writer) error {
	if c.Path != "" {
		return c.explain(stdout)
	}
	if len(c.Method) != eventDigits {
		return fmt.Errorf("name a method and a path, or the id of an event (%d digits), not %q", eventDigits, c.Method)
	}
	w := window{Config: c.Config}
	var e event.Explanation
	if err := w.read(ctx, "/api/events/"+url.PathEscape(c.Method)+"/explain", parameters(map[string]string{"webhook": c.Webhook}), &e); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(stdout, e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "event %s\n", e.Topic)
	if e.BeforeUnseen != "" {
		fmt.Fprintf(&b, "  before: %s\n", e.BeforeUnseen)
	}
	printExplained(&b, e.Webhooks)
	_, err := io.WriteString(stdout, printable(b.String()))
	return err
}

// eventDigits is the length of an event's id.
const eventDigits = 64

// explain says what would become of a request and its answer. It sends nothing.
func (c *explainCommand) explain(stdout io.Writer) error {
	config, err := loadConfig(c.Config, &c.runCommand)
	if err != nil {
		return err
	}
	e, err := c.explanation(rules.New(config.dialect, config.subscribers()).Truncating(int(config.Outbox.MaxPayload)), config.Outbox.Links)
	if err != nil {
		return err
	}
	if !c.JSON {
		return e.print(stdout)
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(e)
}

func (c *explainCommand) explanation(r *rules.Rules, links event.Links) (*explanation, error) {
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	body, err := copyOf(c.Request)
	if err != nil {
		return nil, err
	}
	if len(body.Bytes) > event.MaxIdentify {
		body = event.Copy{Err: "the request's body is larger than what is read of it"}
	}
	plan := r.Classify(head, links)
	if plan.Body {
		plan = r.Identify(head, body, links)
	}
	e := &explanation{Request: head.Method + " " + head.Path, Class: plan.Class.String()}
	e.Routes, e.Others = r.Tried(head, body)
	if plan.Class == event.Pass {
		return e, nil
	}
	now := time.Now().UTC()
	plan.Intent.ID, plan.Intent.Time = "explain", now
	if e.Status = c.Status; e.Status < 0 {
		e.Status = r.UsualStatus(plan.Intent)
	}
	x := &event.Exchange{Intent: plan.Intent, Status: e.Status, Time: now}
	if x.Answer, err = c.answer(e.Status); err != nil {
		return nil, err
	}
	if e.Status > 0 {
		x.Outcome = map[event.Verdict]event.Outcome{
			event.Doubt: event.Unknown, event.Accepted: event.Done, event.Rejected: event.Refused,
		}[plan.Judge.Judge(e.Status)]
	}
	e.Outcome = x.Outcome.String()
	e.Learned = r.Learn(x)
	if plan.Class != event.Write || x.Outcome == event.Refused {
		return e, nil
	}
	states, err := c.states(r, x, links)
	if err != nil {
		return nil, err
	}
	for _, one := range r.Derive(x, links, states) {
		webhooks := slices.DeleteFunc(r.Explain(&one, links), func(w event.Explained) bool { return c.Webhook != "" && w.Webhook != c.Webhook })
		e.Events = append(e.Events, explainedEvent{one, one.Payload, webhooks})
	}
	return e, nil
}

// states are what is said to be known of the entities.
func (c *explainCommand) states(r *rules.Rules, x *event.Exchange, links event.Links) (map[string]event.State, error) {
	before, err := copyOf(c.Before)
	if c.Before == "" || err != nil {
		return nil, err
	}
	if !json.Valid(before.Bytes) {
		return nil, fmt.Errorf("what is in %s is not JSON; --before wants a payload, or null", c.Before)
	}
	state := event.State{Payload: before.Bytes}
	if string(bytes.TrimSpace(before.Bytes)) == "null" {
		state = event.State{Gone: true}
	}
	states := map[string]event.State{}
	keys, _ := r.Recall(x, links)
	for _, key := range keys {
		states[key] = state
	}
	return states, nil
}

// answer is the body of the answer, as far as it is known.
func (c *explainCommand) answer(status int) (event.Copy, error) {
	if c.Response == "" && status != http.StatusNoContent {
		return event.Copy{Err: "explain was not given the answer (--response)"}, nil
	}
	return copyOf(c.Response)
}

// head is the head of the request that the flags describe.
func (c *explainCommand) head() (event.Head, error) {
	path, query, _ := strings.Cut(c.Path, "?")
	if !strings.HasPrefix(path, "/") {
		return event.Head{}, fmt.Errorf("the path must start with a slash, not %q", path)
	}
	headers := textproto.MIMEHeader{}
	for _, line := range c.Header {
		name, value, found := strings.Cut(line, ":")
		if !found {
			return event.Head{}, fmt.Errorf("want a header as 'Name: value', not %q", line)
		}
		headers.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return event.Head{Method: strings.ToUpper(c.Method), Path: path, Query: query, Headers: headers}, nil
}

// copyOf reads a file; without a name there is no body.
func copyOf(file string) (event.Copy, error) {
	if file == "" {
		return event.Copy{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return event.Copy{}, fmt.Errorf("the body can not be read: %w", err)
	}
	return event.Copy{Bytes: text}, nil
}

// print writes the explanation for people.
func (e *explanation) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is %s\n", e.Request, map[string]string{
		"pass": "passed on: it makes no event", "observe": "passed on, and its answer is looked at", "write": "a write",
	}[e.Class])
	for _, tried := range e.Routes {
		fmt.Fprintf(&b, "  route %s: %s\n", tried.Route, tried.Means)
	}
	if len(e.Routes) == 0 {
		fmt.Fprintf(&b, "  no route of the dialect has this method and path%s\n", either(len(e.Others) > 0, "; the path has "+strings.Join(e.Others, ", "), ""))
	}
	if e.Outcome != "" && e.Class == "write" {
		fmt.Fprintf(&b, "%s: %s\n", either(e.Status > 0, fmt.Sprint("status ", e.Status), "no answer"), map[string]string{
			"done": "it happened", "refused": "it did not happen",
			"unknown": "nobody knows; the entity is read if the dialect has a check, and then the event goes out unconfirmed",
		}[e.Outcome])
	}
	for _, link := range e.Learned {
		fmt.Fprintf(&b, "alias %s of space %s leads to %s\n", link.Alias, link.Space, either(link.Target != "", link.Target, "nothing: it is none"))
	}
	if e.Outcome == "done" && e.Class == "write" && len(e.Events) == 0 {
		b.WriteString("no event: no action of the route applies\n")
	}
	for i := range e.Events {
		e.Events[i].print(&b)
	}
	_, err := io.WriteString(out, printable(b.String()))
	return err
}

func (e *explainedEvent) print(b *strings.Builder) {
	fmt.Fprintf(b, "event %s%s\n", e.Topic(), either(e.Accepted, " (accepted: the CMS does it later)", ""))
	for _, fact := range [][2]string{
		{"entity", e.Entity.ID}, {"content type", e.Entity.ContentType}, {"locale", e.Entity.Locale}, {"space", e.Space},
		{"environment", e.Environment}, {"alias of", e.Target}, {"actor", e.Actor}, {"not seen", e.Partial}, {"not usable", e.PayloadError},
		{"payload", shorten(string(e.Payload))},
	} {
		if fact[1] != "" {
			fmt.Fprintf(b, "  %-12s %s\n", fact[0], fact[1])
		}
	}
	printExplained(b, e.Webhooks)
}

func printExplained(b *strings.Builder, webhooks []event.Explained) {
	for _, w := range webhooks {
		answer := w.Answer
		if answer == "undecided" {
			answer += either(w.Called, ", so it is called", "")
		}
		fmt.Fprintf(b, "  webhook %s: %s%s\n", w.Webhook, answer, either(w.Reason != "", ": "+w.Reason, ""))
		if w.Part == "" {
			continue
		}
		fmt.Fprintf(b, "    decided by %s\n", w.Part)
		for _, reading := range w.Reads {
			fmt.Fprintf(b, "    %s is %s\n", reading.Path, either(reading.State == "present", reading.Value, reading.State))
		}
	}
}

func shorten(text string) string {
	if len(text) <= 200 {
		return text
	}
	return strings.ToValidUTF8(text[:200], "") + fmt.Sprintf("... (%d bytes; --json shows all)", len(text))
}

// checkDialect checks a dialect's file alone.
func checkDialect(file string, stdout io.Writer) error {
	if !strings.ContainsRune(file, '/') && !slices.Contains(rules.Builtin(), file) {
		file = "./" + file
	}
	d, err := rules.LoadDialect(file)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\ntopics: %s\n", d.Summary(), strings.Join(d.Topics(), ", "))
	return err
}
