package rules_test

import (
	"encoding/json"
	"testing"
	"time"

	"cmstap/internal/setting"
	"cmstap/rules"
)

// TestSample: each dialect can make up an event that a webhook wants.
func TestSample(t *testing.T) {
	t.Parallel()
	check := func(dialect, subscription, topic string) {
		t.Helper()
		d, err := rules.LoadDialect(dialect)
		if err != nil {
			t.Fatal(err)
		}
		var s rules.Subscription
		if err := setting.Decode("c.yaml", []byte(subscription), &s, s.Validate); err != nil {
			t.Fatal(err)
		}
		r := rules.New(d, []rules.Webhook{{Name: "a", Subscription: s}})
		e, found := r.Sample("a", time.Now().UTC())
		if !found || topic != "" && e.Topic() != topic || e.Entity.ID != "cmstap-test" || !json.Valid(e.Payload) || !r.Match(&e, nil)[0].Wanted {
			t.Errorf("%s: %s %+v", dialect, e.Topic(), e)
		}
		if _, found := r.Sample("b", time.Now()); found || r.Has("b") || !r.Has("a") {
			t.Error("there is no b")
		}
	}
	for _, dialect := range rules.Builtin() {
		check(dialect, "topics: '*.*'", "")
	}
	check("contentful", "topics: [Asset.unpublish]\nenvironments: [dev]", "Asset.unpublish")
	check("rest", "topics: [post.update]", "post.update")
	check("datocms", "topics: ['*.publish']", "item.publish")
}
