package demo_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"cmstap/internal/demo"
)

// outcome is how a request ended for the client.
type outcome struct {
	status int
	body   string
	err    error
}

func (c *client) try(ctx context.Context, method, path, body string) outcome {
	c.t.Helper()
	response, err := c.http.Do(c.request(method, path, body, "Accept-Encoding: identity").WithContext(ctx))
	if err != nil {
		return outcome{err: err}
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	return outcome{response.StatusCode, string(got), err}
}

// judge checks that an outcome is the one that the fault promises.
func judge(t *testing.T, fault demo.Fault, got outcome) {
	t.Helper()
	ok := map[demo.Fault]bool{
		demo.AnswerError:     got.status == 500 && strings.Contains(got.body, `"id":"ServerError"`),
		demo.AnswerReset:     got.status == 0 && errors.Is(got.err, syscall.ECONNRESET),
		demo.AnswerHang:      got.status == 0 && errors.Is(got.err, context.Canceled),
		demo.AnswerTruncated: got.status/100 > 1 && len(got.body) > 20 && errors.Is(got.err, io.ErrUnexpectedEOF),
		demo.AnswerGarbage:   got.status == 0 && got.err != nil && strings.Contains(got.err.Error(), "malformed HTTP"),
	}
	if !ok[fault] {
		t.Errorf("%v: got %+v", fault, got)
	}
}

var faults = []demo.Fault{
	demo.AnswerError, demo.AnswerReset, demo.AnswerHang, demo.AnswerTruncated, demo.AnswerGarbage,
}

func TestFaultAfterCommit(t *testing.T) {
	t.Parallel()
	for _, fault := range faults {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			c := newClient(t, demo.ContentAPIOptions{After: func(w demo.Write) demo.Fault {
				if w.ID != "e1" {
					return demo.NoFault
				}
				if fault == demo.AnswerHang {
					cancel()
				}
				return fault
			}})
			c.seed()
			judge(t, fault, c.try(ctx, "PUT", env+"/entries/e1", hello))
			equal(t, "version", c.must(200, "GET", env+"/entries/e1", "").doc.Sys.Version, 1)
			equal(t, "writes", len(c.api.Writes()), 2)
			equal(t, "requests", c.api.Requests(), 3)
		})
	}
}

func TestFaultBeforeExecution(t *testing.T) {
	t.Parallel()
	for _, fault := range faults {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			c := newClient(t, demo.ContentAPIOptions{Before: func(r *http.Request) demo.Fault {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != hello {
					return demo.NoFault
				}
				if fault == demo.AnswerHang {
					cancel()
				}
				return fault
			}})
			c.seed()
			judge(t, fault, c.try(ctx, "PUT", env+"/entries/e1", hello))
			c.must(404, "GET", env+"/entries/e1", "")
			equal(t, "writes", len(c.api.Writes()), 1)
			equal(t, "requests", c.api.Requests(), 3)
		})
	}
}

func TestFaultWithoutBody(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{After: func(w demo.Write) demo.Fault {
		if w.Action == "delete" {
			return demo.AnswerTruncated
		}
		return demo.NoFault
	}})
	c.must(201, "PUT", env+"/assets/a1", picture)
	got := c.try(t.Context(), "DELETE", env+"/assets/a1", "")
	if got.status != 0 || got.err == nil {
		t.Errorf("got %+v, want a broken head", got)
	}
	c.must(404, "GET", env+"/assets/a1", "")
}

func TestFaultNames(t *testing.T) {
	t.Parallel()
	equal(t, "name", demo.AnswerGarbage.String(), "AnswerGarbage")
	equal(t, "unknown name", demo.Fault(42).String(), "Fault(42)")
}
