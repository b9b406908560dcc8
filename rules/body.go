package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"unicode/utf8"

	"cmstap/event"
	"cmstap/internal/expression"

	"github.com/go-json-experiment/json/jsontext"
)

// maxParts bounds the parts of a multipart body.
const maxParts = 1000

// bodyDocument is a request's body as expressions see it: JSON as it is; a form
// as an object of its fields, a field that comes twice as a list; any other text
// as a text; no body as null. What can not be read was not seen.
func bodyDocument(body event.Copy, contentType string) expression.Document {
	if body.Err != "" {
		return expression.Document{Why: body.Err}
	}
	if len(body.Bytes) == 0 {
		return whole([]byte("null"))
	}
	kind, parameters, err := mime.ParseMediaType(contentType)
	switch kind {
	case "":
		if err != nil && contentType != "" {
			return expression.Document{Why: "the request's content type can not be read"}
		}
	case "application/x-www-form-urlencoded":
		fields, err := url.ParseQuery(string(body.Bytes))
		if err != nil {
			return expression.Document{Why: "the request is not a form"}
		}
		return formDocument(fields)
	case "multipart/form-data":
		return multipartDocument(body.Bytes, parameters["boundary"])
	}
	start := bytes.TrimLeft(body.Bytes, " \t\r\n")
	problem := jsonProblem(body.Bytes)
	switch {
	case problem == "":
		return whole(body.Bytes)
	case kind == "application/json", strings.HasSuffix(kind, "+json"), bytes.HasPrefix(start, []byte("{")), bytes.HasPrefix(start, []byte("[")):
		return expression.Document{Why: "the request " + problem}
	case !utf8.Valid(body.Bytes):
		return expression.Document{Why: "the request is neither JSON nor a form nor text"}
	}
	text, _ := json.Marshal(string(body.Bytes))
	return whole(text)
}

func whole(text []byte) expression.Document { return expression.Document{JSON: text, Whole: true} }

func formDocument(fields map[string][]string) expression.Document {
	values := map[string]any{}
	for name, list := range fields {
		if values[name] = list; len(list) == 1 {
			values[name] = list[0]
		}
	}
	text, _ := json.Marshal(values)
	return whole(text)
}

// multipartDocument reads the fields of a form; a file's field is its name.
func multipartDocument(body []byte, boundary string) expression.Document {
	if !bytes.Contains(body, []byte("--"+boundary+"--")) {
		return expression.Document{Why: "the request's last part is missing"}
	}
	fields := map[string][]string{}
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	for range maxParts {
		part, err := reader.NextPart()
		if err == io.EOF { // one that is wrapped says that the body is cut
			return formDocument(fields)
		}
		if err != nil {
			return expression.Document{Why: "the request is not multipart/form-data"}
		}
		value := part.FileName()
		if value == "" {
			text, err := io.ReadAll(part)
			if err != nil {
				return expression.Document{Why: "the request is not multipart/form-data"}
			}
			value = string(text)
		}
		fields[part.FormName()] = append(fields[part.FormName()], value)
	}
	return expression.Document{Why: "the request has too many parts"}
}

// jsonProblem says why a text can not be used as JSON, "" if it can. Of a key
// that is there twice nobody knows which one a receiver takes (RFC 8259,
// section 4).
func jsonProblem(text []byte) string {
	if jsontext.Value(text).IsValid() {
		return ""
	}
	_, err := jsontext.NewDecoder(bytes.NewReader(text)).ReadValue()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "has a key twice"
	case err != nil && strings.Contains(err.Error(), "max depth"):
		return "is nested too deeply"
	}
	return "is not JSON"
}
