package shape

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
)

// traceForm is the header of W3C Trace Context section 3.2.2: version, trace, parent
// and flags. Later versions may go on after that; version ff is none.
var traceForm = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)

// addTrace goes on with the trace of the request behind the event: the attempt is a
// span of its own in it. What is no trace is not sent on.
func addTrace(header http.Header, c Call) {
	d := c.Delivery
	match := traceForm.FindStringSubmatch(d.Event.Request.Traceparent)
	if match == nil || match[1] == "ff" || match[1] == "00" && match[5] != "" || isZero(match[2]) || isZero(match[3]) {
		return
	}
	span := sha256.Sum256([]byte(d.Event.ID + "\n" + d.Webhook + "\n" + strconv.Itoa(c.Attempt) + "\n" + strconv.FormatInt(c.Time.UnixNano(), 10)))
	header.Set("Traceparent", fmt.Sprintf("00-%s-%s-%s", match[2], hex.EncodeToString(span[:8]), match[4]))
}

func isZero(digits string) bool {
	for _, digit := range digits {
		if digit != '0' {
			return false
		}
	}
	return true
}
