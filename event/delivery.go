package event

import "time"

// Captured is an event and who wants it.
type Captured struct {
	Event Event
	Want  []Want
}

// Want says that a webhook wants an event.
type Want struct {
	Webhook string `json:"webhook"`
	// Undecided says why the filter could not be decided; doubt delivers.
	Undecided string `json:"undecided,omitempty"`
}

// Delivery is one event on its way to one webhook.
type Delivery struct {
	Want
	Event    *Event
	Attempts int       // made so far
	Due      time.Time // when the next attempt may start; UTC
	// Redelivery says why the event goes to the webhook once more.
	Redelivery Redelivery
}

// Attempt is one call of a webhook, as the log and the activity log show it.
type Attempt struct {
	Number   int           `json:"number"` // from 1
	Time     time.Time     `json:"time"`   // when it started; UTC
	Duration time.Duration `json:"duration"`
	Status   int           `json:"status,omitempty"` // 0 if there was no answer
	Error    string        `json:"error,omitempty"`
	// Answer is how the body of an answer begins.
	Answer string `json:"answer,omitempty"`
	// Wire is the call itself; the outbox stores it apart from the rest. It is nil
	// if no call was made.
	Wire *Wire `json:"-"`
}

// Settlement is how an attempt ended and what follows.
type Settlement struct {
	Attempt Attempt
	Result  Result
	Wait    time.Duration // for Retry: until the next attempt, from now on
	Reason  string        // for GiveUp: why
}

// Result is what a judged attempt means for its delivery.
type Result uint8

// The results.
const (
	Delivered Result = iota
	Retry
	GiveUp
)

// String returns the result's name as logs have it.
func (r Result) String() string { return [...]string{"delivered", "retrying", "failed"}[r] }
