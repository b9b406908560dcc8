package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// upload reads a client's body. It ends without an error only if the body is
// whole.
type upload struct {
	body     io.Reader
	conn     *watchedConn
	size     int // announced bytes; -1 if chunked
	most     int // bytes that it may have; 0 for any number
	stall    time.Duration
	progress func() // called before each read
	ended    func() // called when all of the body was read; may be nil
	start    []byte // was read already and is to be read again
	got      int
	err      error // why the client's body is not whole; the client's doing

	mu        sync.Mutex
	abandoned bool // nobody wants the rest
}

var errTooLarge = errors.New("the body is too large")

var errAbandoned = errors.New("the rest of the body is not wanted")

func (u *upload) Read(p []byte) (int, error) {
	if len(u.start) > 0 {
		n := copy(p, u.start)
		u.start = u.start[n:]
		return n, nil
	}
	if err := u.allow(); err != nil {
		return 0, err
	}
	u.progress()
	n, err := u.body.Read(p)
	u.got += n
	switch {
	case u.most > 0 && u.got > u.most:
		return 0, u.fail(errTooLarge)
	case err == nil:
	case !errors.Is(err, io.EOF):
		return n, u.fail(err)
	case u.size >= 0 && u.got < u.size, u.size < 0 && u.conn.ended.Load():
		return n, u.fail(io.ErrUnexpectedEOF)
	case u.ended != nil:
		u.ended()
	}
	return n, err
}

// allow gives the client time for the next read, unless the rest is not wanted.
func (u *upload) allow() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.abandoned {
		return errAbandoned
	}
	return u.conn.SetReadDeadline(time.Now().Add(u.stall))
}

// abandon ends a read that waits, and all later ones.
func (u *upload) abandon() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.abandoned = true
	_ = u.conn.SetReadDeadline(unblock)
}

func (u *upload) fail(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.abandoned {
		return errAbandoned
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	u.err = err
	return err
}

// answerBody reads the CMS's body. It ends without an error only if the body
// is whole, and gives the connection back or closes it when it ends.
type answerBody struct {
	body    io.Reader
	trip    *trip
	proxy   *Proxy
	conn    *watchedConn
	chunked bool
	stall   time.Duration   // 0: it may be silent for as long as it likes
	hurry   time.Duration   // for the rest, once nobody waits for it
	until   time.Time       // when to give up; zero if only a stall ends it
	broke   func(err error) // told if the body is not whole; may be nil
	ended   func()          // told if it is, before the last read returns; may be nil
	err     error           // how it ended; the connection is no longer ours then
}

func (a *answerBody) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	_ = a.conn.SetReadDeadline(a.deadline()) // fails only if the read will
	n, err := a.body.Read(p)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		a.fail(err)
	case a.chunked && a.conn.ended.Load():
		a.fail(io.ErrUnexpectedEOF)
	default:
		if a.ended != nil {
			a.ended()
		}
		a.end(io.EOF, true)
	}
	return n, a.err
}

func (a *answerBody) deadline() time.Time {
	if a.stall == 0 {
		return a.until
	}
	next := time.Now().Add(a.stall)
	if !a.until.IsZero() && a.until.Before(next) {
		return a.until
	}
	return next
}

func (a *answerBody) fail(err error) {
	a.end(fmt.Errorf("%w: %w", errBrokeOff, err), false)
	if a.broke != nil {
		a.broke(a.err)
	}
}

// CloseWithError is called by the server when the answer went out (nil) or
// could not (the client left).
func (a *answerBody) CloseWithError(error) error {
	a.end(errAbandoned, false)
	if t := a.trip; t != nil {
		a.trip = nil
		if t.detached {
			t.end()
		}
	}
	return nil
}

func (a *answerBody) end(err error, whole bool) {
	if a.err == nil {
		a.err = err
		a.proxy.giveBack(a.trip, whole)
	}
}

// heldBody passes a large answer of a write on while it comes, but keeps its
// last byte until finish was called, so that no client sees the answer end
// before the event is durable. With hold off (an event stream) nothing is kept
// back.
type heldBody struct {
	from   *answerBody
	reader *bufio.Reader // all of the answer
	hold   bool
	finish func(err error) // nil once called
}

// newHeldBody takes a copy of the start of an answer, already read, and its rest.
func newHeldBody(copied *boundedCopy, from *answerBody, hold bool, finish func(*boundedCopy, error)) *heldBody {
	start := copied.bytes
	all := io.MultiReader(bytes.NewReader(start), io.TeeReader(from, copied))
	return &heldBody{
		from: from, reader: bufio.NewReaderSize(all, 32<<10), hold: hold,
		finish: func(err error) { finish(copied, err) },
	}
}

func (h *heldBody) Read(p []byte) (int, error) {
	if !h.hold {
		n, err := h.reader.Read(p)
		if err != nil {
			h.end(err)
		}
		return n, err
	}
	if _, err := h.reader.Peek(2); err != nil {
		h.end(err) // at most one byte is left
	} else if ready := h.reader.Buffered() - 1; len(p) > ready {
		p = p[:ready]
	}
	return h.reader.Read(p)
}

// CloseWithError reads the rest if the client left: the event needs it.
func (h *heldBody) CloseWithError(err error) error {
	if h.finish != nil {
		h.from.until = time.Now().Add(h.from.hurry)
		_, err := io.Copy(io.Discard, h.reader)
		h.end(err)
	}
	return h.from.CloseWithError(err)
}

// end calls finish with nil if the body is whole.
func (h *heldBody) end(err error) {
	if h.finish == nil {
		return
	}
	finish := h.finish
	h.finish = nil
	if errors.Is(err, io.EOF) {
		err = nil
	}
	finish(err)
}

const (
	holdLimit = 2 << 20 // answers up to this size are held whole until the commit
	copyLimit = 4 << 20 // what is kept of an answer, as it came and decoded, if the config says nothing
)

// boundedCopy keeps the first bytes of what is written to it.
type boundedCopy struct {
	limit int
	bytes []byte
	cut   bool
}

// copyOf is a copy of a message, of which the start was read already.
func (p *Proxy) copyOf(start []byte) *boundedCopy {
	return &boundedCopy{limit: p.config.MaxCopy, bytes: start}
}

func (c *boundedCopy) Write(p []byte) (int, error) {
	room := c.limit - len(c.bytes)
	if len(p) > room {
		c.cut = true
	}
	c.bytes = append(c.bytes, p[:min(len(p), room)]...)
	return len(p), nil
}

// decoded undoes the content coding of a copy of a message. What broke off stays
// as it came.
func decoded(message string, c *boundedCopy, coding string, broke error) event.Copy {
	switch {
	case broke != nil:
		return event.Copy{Bytes: c.bytes, Err: broke.Error()}
	case c.cut:
		return c.tooLarge(message)
	case coding == "" || coding == "identity":
		return event.Copy{Bytes: c.bytes}
	}
	var body fasthttp.Response
	body.Header.SetContentEncoding(coding)
	body.SetBodyRaw(c.bytes)
	plain, err := body.BodyUncompressedWithLimit(c.limit)
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		return c.tooLarge(message)
	}
	if err != nil {
		return event.Copy{Err: fmt.Sprintf("%s has the content coding %q, which can not be undone: %v", message, coding, err)}
	}
	return event.Copy{Bytes: plain}
}

func (c *boundedCopy) tooLarge(message string) event.Copy {
	return event.Copy{Cut: true, Err: fmt.Sprintf("%s is larger than %d MiB", message, c.limit>>20)}
}
