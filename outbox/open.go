package outbox

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Ready is closed once the store is open: at once, unless the disk was full.
// Until then every write returns ErrNoSpace, and Next waits.
func (o *Outbox) Ready() <-chan struct{} { return o.ready }

// opened returns nil once the store is open.
func (o *Outbox) opened() error {
	select {
	case <-o.ready:
		return nil
	default:
	}
	select {
	case <-o.stop:
		return errClosed
	default:
	}
	if err := o.guard.begins(); err != nil {
		return err
	}
	return fmt.Errorf("%w: the store in %s (outbox.path) could not be opened yet", ErrNoSpace, o.config.Path)
}

// tryOpen opens and loads the store. After an error it may be called again: a
// store that is open stays so, because to close it takes space, too.
func (o *Outbox) tryOpen(webhooks []string) (err error) {
	if o.db == nil {
		o.db, err = openStore(o.config, o.guard, o.log)
	}
	if err == nil {
		if err = o.load(webhooks); err != nil {
			err = fmt.Errorf("outbox.path: reading %s: %w", o.config.Path, err)
		}
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// openLater tries to open the store every second until that works. What keeps
// it from that is logged once, unless the guard has said it.
func (o *Outbox) openLater(webhooks []string, err error) {
	defer o.done.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := ""
	for err != nil {
		guarded := errors.Is(err, ErrNoSpace) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT)
		if text := err.Error(); !guarded && text != said {
			said = text
			o.log.Error("store", "error", err, "hint", "the store can not be opened, so no write can be recorded; that is tried again every second")
		}
		select {
		case <-tick.C:
			err = o.tryOpen(webhooks)
		case <-o.stop:
			return
		}
	}
	o.serve()
}

// serve starts the work on an open store.
func (o *Outbox) serve() {
	o.done.Add(2)
	go o.commitLoop()
	go o.maintainLoop()
	close(o.ready)
}

// closeStore closes Badger, which writes the memory table to disk, and tries that
// for ever. If it can not be, the store is left as a kill would leave it.
func (o *Outbox) closeStore() error {
	if o.db == nil {
		return nil
	}
	_ = o.guard.look()
	if err := o.guard.ends(); err != nil {
		o.log.Error("store", "error", err, "hint", "the store is left as it is and not closed; the next start reads its log, nothing is lost")
		return nil
	}
	return o.db.Close()
}
