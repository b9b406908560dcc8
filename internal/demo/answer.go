package demo

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
)

const (
	mediaType = "application/vnd.contentful.management.v1+json"
	// gzipAbove is the body size from which the API compresses.
	gzipAbove = 256
)

// answer is a status and a body that was not yet encoded for the wire. A nil body means none at all.
type answer struct {
	status int
	body   []byte
}

// send writes the whole answer.
func (a answer) send(w http.ResponseWriter, r *http.Request) {
	wire := a.wire(w.Header(), r)
	w.WriteHeader(a.status)
	if wire == nil {
		return
	}
	// A write error means that the client is gone, which is no news to anybody here.
	_, _ = w.Write(wire)
	if w.Header().Get("Content-Encoding") != "" {
		// Without a flush net/http would add a Content-Length; the real API sends compressed bodies chunked.
		_ = http.NewResponseController(w).Flush()
	}
}

// wire sets the headers that describe the body and returns it as it goes over the wire.
func (a answer) wire(h http.Header, r *http.Request) []byte {
	if a.body == nil {
		return nil
	}
	tag := fnv.New64a()
	tag.Write(a.body)
	h.Set("ETag", strconv.Quote(strconv.FormatUint(tag.Sum64(), 10)))
	h.Set("Content-Type", mediaType)
	h.Set("Vary", "Accept-Encoding")
	if len(a.body) <= gzipAbove || !acceptsGzip(r) {
		return a.body
	}
	h.Set("Content-Encoding", "gzip")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	// Writing to a buffer can not go wrong.
	_, _ = z.Write(a.body)
	_ = z.Close()
	return b.Bytes()
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, quality, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return quality == "" || strings.Trim(quality, "q=0.") != ""
		}
	}
	return false
}

func authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && token != ""
}

// problem is why a request is refused.
type problem struct {
	status  int
	id      string
	message string
	details any
}

// answer shapes a problem as the API does.
func (p *problem) answer(requestID string) answer {
	var body struct {
		Sys struct {
			Type string `json:"type"`
			ID   string `json:"id"`
		} `json:"sys"`
		Message   string `json:"message"`
		Details   any    `json:"details,omitempty"`
		RequestID string `json:"requestId"`
	}
	body.Sys.Type, body.Sys.ID = "Error", p.id
	body.Message, body.Details, body.RequestID = p.message, p.details, requestID
	return answer{status: p.status, body: encode(body)}
}

func badRequest(message string) *problem {
	return &problem{status: http.StatusBadRequest, id: "BadRequest", message: message}
}

func unauthorized() *problem {
	message := "The access token you sent could not be found or is invalid."
	return &problem{status: http.StatusUnauthorized, id: "AccessTokenInvalid", message: message}
}

func noRoute() *problem {
	return &problem{status: http.StatusNotFound, id: "NotFound", message: "The resource could not be found."}
}

func notFound(k key) *problem {
	p := noRoute()
	p.details = map[string]string{"type": k.kind.name, "id": k.id, "space": k.space, "environment": k.environment}
	return p
}

func versionMismatch() *problem {
	message := "The version you sent is not the current one; read the entity again."
	return &problem{status: http.StatusConflict, id: "VersionMismatch", message: message}
}

// invalid refuses content that is well-formed but not allowed.
func invalid(message string, path ...string) *problem {
	detail := map[string]any{"name": "invalid", "details": message, "path": path}
	return &problem{
		status: http.StatusUnprocessableEntity, id: "ValidationFailed", message: "Validation error",
		details: map[string]any{"errors": []any{detail}},
	}
}

func injected() *problem {
	return &problem{
		status: http.StatusInternalServerError, id: "ServerError",
		message: fmt.Sprintf("Something went wrong: the fault %s was injected.", AnswerError),
	}
}
