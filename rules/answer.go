package rules

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// wrappedConfig says of which requests the answer holds status and body of the
// one that counts.
type wrappedConfig struct {
	When   string `yaml:"when"`
	Status string `yaml:"status"`
	Answer string `yaml:"answer"`

	when, status, answer *expression.Program
}

var wrappedRoots = []string{"path", "header", "query", "uri", "status", "response"}

func (c *wrappedConfig) compile(check place) {
	if *c == (wrappedConfig{}) {
		return
	}
	for key, source := range map[string]string{"when": c.When, "status": c.Status, "answer": c.Answer} {
		if source == "" {
			check.Add(key, "wrapped needs when, status and answer")
			return
		}
	}
	c.when = compile(check, "when", c.When, wrappedRoots, true)
	c.status = compile(check, "status", c.Status, wrappedRoots, false)
	c.answer = compile(check, "answer", c.Answer, wrappedRoots, false)
}

// unwrap returns the exchange with the answer that counts, nil if that says that
// nothing happened. One that can not be read stays as it is.
func (r *Rules) unwrap(x *event.Exchange, of *route) *event.Exchange {
	c := &r.dialect.Wrapped
	if c.when == nil || x.Outcome != event.Done {
		return x
	}
	roots := r.dialect.rootsOf(x.Intent, of)
	roots["status"] = x.Status
	roots["response"], _ = of.answerOf(x)
	v := expression.NewScope(roots)
	if !c.when.Run(v).True() {
		return x
	}
	text, _, _ := c.status.JSON(v)
	status, err := strconv.Atoi(string(text))
	answer, state, _ := c.answer.JSON(v)
	if err != nil || state != expression.Present {
		return x
	}
	if of.Judge(status) == event.Rejected {
		return nil
	}
	inner := *x
	inner.Status, inner.Answer = status, event.Copy{Bytes: answer}
	return &inner
}

// The forms that an answer may have.
const (
	formatJSON        = "json"
	formatText        = "text"
	formatEventStream = "event-stream"
)

func checkFormat(check place, format string) string {
	known := []string{formatJSON, formatText, formatEventStream}
	if format != "" && !slices.Contains(known, format) {
		check.Add("format", "must be %s", strings.Join(known, ", "))
	}
	return format
}

// answerOf is the answer as expressions see it, in the form that the route says
// that it has.
func (r *route) answerOf(x *event.Exchange) (response expression.Document, problem string) {
	if x.Outcome != event.Done || x.Answer.Err != "" || len(x.Answer.Bytes) == 0 {
		return answerOf(x)
	}
	switch r.format {
	case formatText:
		text, _ := json.Marshal(strings.ToValidUTF8(string(x.Answer.Bytes), "\uFFFD"))
		return whole(text), ""
	case formatEventStream:
		return whole(messagesOf(x.Answer.Bytes)), ""
	default:
		return answerOf(x)
	}
}

// messagesOf are the messages of a text/event-stream: a list of objects with
// event and data, which is a text if it is not JSON. One without the empty line
// that ends it does not count.
func messagesOf(stream []byte) []byte {
	messages := []map[string]any{}
	kind, data := "message", []string(nil)
	for line := range bytes.Lines(stream) {
		if line[len(line)-1] != '\n' {
			break
		}
		name, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ":")
		value = strings.ToValidUTF8(strings.TrimPrefix(value, " "), "\uFFFD")
		switch {
		case name == "event":
			kind = value
		case name == "data":
			data = append(data, value)
		case name == "" && value == "" && data != nil:
			messages = append(messages, map[string]any{"event": kind, "data": messageData(strings.Join(data, "\n"))})
			kind, data = "message", nil
		}
	}
	text, _ := json.Marshal(messages)
	return text
}

func messageData(text string) any {
	if jsonProblem([]byte(text)) == "" {
		return json.RawMessage(text)
	}
	return text
}

// addLocation adds the answer's header Location; without one it is missing.
func addLocation(roots map[string]any, x *event.Exchange) {
	switch {
	case x.Outcome != event.Done, x.Resolved:
		roots["location"] = expression.Document{Why: "no answer was seen"}
	case x.Location != "":
		roots["location"] = x.Location
	}
}
