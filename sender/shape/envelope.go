package shape

import (
	"encoding/json"
	"net/url"
	"time"

	"cmstap/event"
)

// envelope is cmstap's own form of an event. docs/envelope.schema.json
// describes it; what is not known is left out.
type envelope struct {
	Envelope    int             `json:"envelope"` // the version of the form
	ID          string          `json:"id"`
	Time        time.Time       `json:"time"`
	Topic       string          `json:"topic"`
	Type        string          `json:"type"`
	Action      string          `json:"action"`
	Space       string          `json:"space,omitempty"`
	Environment string          `json:"environment,omitempty"`
	Alias       string          `json:"alias,omitempty"`
	Target      string          `json:"target,omitempty"`
	Entity      event.Entity    `json:"entity"`
	Actor       string          `json:"actor,omitempty"`
	Cause       string          `json:"cause,omitempty"`
	Confirmed   bool            `json:"confirmed"`
	Accepted    bool            `json:"accepted"`
	Late        bool            `json:"late"`
	Truncated   bool            `json:"truncated"`
	Undecided   string          `json:"undecided,omitempty"`
	Partial     string          `json:"partial,omitempty"` // why the payload is not all
	Changes     []string        `json:"changes,omitzero"`
	Request     envelopeRequest `json:"request"`
	Payload     json.RawMessage `json:"payload"`
}

// envelopeRequest is the request behind an event.
type envelopeRequest struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	UserAgent string `json:"user_agent,omitempty"`
}

func envelopeOf(d event.Delivery) ([]byte, error) {
	e := d.Event
	partial := e.Partial
	if e.PayloadError != "" {
		partial = e.PayloadError
	}
	payload := e.Payload
	if len(payload) == 0 {
		payload = nil // it becomes null
	}
	return toJSON(envelope{
		Envelope: 1, ID: e.ID, Time: e.Time.UTC(), Topic: e.Topic(), Type: e.Type, Action: e.Action,
		Space: e.Space, Environment: e.Environment, Alias: e.Alias, Target: e.Target, Entity: e.Entity, Actor: e.Actor, Cause: e.Cause,
		Confirmed: e.Confirmed, Accepted: e.Accepted, Late: e.Late, Truncated: e.Truncated, Undecided: d.Undecided, Partial: partial,
		Changes: e.Changes, Request: envelopeRequest{e.Request.Method, e.Request.Path, e.Request.UserAgent}, Payload: payload,
	})
}

// cloudEvent is an event in the JSON format of CloudEvents 1.0
// (github.com/cloudevents/spec, cloudevents/formats/json-format.md).
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
}

func cloudEventOf(e *event.Event) ([]byte, error) {
	c := cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: "/cmstap", Type: e.Topic(), Subject: e.Entity.ID, Time: e.Time.UTC(), Data: e.Payload,
	}
	for _, part := range []string{e.Space, e.Environment} {
		if part != "" {
			c.Source += "/" + url.PathEscape(part)
		}
	}
	if len(e.Payload) > 0 {
		c.DataContentType = typeJSON
	}
	return toJSON(c)
}
