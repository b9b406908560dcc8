package shape

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"cmstap/event"
	"cmstap/internal/expression"
)

// BundleID names a bundle: the SHA-256, in lower-case hex, of its events' ids. It is
// the same for every attempt.
func BundleID(deliveries []event.Delivery) string {
	sum := sha256.New()
	for _, d := range deliveries {
		sum.Write([]byte(d.Event.ID))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// FillBundle is Fill for deliveries that go in one call, at least one. Expressions
// read all of them as events, and else the first.
func (t Templates) FillBundle(deliveries []event.Delivery) (Filled, error) {
	f, s, err := t.fillHead(deliveries)
	if err != nil {
		return Filled{}, err
	}
	switch {
	case t.Form.bodiless(), t.Form.body != nil:
		f.Content, err = t.Form.fill(deliveries[0], s)
	case t.Form.Payload == CloudEvents:
		f.Content = Content{Method: t.Form.method(), ContentType: typeCloudEvents}
		f.Content.Body, err = cloudEventsOf(deliveries)
	default:
		f.Content = Content{Method: t.Form.method(), ContentType: typeJSON}
		f.Content.Body, err = bundleOf(deliveries)
	}
	f.Content.Native = false // those headers tell of one event
	return f, err
}

// scope is what templates may read: of the first delivery, and as events of all.
func (t Templates) scope(deliveries []event.Delivery) (*expression.Scope, error) {
	s := scopeOf(deliveries[0].Event)
	if !t.Reads("events") {
		return s, nil
	}
	list, err := envelopesOf(deliveries)
	return s.With(map[string]any{"events": expression.Document{JSON: list, Whole: true}}), err
}

// bundle is cmstap's own form of a bundle.
type bundle struct {
	Envelope int             `json:"envelope"` // the version of the form
	Batch    string          `json:"batch"`    // its id
	Events   json.RawMessage `json:"events"`
}

func bundleOf(deliveries []event.Delivery) ([]byte, error) {
	events, err := envelopesOf(deliveries)
	if err != nil {
		return nil, err
	}
	return toJSON(bundle{Envelope: 1, Batch: BundleID(deliveries), Events: events})
}

func envelopesOf(deliveries []event.Delivery) (json.RawMessage, error) {
	return listOf(deliveries, envelopeOf)
}

// cloudEventsOf is the batch of CloudEvents' JSON format (section 4).
func cloudEventsOf(deliveries []event.Delivery) ([]byte, error) {
	return listOf(deliveries, func(d event.Delivery) ([]byte, error) { return cloudEventOf(d.Event) })
}

func listOf(deliveries []event.Delivery, form func(event.Delivery) ([]byte, error)) (json.RawMessage, error) {
	list := []byte{'['}
	for i, d := range deliveries {
		one, err := form(d)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, one...)
	}
	return append(list, ']'), nil
}
