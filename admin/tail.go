package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"cmstap/event"
)

// ofTail are the parameters of a tail: those of calls, but for what pages.
var ofTail = []string{"webhook", "result", "status", "topic", "entity", "environment", "text"}

// tail sends what happens, as server-sent events (the HTML standard, section
// 9.2), until the reader leaves.
func (d desk) tail(w http.ResponseWriter, r *http.Request) {
	query, err := parseQuery(r.URL, slices.Clone(ofTail), time.Now())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	select {
	case d.tails <- struct{}{}:
		defer func() { <-d.tails }()
	default:
		fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d tails are open already, and there can be no more", maxTails))
		return
	}
	tail, err := d.Tail(query, r.Header.Get("Last-Event-ID"))
	if err != nil {
		done(w, nil, err)
		return
	}
	defer tail.Stop()
	out := sse{w, unbound(w)}
	head(w, http.StatusOK, "text/event-stream")
	if out.write([]byte(": cmstap\n\n")) != nil {
		return
	}
	for _, news := range tail.Earlier {
		if out.send(news) != nil {
			return
		}
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case news := <-tail.News:
			err = out.send(news)
		case <-beat.C:
			err = out.write([]byte(": still there\n\n"))
		}
	}
}

// sse writes server-sent events.
type sse struct {
	to      http.ResponseWriter
	control *http.ResponseController
}

// send says first how many were missed.
func (s sse) send(news event.News) error {
	if news.Missed > 0 {
		if err := s.one("", "missed", map[string]int{"missed": news.Missed}); err != nil {
			return err
		}
	}
	if news.Event != nil {
		return s.one(news.ID, "event", news.Event)
	}
	return s.one(news.ID, "call", news.Call)
}

func (s sse) one(id, kind string, data any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(data); err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return s.write(fmt.Appendf(nil, "%sevent: %s\ndata: %s\n", id, kind, text.Bytes()))
}

// write gives up on a reader that takes nothing for a minute.
func (s sse) write(text []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeBound)); err != nil {
		return err
	}
	if _, err := s.to.Write(text); err != nil {
		return err
	}
	return s.control.Flush()
}
