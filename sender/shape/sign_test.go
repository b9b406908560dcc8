package shape

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cmstap/event"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vectors were made by Contentful's toolkit.
func TestContentfulVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/contentful-signing.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name string
		Req  struct {
			Method, Path, Body string
			Headers            map[string]string
		}
		Secret        string
		Timestamp     int64
		SignedHeaders map[string]string
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) != 6 {
		t.Fatal(len(vectors), err)
	}
	for _, v := range vectors {
		r := Request{Method: v.Req.Method, Header: http.Header{}, Body: []byte(v.Req.Body)}
		var names []string
		for name, value := range v.Req.Headers {
			r.Header.Set(name, value)
			names = append(names, name)
		}
		signContentfulHeaders(&r, names, v.Req.Path, time.UnixMilli(v.Timestamp), v.Secret)
		for name, want := range v.SignedHeaders {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %s, not %s", v.Name, name, got, want)
			}
		}
	}
}

// The example of docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries.
func TestGitHubVector(t *testing.T) {
	t.Parallel()
	r := Build(Call{
		Delivery: event.Delivery{Event: &event.Event{ID: "id", Payload: []byte("Hello, World!")}},
		Signing:  Signing{Scheme: GitHub, Secret: "It's a Secret to Everybody"},
	})
	const want = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	if got := r.Header.Get("X-Hub-Signature-256"); got != want {
		t.Error(got)
	}
}

// A receiver that knows only one of two secrets takes the call, by the
// specification's own library.
func TestTwoSecrets(t *testing.T) {
	t.Parallel()
	const current, previous = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct", "whsec_cHJldmlvdXMtcHJldmlvdXMtcHJldmlv"
	r := Build(Call{
		Delivery: event.Delivery{Event: &event.Event{ID: "id", Payload: []byte(`{"a": "ü"}`)}},
		Signing:  Signing{Scheme: Standard, Secret: current, Previous: previous}, Time: time.Now(),
	})
	for secret, want := range map[string]string{current: "<nil>", previous: "<nil>", "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXI=": "no matching signature found"} {
		receiver, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(receiver.Verify(r.Body, r.Header)); !strings.Contains(got, want) {
			t.Errorf("%s: %s", secret, got)
		}
	}
	if count := len(strings.Split(r.Header.Get("Webhook-Signature"), " ")); count != 2 {
		t.Errorf("%d signatures", count)
	}
}
