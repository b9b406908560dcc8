package outbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// watermark says how far the store was when it was last asked. It is kept in a
// small file beside the store, about once a second: Badger drops what follows a
// damaged byte of its log without a word, and then the store is behind it.
type watermark struct {
	// Commits counts the transactions that were acknowledged.
	Commits uint64 `json:"commits"`
	// Seq is the last number given to an event.
	Seq uint64 `json:"seq"`
}

// skip is more events than can be committed between two watermarks.
const skip = 1 << 20

func watermarkFile(folder string) string { return filepath.Join(folder, "watermark") }

// readWatermark returns zeros if the file is missing or torn.
func readWatermark(folder string) watermark {
	var w watermark
	text, err := os.ReadFile(watermarkFile(folder))
	if err != nil || json.Unmarshal(text, &w) != nil {
		return watermark{}
	}
	return w
}

// saveWatermark replaces the file if anything was committed since.
func (o *Outbox) saveWatermark() {
	w := watermark{Commits: o.commits, Seq: o.seq}
	if w == o.saved || o.guard.ends() != nil {
		return
	}
	file := watermarkFile(o.config.Path)
	err := os.WriteFile(file+".new", encode(w), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err == nil {
		o.saved = w
	} else if !o.unsaved {
		o.log.Error("store", "error", fmt.Errorf("writing the watermark: %w", err), "hint", "nothing is lost, but a damaged store may go unnoticed")
	}
	o.unsaved = err != nil
}

// checkWatermark says loudly if the store has lost what was acknowledged. Then
// it goes on with numbers that were never given.
func (o *Outbox) checkWatermark() error {
	o.commits = 0
	err := o.db.View(func(txn *badger.Txn) error {
		value, found, err := get(txn, metaKey("commits"))
		if found {
			o.commits = be.Uint64(value)
		}
		return err
	})
	o.saved = readWatermark(o.config.Path)
	if err != nil || o.commits >= o.saved.Commits {
		return err
	}
	if !o.saidLost {
		o.saidLost = true
		o.sayLost()
	}
	o.commits, o.seq = o.saved.Commits, max(o.seq, o.saved.Seq)+skip
	b := o.newBatch()
	b.set(metaKey("seq"), be.AppendUint64(nil, o.seq))
	return o.finish(b)
}

func (o *Outbox) sayLost() {
	o.log.Error("lost", "transactions", o.saved.Commits-o.commits, "path", o.config.Path,
		"hint", "acknowledged transactions are missing at the end of the store: its log is damaged. Check the disk; restore a backup of outbox.path, or publish again what changed last")
}
