package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// earlyGrace is how long an answer waits for its request to be written before
// it counts as early. A false early answer only costs the connection.
const earlyGrace = 50 * time.Millisecond

// smallBody bounds the bodies that are read whole before anything is sent.
const smallBody = 64 << 10

// smallAnswer bounds the answers of known length that are read whole before they
// are passed on, so that they go out in one write.
const smallAnswer = 32 << 10

// trip is one round trip to the CMS. It is used again, unless its answer is
// streamed.
type trip struct {
	req    *fasthttp.Request
	answer *fasthttp.Response // its header; set if err is nil
	whole  []byte             // a small body; valid until the trip ends
	body   *answerBody        // any other body; nil if there is none
	status int                // of the answer; 0 if there is none
	early  bool               // the CMS answered or failed before it had the whole request
	until  time.Time          // when to give up, besides the timeouts; zero for never
	// interim is the client's connection if interim answers can be passed on.
	interim *watchedConn
	// leaves says that the CMS's connection is closed if the client leaves.
	leaves *watchedConn
	// outcome is NotSent, Cut or Unknown if err is set, and only then.
	outcome event.Outcome
	err     error

	detached bool // it ends with its body

	conn   *watchedConn  // to the CMS, until it is given back
	reader *bufio.Reader // of it

	headers requestHeaders
	head    []byte // an answer's head, written out
	parsed  bytes.Reader
	parser  *bufio.Reader
}

var trips = sync.Pool{New: func() any { return &trip{req: &fasthttp.Request{}, answer: &fasthttp.Response{}} }}

func newTrip() *trip { return trips.Get().(*trip) }

// end forgets the trip; one whose answer is still to be streamed ends with that.
func (t *trip) end() {
	if t.body != nil && t.body.trip != nil {
		t.detached = true
		return
	}
	t.req.Reset()
	t.answer.Reset()
	*t = trip{req: t.req, answer: t.answer, whole: t.whole[:0], head: t.head[:0], parser: t.parser}
	trips.Put(t)
}

// forward sends the request once and reads the header of the answer.
func (p *Proxy) forward(t *trip, up *upload) {
	if err := p.acquire(t); err != nil {
		t.outcome, t.err = event.NotSent, err
		return
	}
	before := t.conn.written.Load()
	t.reader = p.pool.AcquireReader(t.conn)
	t.leaves.cuts(t.conn)
	var sent bool
	var err, writeErr error
	if up == nil {
		writeErr = p.writeRequest(t, nil)
		sent = writeErr == nil
		err = p.readHeader(t, false)
	} else {
		wrote := p.send(t, up)
		err = p.readHeader(t, false)
		sent, writeErr = awaitSent(t.conn, up, wrote)
	}
	t.early = !sent
	if err != nil {
		written := t.conn.written.Load() - before
		p.giveBack(t, false)
		t.outcome, t.err = p.fault(err, writeErr, up, written)
		return
	}
	t.status = t.answer.StatusCode()
	p.takeBody(t)
}

// giveBack ends the use of the connection. It is used again if the answer was
// read to its end and nothing speaks against that.
func (p *Proxy) giveBack(t *trip, whole bool) {
	t.leaves.cuts(nil)
	conn, reader := t.conn, t.reader
	t.conn, t.reader = nil, nil
	if conn.giveBack == nil { // of a tunnel that was refused
		_ = conn.Close()
		return
	}
	whole = whole && !t.early && !t.answer.ConnectionClose() && reader.Buffered() == 0 && !conn.ended.Load()
	p.pool.ReleaseReader(reader)
	conn.giveBack(whole)
}

// takeBody reads a small body, and leaves any other to be read.
func (p *Proxy) takeBody(t *trip) {
	size := t.answer.Header.ContentLength()
	switch {
	case !hasBody(t):
		p.giveBack(t, true)
	case size > 0 && size <= smallAnswer:
		p.readSmall(t, size)
	default:
		t.answer.StreamBody = true
		_ = t.answer.ReadBody(t.reader, 0) // reads nothing yet
		t.body = &answerBody{
			body: t.answer.BodyStream(), trip: t, proxy: p, conn: t.conn, chunked: size == -1,
			stall: p.config.StallTimeout.Std(), hurry: p.config.AnswerTimeout.Std(), until: t.until,
		}
		if isEventStream(t.answer) {
			t.body.stall = 0
		}
	}
}

var errBrokeOff = errors.New("the CMS's answer broke off")

// readSmall reads a body of known size. If it breaks off nobody gets any of it.
func (p *Proxy) readSmall(t *trip, size int) {
	t.whole = slices.Grow(t.whole[:0], size)
	for len(t.whole) < size {
		_ = t.conn.SetReadDeadline(t.sooner(time.Now().Add(p.config.StallTimeout.Std()))) // fails only if the read will
		n, err := t.reader.Read(t.whole[len(t.whole):size])
		t.whole = t.whole[:len(t.whole)+n]
		if err != nil && len(t.whole) < size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			p.giveBack(t, false)
			t.outcome, t.err = event.Unknown, fmt.Errorf("%w: %w", errBrokeOff, err)
			return
		}
	}
	p.giveBack(t, true)
}

