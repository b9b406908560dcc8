package event

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrCursor says that a query has a cursor that no page had.
var ErrCursor = errors.New("the cursor is not one of an earlier page")

// Wire is what went over the wire in an attempt, without what is secret.
type Wire struct {
	Method string `json:"method"`
	// URL is scheme and host; what follows may be secret.
	URL     string   `json:"url"`
	Headers []Header `json:"headers"`
	// Bytes is the size of the request's body, which is not kept. Body is its
	// beginning, up to 64 KiB, made again from the event where one call is asked for;
	// it is empty if the settings or the event make another body now, or if the call
	// had many events.
	Bytes int64  `json:"bytes"`
	Body  string `json:"body,omitempty"`
	// AnswerHeaders and Answer are the answer's, of its body the first 4 KiB.
	AnswerHeaders []Header `json:"answer_headers,omitempty"`
	Answer        string   `json:"answer,omitempty"`
}

// Call is one attempt as the operator sees it.
type Call struct {
	ID          string    `json:"id"` // 48 lower-case hex digits
	Webhook     string    `json:"webhook"`
	Event       string    `json:"event"` // its id
	Topic       string    `json:"topic"`
	Entity      string    `json:"entity"` // its id; empty if nobody knows it
	Environment string    `json:"environment"`
	Attempt     int       `json:"attempt"` // from 1
	Time        time.Time `json:"time"`    // when it started; UTC
	Duration    float64   `json:"duration_ms"`
	Status      int       `json:"status"` // 0 if there was no answer
	Error       string    `json:"error,omitempty"`
	Result      string    `json:"result"` // as Result.String has it
	// Wire is set only where one call is asked for, and not of calls that an
	// older version made.
	Wire *Wire `json:"wire,omitempty"`
}

// Query selects calls or events, the newest first. What is empty selects all.
type Query struct {
	Webhook     string // of calls
	Topic       string // for example Entry.publish
	Entity      string // its id
	Environment string // as the caller addressed it
	Result      string // of calls: delivered, retrying or failed
	Status      string // of calls: a status (404), a class (4xx), or none
	// Text is looked for in topic, entity, event id and error, in upper or lower
	// case.
	Text  string
	Since time.Time // inclusive
	Until time.Time // exclusive
	// Cursor is where an earlier page ended.
	Cursor string
	Limit  int // items of a page, at least 1
}

// NoStatus selects calls that had no answer.
const NoStatus = "none"

// HasStatus tells whether the query selects calls with a status; 0 is that of a call
// without an answer.
func (q Query) HasStatus(status int) bool {
	switch {
	case q.Status == "":
		return true
	case q.Status == NoStatus:
		return status == 0
	case strings.HasSuffix(q.Status, "xx"):
		return q.Status == strconv.Itoa(status/100)+"xx"
	}
	return q.Status == strconv.Itoa(status)
}

// Page is a part of an answer to a query.
type Page[T any] struct {
	Items []T `json:"items"`
	// Cursor asks for the rest; it is empty if there is none. A page may be short
	// or empty and have one: what one page may cost is bounded.
	Cursor string `json:"cursor,omitempty"`
}

// Recorded is a stored event and the webhooks that wanted it.
type Recorded struct {
	Event
	Topic    string   `json:"topic"`
	Webhooks []string `json:"webhooks"`
}

// Story is all that is known of one event.
type Story struct {
	Recorded
	// Content is the payload, unless it is larger than 1 MiB.
	Content      json.RawMessage `json:"payload,omitempty"`
	PayloadBytes int             `json:"payload_bytes"`
	Deliveries   []Progress      `json:"deliveries"`
	// Before is the payload of the entity's last event before this one, under the
	// same limit; absent if that is not known. BeforeUnseen says why then.
	Before json.RawMessage `json:"before,omitempty"`
	Calls  []Call          `json:"calls"` // oldest first, 1,000 at most
}

// Progress is how far a delivery is.
type Progress struct {
	Webhook string `json:"webhook"`
	// State is waiting (no attempt was made), retrying, delivered, failed, or gone:
	// skipped, dropped, longer ago than calls are kept, or delivered by a version
	// that did not note it.
	State     string    `json:"state"`
	Attempts  int       `json:"attempts"`
	Next      time.Time `json:"next,omitzero"`    // when it is due; UTC
	Reason    string    `json:"reason,omitempty"` // why it was given up
	Undecided string    `json:"undecided,omitempty"`
}

// Backlog is what a webhook has before it and behind it.
type Backlog struct {
	Webhook string `json:"webhook"`
	Waiting int    `json:"waiting"` // deliveries without a result
	// Oldest is when the event happened that has waited longest, or when it was due
	// if it is sent again; of more than 20,000 deliveries that are tried again it may
	// be a later one.
	Oldest time.Time `json:"oldest_waiting,omitzero"`
	Dead   int       `json:"dead"`   // given up and still kept
	Parked bool      `json:"parked"` // the config has no webhook of the name
	Paused bool      `json:"paused"` // by an operator
	// NextRetry is when the next delivery that failed is due; UTC. The breaker or
	// a pause may hold it back longer.
	NextRetry time.Time `json:"next_retry,omitzero"`
	// Breaker is closed, open or half_open; empty if the webhook is parked.
	Breaker string `json:"breaker,omitempty"`
	// Recent are the results of the last 50 calls since the start, oldest first.
	Recent []string `json:"recent,omitempty"`
}
