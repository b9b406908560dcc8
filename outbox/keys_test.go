package outbox

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// Order of keys is order of fields, and parsing gives the fields back.
func FuzzKeys(f *testing.F) {
	f.Add(uint32(1), uint64(2), uint64(3), int64(1767323045678), "id", uint32(1), uint64(2), uint64(4), int64(1767323045679), "je")
	f.Add(uint32(1), uint64(1<<63), uint64(255), int64(-1), "", uint32(256), uint64(0), uint64(256), int64(0), "\x00")
	f.Fuzz(func(t *testing.T, w1 uint32, e1, s1 uint64, m1 int64, id1 string, w2 uint32, e2, s2 uint64, m2 int64, id2 string) {
		m1, m2 = max(m1, 0), max(m2, 0)
		t1, t2 := time.UnixMilli(m1), time.UnixMilli(m2)
		n1, n2 := int(uint32(e1)), int(uint32(e2))
		order := func(name string, a, b []byte, fields ...int) {
			t.Helper()
			if got, want := bytes.Compare(a, b), cmp.Or(fields...); got != want {
				t.Errorf("%s: keys order %d, fields %d", name, got, want)
			}
		}
		w, e, s, m, n := cmp.Compare(w1, w2), cmp.Compare(e1, e2), cmp.Compare(s1, s2), cmp.Compare(m1, m2), cmp.Compare(n1, n2)
		id := cmp.Compare(id1, id2)
		order("m", metaKey(id1), metaKey(id2), id)
		order("m paused", pausedKey(id1), pausedKey(id2), id)
		order("m paced", pacedKey(id1), pacedKey(id2), id)
		if name, found := strings.CutPrefix(string(pausedKey(id1)[1:]), "paused/"); !found || name != id1 || bytes.Equal(pausedKey(id1), pacedKey(id2)) {
			t.Errorf("m paused: %q", name)
		}
		if at := parseTime(be.AppendUint64(nil, milli(t1))); !at.Equal(t1) || !parseTime([]byte(id1)).IsZero() && len(id1) != 8 {
			t.Errorf("time8: %v", at)
		}
		order("i", intentKey(id1), intentKey(id2), id)
		order("u", uploadKey(id1), uploadKey(id2), id)
		order("f", finishKey(id1), finishKey(id2), id)
		order("e", eventKey(s1), eventKey(s2), s)
		order("o", orderKey(w1, e1, s1), orderKey(w2, e2, s2), w, e, s)
		order("h", countKey(w1, e1), countKey(w2, e2), w, e)
		order("t", dueKey(tagDue, w1, t1, s1), dueKey(tagDue, w2, t2, s2), w, m, s)
		order("a", attemptKey(w1, t1, s1, n1), attemptKey(w2, t2, s2, n2), w, m, s, n)
		order("z", deadKey(w1, t1, s1), deadKey(w2, t2, s2), w, m, s)
		order("s", partKey("i", n1), partKey("i", n2), n)
		order("p", pieceKey(id1, n1), pieceKey(id2, n2), bytes.Compare(rawID(id1), rawID(id2)), n)
		order("x", idKey(id1), idKey(id2), bytes.Compare(rawID(id1), rawID(id2)))

		if w, e, s := parseOrder(orderKey(w1, e1, s1)); w != w1 || e != e1 || s != s1 {
			t.Errorf("o: %d %d %d", w, e, s)
		}
		for _, key := range [][]byte{dueKey(tagRetry, w1, t1, s1), attemptKey(w1, t1, s1, n1), deadKey(w1, t1, s1)} {
			if at, seq := parseTimed(key); !at.Equal(t1) || seq != s1 {
				t.Errorf("%c: %v %d", key[0], at, seq)
			}
		}
		prefixes := map[string][]byte{
			string(orderPrefix(w1)): orderKey(w1, e1, s1), string(duePrefix(tagRetry, w1)): dueKey(tagRetry, w1, t1, s1),
			string(attemptPrefix(w1)): attemptKey(w1, t1, s1, n1), string(piecePrefix(id1)): pieceKey(id1, n1),
		}
		for prefix, key := range prefixes {
			if !bytes.HasPrefix(key, []byte(prefix)) {
				t.Errorf("%x does not begin with %x", key, prefix)
			}
		}
	})
}

func FuzzRawID(f *testing.F) {
	f.Add("", "a")
	f.Add("00", "0000000000000000000000000000000000000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, a, b string) {
		sum := sha256.Sum256([]byte(a))
		event := hex.EncodeToString(sum[:])
		if hex.EncodeToString(rawID(event)) != event || len(rawID(a)) != sha256.Size {
			t.Errorf("%q", a)
		}
		isHash := func(text string) bool { _, err := hex.DecodeString(text); return err == nil && len(text) == 64 }
		if a != b && !isHash(a) && !isHash(b) && bytes.Equal(rawID(a), rawID(b)) {
			t.Errorf("%q and %q share a key", a, b)
		}
	})
}
