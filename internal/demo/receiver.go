package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Call is one webhook call that arrived in full.
type Call struct {
	Time   time.Time
	Method string
	Path   string
	Query  string // as sent, without the question mark
	Header http.Header
	Body   []byte
	// Number counts the calls to this path, from 1.
	Number int
}

// Reply is how the receiver answers a call. The zero value is an empty 200.
type Reply struct {
	Status int // 0 means 200
	Header http.Header
	Body   []byte
	Hang   bool // answer nothing until the caller gives up
	Reset  bool // reset the connection
}

// ReceiverOptions are the outside influences on a Receiver. The zero value is ready to use.
type ReceiverOptions struct {
	// Now is the clock behind Call.Time. Nil means time.Now.
	Now func() time.Time
	// Respond decides the reply to a call, which is already recorded. It may block: nothing is locked. Nil means 200.
	Respond func(call Call) Reply
}

// Receiver is a sample webhook receiver: it records every call and answers as told. It is safe for concurrent use.
type Receiver struct {
	options ReceiverOptions

	mu      sync.Mutex
	calls   []Call
	numbers map[string]int
	changed chan struct{} // closed and replaced with every call
}

// NewReceiver returns a receiver that was not called yet.
func NewReceiver(o ReceiverOptions) *Receiver {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Respond == nil {
		o.Respond = func(Call) Reply { return Reply{} }
	}
	return &Receiver{options: o, numbers: map[string]int{}, changed: make(chan struct{})}
}

// Calls returns the calls so far, in the order of their arrival.
func (v *Receiver) Calls() []Call {
	calls, _ := v.state()
	return slices.Clone(calls)
}

// Wait returns nil as soon as a condition over all calls holds, or an error when ctx ends before. The condition is
// asked at once and again after every call; it must not change what it is shown.
func (v *Receiver) Wait(ctx context.Context, condition func(calls []Call) bool) error {
	for {
		calls, changed := v.state()
		if condition(calls) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for webhook calls, %d so far: %w", len(calls), context.Cause(ctx))
		}
	}
}

// On returns the calls to one path.
func On(calls []Call, path string) []Call {
	var found []Call
	for _, c := range calls {
		if c.Path == path {
			found = append(found, c)
		}
	}
	return found
}

// ServeHTTP records a call and answers it. A call whose body breaks off or is over 8 MiB is refused and not recorded.
func (v *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), unreadable(err).status)
		return
	}
	call := v.record(Call{
		Time: v.options.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
		Header: r.Header.Clone(), Body: body,
	})
	v.options.Respond(call).send(w, r)
}

func (v *Receiver) record(call Call) Call {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.numbers[call.Path]++
	call.Number = v.numbers[call.Path]
	v.calls = append(v.calls, call)
	close(v.changed)
	v.changed = make(chan struct{})
	return call
}

// state returns the calls so far and a channel that closes with the next one. Recorded calls never change, so the
// slice is shared; without spare capacity, an append to it can not reach into what is recorded later.
func (v *Receiver) state() ([]Call, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clip(v.calls), v.changed
}

func (p Reply) send(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.Hang:
		hang(r)
	case p.Reset:
		reset(w)
	default:
		for name, values := range p.Header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		w.WriteHeader(cmp.Or(p.Status, http.StatusOK))
		_, _ = w.Write(p.Body)
	}
}
