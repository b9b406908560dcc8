package event

import (
	"fmt"
	"time"
)

// Refusal says why what an operator asked for was not done. It is no fault of
// the store.
type Refusal struct {
	Status int // Invalid, NotFound or Conflict
	Text   string
}

// The statuses of refusals, as HTTP has them (RFC 9110 section 15.5).
const (
	Invalid  = 400 // what was asked for makes no sense
	NotFound = 404 // there is no such webhook or event
	Conflict = 409 // it can not be done now
)

// Refuse returns a Refusal.
func Refuse(status int, format string, args ...any) error {
	return Refusal{status, fmt.Sprintf(format, args...)}
}

// Error returns the text.
func (r Refusal) Error() string { return r.Text }

// Redelivery says why an event goes to a webhook (again).
type Redelivery string

// The kinds of redelivery; "" is a delivery that follows from a write.
const (
	Resend Redelivery = "resend" // an operator asked for the delivery
	Replay Redelivery = "replay" // the event went through the config once more
	Trial  Redelivery = "test"   // the event was made up to try the webhook
)

// Resent is a delivery that an operator made due.
type Resent struct {
	Event   string `json:"event"` // its id
	Webhook string `json:"webhook"`
}

// Tally says how far a work on many deliveries is.
type Tally struct {
	Events     int `json:"events"`     // that were looked at
	Deliveries int `json:"deliveries"` // that were found, or made due
	// Waiting are those that are on their way already, and were left as they are.
	Waiting int `json:"waiting,omitempty"`
	// Time is that of the last event that was looked at; UTC.
	Time time.Time `json:"time,omitzero"`
	Done bool      `json:"done"`
}

// Difference is a delivery that only one of two configs makes.
type Difference struct {
	Event   string    `json:"event"` // its id
	Time    time.Time `json:"time"`
	Topic   string    `json:"topic"`
	Entity  string    `json:"entity"`
	Webhook string    `json:"webhook"`
	Change  string    `json:"change"` // appears or disappears
}

// Comparison says what another config would have made of recorded events.
type Comparison struct {
	Events    int `json:"events"`    // that were looked at
	Same      int `json:"same"`      // deliveries that both configs make
	Appear    int `json:"appear"`    // those that only the other one makes
	Disappear int `json:"disappear"` // those that only the one that runs makes
	// Undecided are events for which the other config can not be decided for a
	// webhook at least; by on_unknown they count as delivered or not.
	Undecided int `json:"undecided"`
	// Differences are the first of them, in commit order; Cut tells that there are
	// more.
	Differences []Difference `json:"differences"`
	Cut         bool         `json:"cut,omitempty"`
	Time        time.Time    `json:"time,omitzero"` // of the last event that was looked at; UTC
	Done        bool         `json:"done"`
}

// Explained says whether a webhook wants an event, and the part of its filter
// that decided.
type Explained struct {
	Webhook string    `json:"webhook"`
	Answer  string    `json:"answer"` // yes, no or undecided
	Called  bool      `json:"called"`
	Reason  string    `json:"reason,omitempty"`
	Part    string    `json:"part,omitempty"`
	Reads   []Reading `json:"reads,omitempty"`
}

// Reading is what a part of a filter read.
type Reading struct {
	Path  string `json:"path"`
	State string `json:"state"`           // present, missing, unknown or failed
	Value string `json:"value,omitempty"` // as JSON, cut after 100 bytes
}

// Explanation says what the webhooks of the config that runs make of a recorded
// event.
type Explanation struct {
	Event string `json:"event"` // its id
	Topic string `json:"topic"`
	// BeforeUnseen says why it is not known what the entity was; "" if it is.
	BeforeUnseen string      `json:"before_unseen,omitempty"`
	Webhooks     []Explained `json:"webhooks"`
}

// News is what happened just now: an event that was stored, or a call that ended.
type News struct {
	// ID tells from where on a reader that comes back wants the rest; it may be empty.
	ID    string
	Event *Recorded
	Call  *Call
	// Missed are those before it that nobody read in time.
	Missed int
}

// Tail follows what happens.
type Tail struct {
	// Earlier is what happened since the place where the reader was.
	Earlier []News
	// News never closes; it is read until Stop.
	News <-chan News
	Stop func()
}
