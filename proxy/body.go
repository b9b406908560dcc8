package proxy

import (
	"bufio"
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
	stall    time.Duration
	progress func() // called before each read
	got      int
	err      error // why the client's body is not whole; the client's doing

	mu        sync.Mutex
	abandoned bool // nobody wants the rest
}

var errAbandoned = errors.New("the rest of the body is not wanted")

func (u *upload) Read(p []byte) (int, error) {
	if err := u.allow(); err != nil {
		return 0, err
	}
	u.progress()
	n, err := u.body.Read(p)
	u.got += n
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		return n, u.fail(err)
	case u.size >= 0 && u.got < u.size, u.size < 0 && u.conn.ended.Load():
		return n, u.fail(io.ErrUnexpectedEOF)
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
	conn    *watchedConn
	size    int // announced bytes; -1 if chunked, -2 if it ends with the connection
	stall   time.Duration
	got     int
	release func(reusable bool) // nil once called
}

func (a *answerBody) Read(p []byte) (int, error) {
	if err := a.conn.SetReadDeadline(time.Now().Add(a.stall)); err != nil {
		return 0, err
	}
	n, err := a.body.Read(p)
	a.got += n
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		err = fmt.Errorf("the CMS's answer broke off: %w", err)
	case a.size >= 0 && a.got < a.size, a.size == -1 && a.conn.ended.Load():
		err = fmt.Errorf("the CMS's answer broke off: %w", io.ErrUnexpectedEOF)
	}
	a.end(errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF))
	return n, err
}

// CloseWithError is called by the server when the answer went out (nil) or
// could not (the client left).
func (a *answerBody) CloseWithError(error) error {
	a.end(false)
	return nil
}

func (a *answerBody) end(whole bool) {
	if a.release != nil {
		a.release(whole)
		a.release = nil
	}
}

// heldBody passes a large answer of a write on while it comes, but keeps its
// last byte until finish was called, so that no client sees the answer end
// before the event is durable. With hold off (an event stream) nothing is kept
// back.
type heldBody struct {
	from   *answerBody
	reader *bufio.Reader
	copied *boundedCopy
	hold   bool
	finish func(err error) // nil once called
}

func newHeldBody(start []byte, from *answerBody, hold bool, finish func(*boundedCopy, error)) *heldBody {
	h := &heldBody{from: from, copied: &boundedCopy{}, hold: hold}
	h.copied.Write(start)
	h.reader = bufio.NewReaderSize(io.TeeReader(from, h.copied), 32<<10)
	h.finish = func(err error) { finish(h.copied, err) }
	return h
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
func (h *heldBody) CloseWithError(error) error {
	if h.finish != nil {
		_, err := io.Copy(io.Discard, h.reader)
		if err == nil {
			err = io.EOF
		}
		h.end(err)
	}
	h.from.end(false)
	return nil
}

func (h *heldBody) end(err error) {
	if h.finish != nil {
		finish := h.finish
		h.finish = nil
		finish(err)
	}
}

const (
	holdLimit = 2 << 20 // answers up to this size are held whole until the commit
	copyLimit = 4 << 20 // what is kept of an answer, as it came and decoded
)

// boundedCopy keeps the first copyLimit bytes of what is written to it.
type boundedCopy struct {
	bytes []byte
	cut   bool
}

func (c *boundedCopy) Write(p []byte) (int, error) {
	room := copyLimit - len(c.bytes)
	if len(p) > room {
		c.cut = true
	}
	c.bytes = append(c.bytes, p[:min(len(p), room)]...)
	return len(p), nil
}

// decoded undoes the content coding of a copy.
func decoded(c *boundedCopy, coding []byte) event.Copy {
	if c.cut {
		return event.Copy{Err: fmt.Sprintf("the answer is larger than %d MiB", copyLimit>>20)}
	}
	if len(coding) == 0 {
		return event.Copy{Bytes: c.bytes}
	}
	var message fasthttp.Response
	message.Header.SetContentEncodingBytes(coding)
	message.SetBodyRaw(c.bytes)
	plain, err := message.BodyUncompressedWithLimit(copyLimit)
	if err != nil {
		return event.Copy{Err: fmt.Sprintf("the answer's content coding %q can not be undone: %v", coding, err)}
	}
	return event.Copy{Bytes: append([]byte(nil), plain...)}
}
