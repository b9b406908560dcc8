package event

import (
	"encoding/json"
	"time"
)

// Headers reads request headers by name, ignoring case. A missing header is "".
type Headers interface{ Get(name string) string }

// Head is a request's head, as far as rules look at it. It is valid only
// during the call that it was handed to.
type Head struct {
	Method  string
	Path    string // as sent, without the query
	Query   string // without the question mark
	Headers Headers
}

// Class says what a request means for the tap.
type Class uint8

// The classes, from cheapest to dearest.
const (
	Pass    Class = iota // stream it, copy nothing
	Observe              // keep a bounded copy of the answer; no intent, no delay
	Write                // make an intent durable before it is forwarded
)

// String returns the class's name.
func (c Class) String() string { return [...]string{"pass", "observe", "write"}[c] }

// Plan is what rules decided about a request from its head alone.
type Plan struct {
	Class Class
	// Body is set if only the body tells; nothing else but Class is, then.
	Body   bool
	Intent *Intent // unless it is to Pass: all but ID and Time
	Judge  Judge   // unless it is to Pass
	// Credentials names the request headers of a Write that let its caller
	// read. They are kept in memory, to ask the CMS if the outcome is in doubt.
	Credentials []string
}

// MaxIdentify bounds what is read of a request's body to know what it means, in
// bytes.
const MaxIdentify = 256 << 10

// Judge tells what an answer's status means for a write. It never looks at
// bodies.
type Judge interface{ Judge(status int) Verdict }

// Verdict is what a status says about a write.
type Verdict uint8

// The verdicts.
const (
	Doubt    Verdict = iota // it may or may not have happened
	Accepted                // it happened
	Rejected                // it did not happen
)

// Intent is the durable note that a write is under way. It holds no credential,
// and of query and body only what the dialect names.
type Intent struct {
	ID      string    `json:"id"` // a UUID version 7
	Time    time.Time `json:"time"`
	Dialect string    `json:"dialect"`
	Method  string    `json:"method"`
	Path    string    `json:"path"` // as sent, without the query
	Route   string    `json:"route"`
	// Entity is the entity's Key as far as the head gives it; "" if the CMS
	// chooses the id.
	Entity string `json:"entity,omitempty"`
	// Target is the environment that the one of the path led to, if that was
	// known to be an alias.
	Target string `json:"target,omitempty"`
	// Host is the host that the caller addressed, where the CMS gets that one.
	Host string `json:"host,omitempty"`
	// Last is what was known of the entity's last event.
	Last Last `json:"last,omitzero"`
	// Headers holds the request headers that the dialect asks for, by the
	// names it gives them ("version"); never a credential.
	Headers map[string]string `json:"headers,omitempty"`
	// Query holds the same of the query, and Body, a JSON object, of the body.
	// BodyUnseen says why the body could not be read.
	Query       map[string]string `json:"query,omitempty"`
	Body        json.RawMessage   `json:"body,omitempty"`
	BodyUnseen  string            `json:"body_unseen,omitempty"`
	Traceparent string            `json:"traceparent,omitempty"`
	UserAgent   string            `json:"user_agent,omitempty"`
	// Job is set for what the CMS accepted and does later: the intent is open
	// until its result is known.
	Job *Job `json:"job,omitempty"`
	// Unrecorded is set if the intent could not be made durable and the write
	// passes all the same.
	Unrecorded bool `json:"-"`
}

// Outcome names how a forward ended. Only rules and the resolver act on it.
type Outcome uint8

// The five outcomes, and what becomes of the intent.
const (
	Unknown Outcome = iota // no whole answer, or one that leaves doubt: kept for the resolver
	NotSent                // no byte reached the CMS: dropped
	Cut                    // the client never finished its body: dropped
	Refused                // the whole answer says no: dropped
	Done                   // the whole answer says yes: committed
)

// String returns the outcome's name as logs have it.
func (o Outcome) String() string {
	return [...]string{"unknown", "not_sent", "cut", "refused", "done"}[o]
}

// Exchange is one request as far as it was seen.
type Exchange struct {
	Intent  *Intent
	Outcome Outcome
	Status  int // 0 if there was no answer
	Answer  Copy
	// Location is the answer's header of that name.
	Location string
	Time     time.Time // when the answer was complete, or the doubt arose; UTC
	// Credentials are the headers of a write that let its caller read.
	Credentials Credentials
	// Resolved is set if nobody saw the answer, but the entity showed later
	// that the write was done. Answer is the entity as it was read then, and
	// Version the one that the write made, if that is known.
	Resolved bool
	Version  int64
	// Read holds what was read besides, once a job was done, by path.
	Read map[string]Copy
	// Before is the entity as it was read before the forward, if it was.
	Before *Finding
}

// Copy is a bounded copy of a body, its content coding undone.
type Copy struct {
	Bytes []byte
	Err   string // why Bytes is not the whole body, "" if it is
	Cut   bool   // the body is larger than what is kept of one
}

// Finding is an entity as cmstap read it, to settle a doubt or before a write.
type Finding struct {
	Status int // of the CMS's answer
	Entity Copy
	// Began is when the write began by the CMS's clock, or a little earlier;
	// zero if that is not known.
	Began time.Time
	// Last is what is known of the entity's last event now.
	Last Last
}

// Job is a work that the CMS promised to do.
type Job struct {
	ID    string    `json:"id"`
	Poll  string    `json:"poll"`  // the path of its result
	Until time.Time `json:"until"` // when it is given up: then nobody knows
}

// Last is what is kept of an entity's events.
type Last struct {
	Version int64 `json:"v"` // the newest; 0 if there is none
	Count   int64 `json:"n"` // the versions that had an event, since the first
	// Seq is the number of the last event that said what the entity is; 0 if
	// there is none.
	Seq uint64 `json:"seq,omitempty"`
	// Known is whether it is kept what the entity is, or that it is gone.
	Known bool `json:"k,omitempty"`
}

// State is an entity as its events left it.
type State struct {
	Last
	ContentType string
	Gone        bool
	// Shown is the id of the event that showed the entity; "" if what it is now is
	// not known.
	Shown string
	// Payload is that of the last event that showed the entity; nil if what it
	// is now is not known.
	Payload json.RawMessage
}

// Newer tells whether the state is of a later version than an answer, whose
// write began when since was the entity's last event. An older version in the
// answer to a write that began later is no contradiction: the entity was
// restored, or is another one of that id.
func (s *State) Newer(version int64, since Last) bool {
	return version > 0 && version < s.Version && s.Seq != since.Seq
}

// Credentials are headers that must not be kept on disk or shown.
type Credentials map[string]string

// String returns "<secret>".
func (Credentials) String() string { return "<secret>" }

// GoString returns "<secret>" for %#v.
func (Credentials) GoString() string { return "<secret>" }

// MarshalText returns "<secret>", so that no encoder shows the values.
func (Credentials) MarshalText() ([]byte, error) { return []byte("<secret>"), nil }
