package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// signed is what the receiver made of one call.
type signed struct {
	Scheme   string
	Verdicts map[string]any    // by the secret's name: true, or why not
	Wrong    bool              // a changed body is taken, too
	Headers  map[string]string // in lower case
	Path     string
}

// signingSecrets are of the receiver, by scheme: those that must fit, and "other",
// which must not.
var signingSecrets = map[string]map[string]string{
	"standard": {"new": "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct", "previous": "whsec_cHJldmlvdXMtcHJldmlvdXMtcHJldmlv", "other": "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXI="},
	"contentful": {
		"new":   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"other": "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	},
	"github": {"new": "It's a Secret to Everybody", "other": "It's another one"},
}

// TestSigning has the calls of each scheme verified by the libraries that
// receivers use: each attempt is signed anew, and the id stays.
func TestSigning(t *testing.T) {
	t.Parallel()
	need(t, "node")
	for _, client := range []string{"standardwebhooks", "@contentful/node-apps-toolkit"} {
		needClient(t, "testdata/webhooks", client)
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	calls := verifier(t)
	api := serve(t, demo.NewContentAPI(demo.ContentAPIOptions{}))
	port := calls()
	secret := func(scheme, name string) string { return fmt.Sprintf("{ value: %q }", signingSecrets[scheme][name]) }
	p := start(t, program, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q }
outbox: { path: %q }
admin: { listen: "" }
x-all: &all { topics: "*.*", retry: { delays: [1500ms] } }
webhooks:
- { <<: *all, name: a, url: "http://127.0.0.1:%[3]s/standard", signing: { scheme: standard, secret: %[4]s, previous: %[5]s } }
- { <<: *all, name: b, url: "http://127.0.0.1:%[3]s/contentful/h%%C3%%B6ok%%20s;x?q=1&w=a%%20b&u=%%C3%%BC", signing: { scheme: contentful, secret: %[6]s } }
- { <<: *all, name: c, url: "http://127.0.0.1:%[3]s/github", signing: { scheme: github, secret: %[7]s } }
`, api.URL, t.TempDir(), port, secret("standard", "new"), secret("standard", "previous"), secret("contentful", "new"), secret("github", "new")))
	status, text, err := ask("PUT", "http://"+p.proxy+"/spaces/s/environments/master/content_types/page", `{"name":"Grüße ☃","fields":[]}`,
		map[string]string{"Content-Type": "application/vnd.contentful.management.v1+json"})
	if err != nil || status > 201 {
		t.Fatal(status, text, err)
	}
	attempts := map[string][]signed{}
	for range 6 {
		var call signed
		if err := json.Unmarshal([]byte(calls()), &call); err != nil {
			t.Fatal(err)
		}
		attempts[call.Scheme] = append(attempts[call.Scheme], call)
	}
	for scheme, of := range attempts {
		if len(of) != 2 {
			t.Fatalf("%s: %d attempts", scheme, len(of))
		}
		for i, call := range of {
			for name, verdict := range call.Verdicts {
				if (verdict == true) != (name != "other") {
					t.Errorf("%s, attempt %d, the %s secret: %v", call.Path, i+1, name, verdict)
				}
			}
			if call.Wrong {
				t.Errorf("%s: a changed body is taken", scheme)
			}
		}
		checkAttempts(t, scheme, of[0].Headers, of[1].Headers)
	}
}

// checkAttempts tells whether two attempts have the same ids and, where the
// scheme has one, different timestamps.
func checkAttempts(t *testing.T, scheme string, first, second map[string]string) {
	t.Helper()
	for _, same := range []string{"webhook-id", "x-cmstap-event", "x-contentful-idempotency-key"} {
		if first[same] != second[same] || first["x-cmstap-event"] == "" {
			t.Errorf("%s: %s is %q and then %q", scheme, same, first[same], second[same])
		}
	}
	changing := map[string][]string{
		"standard":   {"webhook-timestamp", "webhook-signature"},
		"contentful": {"x-contentful-timestamp", "x-contentful-signature", "x-contentful-webhook-request-attempt"},
	}
	for _, name := range changing[scheme] {
		if first[name] == second[name] || first[name] == "" {
			t.Errorf("%s: %s is %q both times", scheme, name, first[name])
		}
	}
	signed := first["x-contentful-signed-headers"]
	if scheme == "contentful" && (!strings.Contains(signed, "content-type,") || !strings.Contains(signed, "x-contentful-topic,")) {
		t.Errorf("signed headers: %q", signed)
	}
}

// verifier starts the receiver, and returns what reads its lines.
func verifier(t *testing.T) (line func() string) {
	t.Helper()
	text, _ := json.Marshal(signingSecrets)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a call that does not come ends the reading
	t.Cleanup(cancel)
	receiver := exec.CommandContext(ctx, "node", "receiver.mjs", string(text))
	receiver.Dir = "testdata/webhooks"
	receiver.Stderr = t.Output()
	out, err := receiver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = receiver.Process.Kill(); _ = receiver.Wait() })
	lines := bufio.NewReader(out)
	return func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
}
