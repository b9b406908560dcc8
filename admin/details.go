package admin

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"

	"cmstap/event"
)

// none says that there is no such call or event.
var none = event.Refuse(event.NotFound, "There is none of that id; it may be past its retention (outbox.retention).")

// called is a call, and all calls of its delivery.
type called struct {
	Call   event.Call
	Items  []event.Call
	Newest bool
}

// call shows one call, and the others of its delivery.
func (p *pages) call(r *http.Request) (page, error) {
	call, found, err := p.Store.Call(r.PathValue("id"))
	if err != nil || !found {
		return page{}, cmp.Or(err, none)
	}
	story, _, err := p.Store.Story(call.Event)
	others := func(c event.Call) bool { return c.Webhook != call.Webhook }
	return page{name: "call", Title: "Call of " + call.Webhook, Data: called{Call: call, Items: slices.DeleteFunc(story.Calls, others)}}, err
}

// told is an event with all that is known of it.
type told struct {
	Story   event.Story
	Items   []event.Call
	Newest  bool
	Payload string
	Diff    []change
	NoDiff  string // why there is none
}

// event shows one event, what it changed, and what became of it.
func (p *pages) event(r *http.Request) (page, error) {
	story, found, err := p.Store.Story(r.PathValue("id"))
	if err != nil || !found {
		return page{}, cmp.Or(err, none)
	}
	data := told{Story: story, Items: story.Calls, Payload: string(story.Content)}
	switch {
	case story.Content == nil:
		data.NoDiff = "The payload is not shown here, so nothing is compared."
	case story.Before == nil:
		data.NoDiff = "What it was before is not known"
		if story.BeforeUnseen != "" {
			data.NoDiff += ": " + story.BeforeUnseen
		}
		data.NoDiff += "."
	case string(story.Before) == "null":
		data.NoDiff = "There was nothing before."
	default:
		data.Diff, data.NoDiff = diffOf(story.Before, story.Content)
	}
	return page{name: "event", Title: title(story.Topic, story.Entity.ID), Data: data}, nil
}

// title names an event.
func title(topic, entity string) string {
	if entity == "" {
		return topic
	}
	return topic + " of " + entity
}

// why shows what the webhooks make of an event.
func (p *pages) why(r *http.Request) (page, error) {
	explanation, err := p.Operator.Explain(r.PathValue("id"), r.URL.Query().Get("webhook"))
	return page{name: "why", Title: "Why " + explanation.Topic + " went where it did", Data: explanation}, err
}

// resend sends an event to a webhook again.
func (p *pages) resend(r *http.Request) (next string, err error) {
	id := r.PathValue("id")
	_, err = p.Operator.Resend(r.Context(), id, r.PostFormValue("webhook"))
	return "/events/" + url.PathEscape(id) + "?done=resend", err
}
