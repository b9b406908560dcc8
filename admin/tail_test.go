package admin_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/admin"
	"cmstap/event"
)

// telling is an operator whose tails come from a channel.
type telling struct {
	idle
	news    chan event.News
	stopped chan bool
}

func newTelling() telling { return telling{news: make(chan event.News), stopped: make(chan bool, 100)} }

func (o telling) Tail(_ event.Query, after string) (event.Tail, error) {
	tail := event.Tail{News: o.news, Stop: func() { o.stopped <- true }}
	if after != "" {
		tail.Earlier = []event.News{{ID: after + "+", Event: &event.Recorded{Topic: "Entry.earlier"}}}
	}
	return tail, nil
}

// patient is an answer that can have deadlines.
type patient struct{ *httptest.ResponseRecorder }

func (patient) SetWriteDeadline(time.Time) error { return nil }

// TestTailStream: news come as server-sent events, a comment every 15 s.
func TestTailStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newTelling()
		handler := admin.Handler(admin.DefaultConfig(), admin.Parts{Operator: o})
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "http://localhost/api/tail", nil)
		r.Header.Set("Last-Event-ID", "7")
		answer := patient{httptest.NewRecorder()}
		go handler.ServeHTTP(answer, r)
		o.news <- event.News{ID: "8", Call: &event.Call{ID: "c\n", Webhook: "<b>"}, Missed: 3}
		<-time.After(46 * time.Second)
		cancel()
		<-o.stopped
		synctest.Wait()
		got := strings.Split(answer.Body.String(), "\n\n")
		want := []string{": cmstap", "id: 7+\nevent: event\ndata: {", "event: missed\ndata: {\"missed\":3}", "id: 8\nevent: call\ndata: {\"id\":\"c\\n\",\"webhook\":\"<b>\"",
			": still there", ": still there", ": still there", ""}
		if len(got) != len(want) || answer.Header().Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%q", got)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("%q does not begin with %q", got[i], want[i])
			}
		}
	})
}

// TestTails: so many and no more; a stop ends all of them.
func TestTails(t *testing.T) {
	t.Parallel()
	o := newTelling()
	config := admin.DefaultConfig()
	config.Listen = "127.0.0.1:0"
	a, err := admin.New(config, admin.Parts{Operator: o})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve() }()
	var open []*bufio.Reader
	for len(open) <= 32 {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+a.Addr()+"/api/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		reader := bufio.NewReader(response.Body)
		line, _ := reader.ReadString('\n')
		if want := map[bool]int{true: 200, false: 503}[len(open) < 32]; response.StatusCode != want {
			t.Fatalf("tail %d: %d %s", len(open), response.StatusCode, line)
		}
		open = append(open, reader)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	<-served
	for _, reader := range open {
		_, _ = io.Copy(io.Discard, reader) // it ends
	}
	for range 32 {
		<-o.stopped
	}
}
