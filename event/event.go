// Package event is cmstap's vocabulary: the plain values that travel from hop
// to hop. It imports the standard library only, and every other package
// imports it; none of them imports another.
//
// A write goes through it like this: a Head is classified, an Intent is made
// durable, the round trip makes it an Exchange with an Outcome, rules turn
// that into Events, each wanted by some webhooks (Captured), and each pair of
// event and webhook is a Delivery that Attempts settle.
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Event says that one entity of the CMS changed. All times are UTC.
type Event struct {
	// ID is 64 lower-case hex digits, a SHA-256 made by NewID. It is the same
	// however the event came to be known, so receivers drop duplicates by it.
	ID string `json:"id"`
	// Seq is the event's place in commit order, given by the outbox, from 1.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`

	Type   string `json:"type"`   // Entry
	Action string `json:"action"` // publish

	Space       string `json:"space,omitempty"`
	Environment string `json:"environment,omitempty"` // as the caller addressed it
	Alias       string `json:"alias,omitempty"`       // set if that was an alias
	Target      string `json:"target,omitempty"`      // what it resolves to, if known
	// EnvironmentUnseen says why Environment is not known, where only the
	// CMS's answer could tell; an event that belongs to no environment has
	// neither.
	EnvironmentUnseen string `json:"environment_unseen,omitempty"`

	Entity Entity `json:"entity"`
	Actor  string `json:"actor,omitempty"` // the user id, where the CMS names one

	// Confirmed is false if nobody saw the CMS accept the write, for example
	// because cmstap was killed before the answer came.
	Confirmed bool `json:"confirmed"`
	// Accepted is true if the CMS only took the request: it does the work later,
	// and nobody learns whether it did.
	Accepted bool `json:"accepted,omitempty"`
	// Late is true if a newer version of the entity was seen before.
	Late bool `json:"late,omitempty"`
	// Gone is true if the entity is no more; another one may get its id, and
	// its versions start anew.
	Gone bool `json:"gone,omitempty"`

	// Payload is the entity in the CMS's own form: a JSON text, never changed
	// after it was made. The outbox stores it apart from the rest.
	Payload json.RawMessage `json:"-"`
	// Partial says why Payload does not hold all that the CMS knows of the
	// entity ("no answer was seen"); empty if it does. A filter that reads
	// what a partial payload lacks can not be decided.
	Partial string `json:"partial,omitempty"`
	// Gaps are the dotted paths that Payload lacks because they would tell what
	// the entity was before, and that is not known.
	Gaps []string `json:"gaps,omitempty"`
	// Shows says what the event tells of the entity as it is now.
	Shows Shows `json:"shows,omitempty"`
	// Before is the payload of the entity's last event that showed it: what it
	// was before. It is null if it is known that there was none, and empty if it
	// is not known; BeforeUnseen says why then. The outbox does not store it.
	Before       json.RawMessage `json:"-"`
	BeforeUnseen string          `json:"before_unseen,omitempty"`
	// BeforeEvent is the id of the event whose payload Before is, NoEvent if it is
	// known that there was no entity, and empty if neither is known. It is kept
	// whether anybody asks for Before or not.
	BeforeEvent string `json:"before_event,omitempty"`
	// Changes are the dotted paths of what differs between Before and the
	// entity as it is now, sorted; ChangesUnseen says why they are not known.
	// They are made only if somebody asks for them.
	Changes       []string `json:"changes,omitzero"`
	ChangesUnseen string   `json:"changes_unseen,omitempty"`
	// Truncated is true if the entity is too large to be kept: Payload only names it.
	Truncated bool `json:"truncated,omitempty"`
	// PayloadError says why the CMS's answer could not be used; the event
	// then has the identity that the request's head gave.
	PayloadError string `json:"payload_error,omitempty"`

	Native  Native  `json:"native"`
	Request Request `json:"request"`
	Cause   string  `json:"cause,omitempty"` // bulk, release, schedule
}

// NoEvent is the BeforeEvent of an entity that was not there before.
const NoEvent = "none"

// Shows says what an event tells of its entity as it is now.
type Shows uint8

// What an event may tell.
const (
	ShowsNothing Shows = iota // nobody knows it any more
	ShowsAll                  // the payload is all of it
	ShowsSame                 // it is what it was, but for its version
)

// Entity is the identity of what changed.
type Entity struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"` // empty if the CMS chose it and no answer was seen
	// Within is the id of what it is part of, where its own is unique only there.
	Within      string `json:"within,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Locale      string `json:"locale,omitempty"` // only where locales are entities of their own
	Version     int64  `json:"version,omitempty"`
}

// Request is what an event keeps of the request behind it. Query strings,
// credentials and bodies are never kept.
type Request struct {
	Method      string `json:"method"`
	Path        string `json:"path"`
	ID          string `json:"id"` // the intent's id
	Traceparent string `json:"traceparent,omitempty"`
	UserAgent   string `json:"user_agent,omitempty"`
}

// Native is the form in which the CMS's own webhooks would send the event.
type Native struct {
	ContentType string   `json:"content_type,omitempty"`
	Headers     []Header `json:"headers,omitempty"`
}

// Header is a header of a webhook call. If PerCall is set, the value is known
// only when a call is made.
type Header struct {
	Name    string  `json:"name"`
	Value   string  `json:"value,omitempty"`
	PerCall PerCall `json:"per_call,omitempty"`
}

// PerCall names a value that differs from call to call.
type PerCall string

// The values that a native header can take from the call.
const (
	CallWebhook PerCall = "webhook" // the webhook's name
	CallAttempt PerCall = "attempt" // the attempt's number, from 1
)

// Topic is Type.Action, for example Entry.publish.
func (e *Event) Topic() string { return e.Type + "." + e.Action }

// Resolved is the environment, or the one that it is an alias of where that is
// known.
func (e *Event) Resolved() string {
	if e.Environment != "" && e.Target != "" {
		return e.Target
	}
	return e.Environment
}

// Key identifies the entity, by the environment that an alias leads to where
// that is known. Events of one key reach a webhook in order.
func (e *Event) Key() string {
	return e.key(e.Resolved())
}

// Address identifies the entity as the caller addressed it: unlike Key it does
// not change when an alias does.
func (e *Event) Address() string {
	return e.key(e.Environment)
}

func (e *Event) key(environment string) string {
	id := e.Entity.ID
	if e.Entity.Within != "" {
		id = e.Entity.Within + "/" + id
	}
	return Key(e.Space, environment, e.Entity.Type, id, e.Entity.Locale)
}

// Key joins what identifies an entity.
func Key(space, environment, typ, id, locale string) string {
	return joined(space, environment, typ, id, locale)
}

// KeysOf is what the keys of all entities of an environment start with.
func KeysOf(p Place) string { return joined(p.Space, p.Name) }

// NewID returns an event's id: the SHA-256, in lower-case hex, over the
// intent's id, the topic, the entity's address and the occurrence (0 for the
// first such event of an exchange). The answer, a restart and a replay give
// the same id.
func NewID(intent, topic, address string, occurrence int) string {
	sum := sha256.Sum256([]byte(joined(intent, topic, address, strconv.Itoa(occurrence))))
	return hex.EncodeToString(sum[:])
}

// joined keeps ("a", "bc") and ("ab", "c") apart by writing each part's length
// before it.
func joined(parts ...string) string {
	var b []byte
	for _, part := range parts {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(b, ':')
		b = append(b, part...)
	}
	return string(b)
}
