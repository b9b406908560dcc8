package outbox

import (
	"errors"
	"time"

	"cmstap/internal/setting"

	"github.com/dgraph-io/badger/v4"
)

// Batch says how a webhook gets its events in bundles, one call for each.
type Batch struct {
	// Wait is how long nothing new must come before a bundle goes, and MaxWait how
	// long its first event waits at most.
	Wait    setting.Duration `yaml:"wait"`
	MaxWait setting.Duration `yaml:"max_wait"`
	// MaxEvents are as many as a bundle has at most.
	MaxEvents int `yaml:"max_events"`
	// By is webhook: all that waits is one bundle; or cause: what one bulk action,
	// release or job did is one, and everything else goes alone and at once.
	By string `yaml:"by"`
}

// mostBundled is what one transaction can settle.
const mostBundled = 500

// maxBundle bounds the payloads of a bundle, in bytes, but for its last event's.
const maxBundle = 2 << 20

// SetDefaults fills in what a batch that says nothing else gets.
func (b *Batch) SetDefaults() {
	*b = Batch{Wait: setting.Duration(10 * time.Second), MaxWait: setting.Duration(time.Minute), MaxEvents: 100, By: "webhook"}
}

func (b *Batch) validate(check setting.Check) {
	if b.Wait < 0 || b.Wait.Std() > time.Hour {
		check.Add("wait", "must be from 0s to 1h")
	}
	if b.MaxWait < b.Wait || b.MaxWait.Std() > day {
		check.Add("max_wait", "must be at least as long as wait, and at most 1d")
	}
	if b.MaxEvents < 1 || b.MaxEvents > mostBundled {
		check.Add("max_events", "must be from 1 to %d", mostBundled)
	}
	if b.By != "webhook" && b.By != "cause" {
		check.Add("by", "must be webhook or cause")
	}
}

// dueBundle finds the bundle that is due, in commit order. One that failed comes
// again as it was, and nothing of the webhook passes it. The caller holds the
// lock.
func (q *queue) dueBundle(txn *badger.Txn, now time.Time) (claims []claim, wait time.Duration, err error) {
	if len(q.claimed) > 0 {
		return nil, time.Hour, nil // one at a time; its end wakes who waits
	}
	failed, _, err := q.first(txn, tagRetry, q.Batch.MaxEvents)
	if len(failed) > 0 || err != nil {
		for n, c := range failed {
			if !c.due.Equal(failed[0].due) {
				failed = failed[:n]
				break
			}
		}
		return ripe(failed, now, failed[0].due)
	}
	fresh, more, err := q.first(txn, tagDue, q.Batch.MaxEvents)
	if len(fresh) == 0 || err != nil {
		return nil, time.Hour, err
	}
	if q.Batch.By == "cause" {
		n, alone, err := sameCause(txn, fresh)
		if err != nil {
			return nil, 0, err
		}
		more = more || n < len(fresh) || alone
		fresh = fresh[:n]
	}
	if more {
		return fresh, 0, nil
	}
	last := fresh[len(fresh)-1].due.Add(q.Batch.Wait.Std())
	latest := fresh[0].due.Add(q.Batch.MaxWait.Std())
	if last.After(latest) {
		last = latest
	}
	return ripe(fresh, now, last)
}

// ripe returns the claims if it is their time, else how long that is away.
func ripe(claims []claim, now, at time.Time) ([]claim, time.Duration, error) {
	if at.After(now) {
		return nil, at.Sub(now), nil
	}
	return claims, 0, nil
}

// first returns the first deliveries of a lane; full tells that there are no fewer
// than limit.
func (q *queue) first(txn *badger.Txn, lane byte, limit int) (claims []claim, full bool, err error) {
	keysFrom(txn, duePrefix(lane, q.id), q.from[lane], func(item *badger.Item) bool {
		if claims == nil {
			q.from[lane] = item.KeyCopy(nil)
		}
		at, seq := parseTimed(item.Key())
		err = item.Value(func(entity []byte) error {
			claims = append(claims, claim{lane: lane, seq: seq, entity: be.Uint64(entity), due: at})
			return nil
		})
		return err == nil && len(claims) < limit
	})
	return claims, len(claims) == limit, err
}

// sameCause returns how many of the first claims have the cause of the first one.
// What has none is alone.
func sameCause(txn *badger.Txn, claims []claim) (n int, alone bool, err error) {
	var group string
	for n, c := range claims {
		var stored eventRecord
		found, err := getRecord(txn, eventKey(c.seq), &stored)
		switch {
		case errors.Is(err, errDamaged), err == nil && !found:
			return max(n, 1), true, nil // it is given up when it is read
		case err != nil:
			return 0, false, err
		case n == 0 && stored.Cause == "":
			return 1, true, nil
		case n == 0:
			group = stored.Request.ID
		case stored.Cause == "" || stored.Request.ID != group:
			return n, false, nil
		}
	}
	return len(claims), false, nil
}
