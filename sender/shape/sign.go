package shape

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The schemes of signatures.
const (
	Standard   = "standard"   // Standard Webhooks 1.0, www.standardwebhooks.com
	Contentful = "contentful" // Contentful's request verification
	GitHub     = "github"     // X-Hub-Signature-256, docs.github.com/webhooks
)

// Signing is how a request is signed; without a scheme it is not.
type Signing struct {
	Scheme   string
	Secret   string
	Previous string // for a second signature, by the scheme standard only
}

// sign adds the signature of a request that is otherwise complete.
func sign(r *Request, c Call) {
	switch c.Signing.Scheme {
	case Standard:
		signStandard(r, c.Delivery.Event.ID, c.Time, c.Signing)
	case Contentful:
		signContentful(r, c.Target, c.Time, c.Signing.Secret)
	case GitHub:
		r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(sum([]byte(c.Signing.Secret), r.Body)))
	}
}

// signStandard adds the three headers of Standard Webhooks 1.0, with the
// symmetric scheme v1, and a signature for each secret.
func signStandard(r *Request, id string, at time.Time, s Signing) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, secret := range []string{s.Secret, s.Previous} {
		if key, err := Key(secret); err == nil && len(key) > 0 {
			signed := sum(key, []byte(id+"."+timestamp+"."), r.Body)
			signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(signed))
		}
	}
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", timestamp)
	r.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
}

// Key is a Standard Webhooks key's bytes: base64 after "whsec_", or the text as
// it is.
func Key(text string) ([]byte, error) {
	encoded, isBase64 := strings.CutPrefix(text, "whsec_")
	if !isBase64 {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("must be base64 after whsec_")
	}
	return key, nil
}

func sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// The headers of Contentful's request verification.
const (
	contentfulSignature = "X-Contentful-Signature"
	contentfulSigned    = "X-Contentful-Signed-Headers"
	contentfulTimestamp = "X-Contentful-Timestamp"
)

// signContentful adds the three headers of Contentful's request verification,
// as @contentful/node-apps-toolkit checks it. It signs the content type and
// what the CMS's own webhooks send; target is path and query as they are sent.
func signContentful(r *Request, target string, at time.Time, secret string) {
	var names []string
	for name := range r.Header {
		if name == "Content-Type" || strings.HasPrefix(name, "X-Contentful-") {
			names = append(names, name)
		}
	}
	signContentfulHeaders(r, names, target, at, secret)
}

func signContentfulHeaders(r *Request, names []string, target string, at time.Time, secret string) {
	names = append(names, contentfulSigned, contentfulTimestamp)
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	slices.Sort(names)
	r.Header.Set(contentfulSigned, strings.Join(names, ","))
	r.Header.Set(contentfulTimestamp, strconv.FormatInt(at.UnixMilli(), 10))
	var lines []string
	for _, name := range names {
		lines = append(lines, name+":"+strings.TrimSpace(r.Header.Get(name)))
	}
	head := fmt.Sprintf("%s\n%s\n%s\n", r.Method, contentfulPath(target), strings.Join(lines, ";"))
	r.Header.Set(contentfulSignature, hex.EncodeToString(sum([]byte(secret), []byte(head), r.Body)))
}

// contentfulPath is the path and query that are signed: the query is escaped as
// a component, and then both are as an address is. What is escaped already is
// escaped once more, and a second question mark ends the query.
func contentfulPath(target string) string {
	path, query, hasQuery := strings.Cut(target, "?")
	if !hasQuery {
		return encodeURI(path, inAddress)
	}
	query, _, _ = strings.Cut(query, "?")
	return encodeURI(path+"?"+encodeURI(query, inComponent), inAddress)
}

// The marks that JavaScript's encodeURIComponent and encodeURI leave as they
// are, ECMA-262 section 19.2.6.
const (
	inComponent = "-_.!~*'()"
	inAddress   = inComponent + ";/?:@&=+$,#"
)

// encodeURI escapes the bytes that are neither letters, digits nor one of the marks.
func encodeURI(text, marks string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if letter || strings.IndexByte(marks, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
