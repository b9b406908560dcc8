package demo_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cmstap/internal/demo"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func newReceiver(t *testing.T, o demo.ReceiverOptions) (*demo.Receiver, string) {
	t.Helper()
	receiver := demo.NewReceiver(o)
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	return receiver, server.URL
}

func post(ctx context.Context, t *testing.T, url, body string) outcome {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Topic", "Entry.publish")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return outcome{err: err}
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	return outcome{response.StatusCode, response.Header.Get("Retry-After") + string(got), err}
}

func TestReceiverRecords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	receiver, url := newReceiver(t, demo.ReceiverOptions{Now: func() time.Time { return at }})
	equal(t, "calls", len(receiver.Calls()), 0)
	for _, path := range []string{"/a", "/b?x=1&y", "/a"} {
		equal(t, "status", post(t.Context(), t, url+path, "body of "+path).status, 200)
	}
	call := func(path, query, body string, number int) demo.Call {
		return demo.Call{Time: at, Method: "POST", Path: path, Query: query, Body: []byte(body), Number: number}
	}
	want := []demo.Call{call("/a", "", "body of /a", 1), call("/b", "x=1&y", "body of /b?x=1&y", 1), call("/a", "", "body of /a", 2)}
	if diff := cmp.Diff(want, receiver.Calls(), cmpopts.IgnoreFields(demo.Call{}, "Header")); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	equal(t, "header", receiver.Calls()[0].Header.Get("X-Topic"), "Entry.publish")
	equal(t, "calls to /a", len(demo.On(receiver.Calls(), "/a")), 2)
	equal(t, "too large", post(t.Context(), t, url+"/a", strings.Repeat("x", 8<<20+1)).status, 413)
	equal(t, "largest", post(t.Context(), t, url+"/a", strings.Repeat("x", 8<<20)).status, 200)
	equal(t, "calls to /a", len(demo.On(receiver.Calls(), "/a")), 3)
}

func TestReceiverAnswersAsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	receiver, url := newReceiver(t, demo.ReceiverOptions{Respond: func(call demo.Call) demo.Reply {
		switch call.Path {
		case "/busy":
			return demo.Reply{Status: 503, Header: http.Header{"retry-after": {"7 "}}, Body: []byte("later")}
		case "/reset":
			return demo.Reply{Reset: true}
		case "/hang":
			cancel()
			return demo.Reply{Hang: true}
		}
		return demo.Reply{Status: 200 + call.Number}
	}})
	equal(t, "first", post(t.Context(), t, url+"/ok", "").status, 201)
	equal(t, "second", post(t.Context(), t, url+"/ok", "").status, 202)
	busy := post(t.Context(), t, url+"/busy", "")
	equal(t, "busy", busy.status, 503)
	equal(t, "busy", busy.body, "7later")
	if got := post(t.Context(), t, url+"/reset", ""); !errors.Is(got.err, syscall.ECONNRESET) {
		t.Errorf("reset: got %+v", got)
	}
	if got := post(ctx, t, url+"/hang", ""); !errors.Is(got.err, context.Canceled) {
		t.Errorf("hang: got %+v", got)
	}
	equal(t, "calls", len(receiver.Calls()), 5)
}

func TestReceiverWait(t *testing.T) {
	t.Parallel()
	receiver, url := newReceiver(t, demo.ReceiverOptions{})
	enough := func(calls []demo.Call) bool { return len(demo.On(calls, "/a")) == 20 }
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			post(t.Context(), t, url+"/b", "")
			post(t.Context(), t, url+"/a", "")
		})
	}
	equal(t, "error", receiver.Wait(t.Context(), enough), error(nil))
	wg.Wait()
	equal(t, "error of a condition that holds", receiver.Wait(t.Context(), enough), error(nil))
	numbers := map[int]bool{}
	for _, call := range demo.On(receiver.Calls(), "/a") {
		numbers[call.Number] = true
	}
	equal(t, "different numbers", len(numbers), 20)
}

func TestReceiverWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		receiver := demo.NewReceiver(demo.ReceiverOptions{})
		receiver.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/a", nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := receiver.Wait(ctx, func(calls []demo.Call) bool { return len(calls) > 1 })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		equal(t, "text", err.Error(), "waiting for webhook calls, 1 so far: context deadline exceeded")
	})
}
