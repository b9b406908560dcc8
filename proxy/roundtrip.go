package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"cmstap/event"

	"github.com/valyala/fasthttp"
)

// earlyGrace is how long an answer waits for its request to be written before
// it counts as early. A false early answer only costs the connection.
const earlyGrace = 50 * time.Millisecond

// smallBody bounds the bodies that are read whole before anything is sent.
const smallBody = 64 << 10

// trip is one round trip to the CMS.
type trip struct {
	req    *fasthttp.Request
	answer *fasthttp.Response // its header; set if err is nil
	body   *answerBody        // nil if there is none
	early  bool               // the CMS answered or failed before it had the whole request
	until  time.Time          // when to give up, besides the timeouts; zero for never
	// interim is the client's connection if interim answers can be passed on.
	interim *watchedConn
	// leaves says that the CMS's connection is closed if the client leaves.
	leaves *watchedConn
	// outcome is NotSent, Cut or Unknown if err is set, and only then.
	outcome event.Outcome
	err     error
}

func newTrip() *trip {
	return &trip{req: fasthttp.AcquireRequest(), answer: fasthttp.AcquireResponse()}
}

// end gives the messages back. An answer that is still to be streamed keeps
// its own.
func (t *trip) end() {
	fasthttp.ReleaseRequest(t.req)
	if t.body == nil || t.body.err != nil {
		fasthttp.ReleaseResponse(t.answer)
	}
}

// forward sends the request once and reads the header of the answer.
func (p *Proxy) forward(t *trip, up *upload) {
	conn, release, err := p.acquire()
	if err != nil {
		t.outcome, t.err = event.NotSent, err
		return
	}
	before := conn.written.Load()
	reader := p.pool.AcquireReader(conn)
	end := func(whole bool) {
		t.leaves.cuts(nil)
		whole = whole && !t.early && !t.answer.ConnectionClose() && reader.Buffered() == 0 && !conn.ended.Load()
		p.pool.ReleaseReader(reader)
		release(whole)
	}
	wrote := make(chan error, 1)
	p.send(t, conn, up, wrote)
	t.leaves.cuts(conn)
	err = p.readHeader(t, reader, false)
	sent, writeErr := awaitSent(conn, up, wrote)
	t.early = !sent
	if err != nil {
		end(false)
		t.outcome, t.err = p.fault(err, writeErr, up, conn.written.Load()-before)
		return
	}
	p.takeBody(t, conn, reader, end)
}

// takeBody leaves the body of the answer, if there is one, to be read; end gives
// the connection back.
func (p *Proxy) takeBody(t *trip, conn *watchedConn, reader *bufio.Reader, end func(whole bool)) {
	if !hasBody(t) {
		end(true)
		return
	}
	t.answer.StreamBody = true
	_ = t.answer.ReadBody(reader, 0) // reads nothing yet
	t.body = &answerBody{
		body: t.answer.BodyStream(), conn: conn, chunked: t.answer.Header.ContentLength() == -1,
		stall: p.config.StallTimeout.Std(), hurry: p.config.AnswerTimeout.Std(), release: end,
	}
	if isEventStream(t.answer) {
		t.body.stall = 0
	}
}

// acquire takes a live connection from the pool, or makes one. Nothing has
// been written, so a dead one can be replaced for every method.
func (p *Proxy) acquire() (conn *watchedConn, release func(reusable bool), err error) {
	for {
		pooled, err := p.pool.AcquireConn(0, false)
		if err != nil {
			return nil, nil, err
		}
		conn := pooled.Conn().(*watchedConn)
		err = conn.SetDeadline(time.Time{})
		fresh := conn.written.Load() == 0
		if err != nil || !fresh && !conn.isAlive() {
			p.pool.CloseConn(pooled)
			continue
		}
		return conn, func(reusable bool) {
			if reusable {
				p.pool.ReleaseConn(pooled)
			} else {
				p.pool.CloseConn(pooled)
			}
		}, nil
	}
}

// send writes the request, a streamed body beside the reading of the answer.
// The answer's deadline starts when the request is written; if the client's
// body failed, the CMS is cut off at once.
func (p *Proxy) send(t *trip, conn *watchedConn, up *upload, wrote chan<- error) {
	if up == nil {
		wrote <- p.writeRequest(t, conn, nil)
		return
	}
	up.progress = func() {
		_ = conn.SetReadDeadline(time.Now().Add(p.config.StallTimeout.Std() + p.config.AnswerTimeout.Std()))
	}
	t.req.SetBodyStream(up, up.size)
	go func() {
		err := errPanic
		defer func() { wrote <- err }()
		defer p.recovered("sending a request body", func() { _ = conn.Close() })
		err = p.writeRequest(t, conn, up)
	}()
}

func (p *Proxy) writeRequest(t *trip, conn *watchedConn, up *upload) error {
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
func (p *Proxy) readHeader(t *trip, reader *bufio.Reader, upgrade bool) error {
	for range maxInterim {
		if err := t.answer.Header.Read(reader); err != nil {
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
			_, _ = t.interim.Write(headText(&t.answer.Header)) // if the client is gone, the answer will tell
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
	if up == nil {
		err = <-wrote
		return err == nil, err
	}
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
