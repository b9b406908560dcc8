package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// errClosed is returned to writes that come after Close.
var errClosed = errors.New("the outbox is closed")

// write is something to store, and who waits for it.
type write struct {
	ctx   context.Context
	apply func(*batch)
	done  chan error
	left  error // set if ctx ended before the write was begun: it is not made
}

// submit hands a write to the committer and waits until it is durable, or ctx
// ends. A write that was not begun when ctx ended is not made. One that came
// too late for the committer's last round is not made either.
func (o *Outbox) submit(ctx context.Context, apply func(*batch)) error {
	if err := o.opened(); err != nil {
		return err
	}
	w := &write{ctx: ctx, apply: apply, done: make(chan error, 1)}
	select {
	case o.writes <- w:
	case <-o.stop:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.ended:
	}
	select {
	case err := <-w.done:
		return err
	default:
		return errClosed
	}
}

// batch is one transaction while it is filled. The first error sticks.
type batch struct {
	o     *Outbox
	txn   *badger.Txn
	now   time.Time
	keys  int
	bytes int
	err   error
	paced map[*queue]time.Time // what becomes of q.paced
	after []func()             // what to do in memory once it is durable
	ended []func()             // what to do when it is, or will not be
}

// A transaction holds 13,107 keys and 1.2 MB with 8 MiB memory tables. One
// write has at most half of it, and a batch is closed when it is half full.
const (
	maxKeys  = 5000
	maxBytes = 512 << 10
	maxGroup = 256
)

func (b *batch) full() bool { return b.keys > maxKeys || b.bytes > maxBytes }

func (b *batch) set(key, value []byte) {
	b.keys++
	b.bytes += len(key) + len(value)
	b.fail(b.txn.Set(key, value))
}

func (b *batch) delete(key []byte) {
	b.keys++
	b.bytes += len(key)
	b.fail(b.txn.Delete(key))
}

func (b *batch) get(key []byte) (value []byte, found bool) {
	value, found, err := get(b.txn, key)
	b.fail(err)
	return value, found
}

func (b *batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// commitLoop is the only writer. It takes one write, adds what else is queued,
// stores all in one transaction with one sync, and answers all.
func (o *Outbox) commitLoop() {
	defer o.done.Done()
	defer close(o.ended)
	defer o.saveWatermark()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case w := <-o.writes:
			o.commitGroup(o.group(w))
		case <-tick.C: // on a quiet system there may be no next write
			_ = o.guard.look() // a write that can not be made says why
			o.retryUnplaced()
			o.saveWatermark()
		case <-o.stop:
			o.finishQueue()
			return
		}
	}
}

// finishQueue stores what was queued before Close.
func (o *Outbox) finishQueue() {
	for {
		select {
		case w := <-o.writes:
			o.commitGroup(o.group(w))
		default:
			return
		}
	}
}

// group returns the write and others that are queued already.
func (o *Outbox) group(first *write) []*write {
	writes := append(make([]*write, 0, 16), first)
	for len(writes) < maxGroup {
		select {
		case w := <-o.writes:
			writes = append(writes, w)
		default:
			return writes
		}
	}
	return writes
}

// commitGroup stores the writes in as few transactions as fit.
func (o *Outbox) commitGroup(writes []*write) {
	o.retryUnplaced()
	for len(writes) > 0 {
		writes = writes[o.commitSome(writes):]
	}
}

// commitSome stores the first writes, as many as fit into one transaction, and
// returns how many. If they can not be stored together, each is tried alone,
// so that one bad write fails alone.
func (o *Outbox) commitSome(writes []*write) int {
	b := o.newBatch()
	n := 0
	for ; n < len(writes) && !b.full(); n++ {
		writes[n].addTo(b)
	}
	err := o.finish(b)
	for _, w := range writes[:n] {
		if err != nil && n > 1 {
			w.answer(o.commitAlone(w))
			continue
		}
		w.answer(err)
	}
	return n
}

func (o *Outbox) commitAlone(w *write) error {
	b := o.newBatch()
	w.addTo(b)
	return o.finish(b)
}

// addTo makes the write part of a batch, unless nobody waits for it any more.
func (w *write) addTo(b *batch) {
	if w.left == nil {
		w.left = context.Cause(w.ctx)
	}
	if w.left == nil {
		w.apply(b)
	}
}

func (w *write) answer(err error) {
	if w.left != nil {
		err = w.left
	}
	w.done <- err
}

func (o *Outbox) newBatch() *batch {
	return &batch{o: o, paced: map[*queue]time.Time{}, txn: o.db.NewTransaction(true), now: o.now().UTC(), err: o.guard.look()}
}

// finish makes a batch durable and then does what follows from it in memory.
func (o *Outbox) finish(b *batch) error {
	defer b.txn.Discard()
	defer func() {
		for _, do := range b.ended {
			do()
		}
	}()
	if b.err != nil {
		return b.err
	}
	if b.keys > 0 {
		if err := o.persist(b); err != nil {
			return err
		}
	}
	for _, do := range b.after {
		do()
	}
	return nil
}

// persist is the one place where Badger is given something to store, but for
// the few keys of an Open.
func (o *Outbox) persist(b *batch) error {
	if err := o.guard.ends(); err != nil {
		return err
	}
	if b.set(metaKey("commits"), be.AppendUint64(nil, o.commits+1)); b.err != nil {
		return b.err
	}
	if err := b.txn.Commit(); err != nil {
		o.guard.fail(err)
		return err
	}
	o.commits++
	return nil
}