// acquire takes a live connection from the pool, or makes one. Nothing has
// been written, so a dead one can be replaced for every method.
func (p *Proxy) acquire(t *trip) error {
	for {
		pooled, err := p.pool.AcquireConn(0, false)
		if err != nil {
			return err
		}
		conn := pooled.Conn().(*watchedConn)
		if conn.giveBack == nil {
			conn.giveBack = func(reusable bool) {
				if reusable {
					p.pool.ReleaseConn(pooled)
				} else {
					p.pool.CloseConn(pooled)
				}
			}
		}
		if fresh := conn.written.Load() == 0; !fresh && !conn.isAlive() {
			p.pool.CloseConn(pooled)
			continue
		}
		t.conn = conn
		return nil
	}
}

// send writes a request with a streamed body beside the reading of the answer.
// The answer's deadline starts when the request is written; if the client's
// body failed, the CMS is cut off at once.
func (p *Proxy) send(t *trip, up *upload) <-chan error {
	conn := t.conn
	up.progress = func() {
		_ = conn.SetReadDeadline(time.Now().Add(p.config.StallTimeout.Std() + p.config.AnswerTimeout.Std()))
	}
	up.progress()
	t.req.SetBodyStream(up, up.size)
	wrote := make(chan error, 1)
	go func() {
		err := errPanic
		defer func() { wrote <- err }()
		defer p.recovered("sending a request body", func() { _ = conn.Close() })
		err = p.writeRequest(t, up)
	}()
	return wrote
}

func (p *Proxy) writeRequest(t *trip, up *upload) error {
	conn := t.conn
	writer := p.pool.AcquireWriter(conn)
	err := t.req.Write(writer)
	if err == nil {
		err = writer.Flush()
	}
	p.pool.ReleaseWriter(writer)
	if up != nil && up.err != nil {
		_ = conn.Close()
		return err
	}
	return errors.Join(err, conn.SetReadDeadline(t.sooner(time.Now().Add(p.config.AnswerTimeout.Std()))))
}

// sooner is the time, or the one at which the trip is given up.
func (t *trip) sooner(than time.Time) time.Time {
	if !t.until.IsZero() && t.until.Before(than) {
		return t.until
	}
	return than
}

// readHeader reads until the final header; interim ones (1xx) are passed on, but
// for 100, which the server says itself.
func (p *Proxy) readHeader(t *trip, upgrade bool) error {
	for range maxInterim {
		if err := t.answer.Header.Read(t.reader); err != nil {
			return headFault(err)
		}
		switch status := t.answer.StatusCode(); {
		case status == fasthttp.StatusSwitchingProtocols && !upgrade:
			return errors.New("the CMS switched protocols unasked")
		case status < 100 || status > 999:
			return fmt.Errorf("the CMS answered with the status %d", status)
		case status >= 200 || status == fasthttp.StatusSwitchingProtocols:
			return nil
		case t.interim != nil && status != fasthttp.StatusContinue:
			t.head = appendHead(t.head[:0], &t.answer.Header)
			_, _ = t.interim.Write(t.head) // if the client is gone, the answer will tell
		}
	}
	return errors.New("the CMS sent one interim answer after the other")
}

// maxInterim bounds the interim answers to one request.
const maxInterim = 20

// headFault says why a head could not be read. The codec quotes what it could
// not parse; that may hold secrets.
func headFault(err error) error {
	var operation *net.OpError
	switch {
	case isTimeout(err):
		return os.ErrDeadlineExceeded
	case errors.As(err, &operation):
		return operation
	case errors.Is(err, io.EOF):
		return errors.New("the CMS closed the connection")
	default:
		return errors.New("it is not HTTP, or its head is larger than proxy.max_header")
	}
}

// awaitSent tells whether the whole request was written. What was not, within
// a short grace, is given up.
func awaitSent(conn *watchedConn, up *upload, wrote <-chan error) (sent bool, err error) {
	timer := time.NewTimer(earlyGrace)
	defer timer.Stop()
	select {
	case err = <-wrote:
		return err == nil, err
	case <-timer.C:
	}
	up.abandon()
	conn.haltWrites()
	return false, <-wrote
}

// fault names the outcome of a round trip that gave no header.
func (p *Proxy) fault(readErr, writeErr error, up *upload, written int64) (event.Outcome, error) {
	switch {
	case up != nil && up.err != nil:
		return event.Cut, fmt.Errorf("the client did not finish its body: %w", up.err)
	case writeErr != nil && written == 0:
		return event.NotSent, writeErr
	case isTimeout(readErr):
		return event.Unknown, fmt.Errorf("no answer within %s (proxy.answer_timeout): %w", p.config.AnswerTimeout, os.ErrDeadlineExceeded)
	default:
		return event.Unknown, fmt.Errorf("reading the answer: %w", readErr)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// hasBody tells whether a body follows the header of the answer.
func hasBody(t *trip) bool {
	status := t.answer.StatusCode()
	return !t.req.Header.IsHead() && status != fasthttp.StatusNoContent && status != fasthttp.StatusNotModified &&
		t.answer.Header.ContentLength() != 0
}
