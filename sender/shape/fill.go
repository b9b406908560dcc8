package shape

import (
	"net/url"

	"cmstap/event"
)

// Templates are what a webhook's settings say of a call's address, headers and
// content.
type Templates struct {
	URL     *Address
	Headers map[string]Template
	Form    *Form
}

// Filled is what they say of one delivery.
type Filled struct {
	URL     *url.URL
	Headers map[string]string
	Content Content
}

// Fill fills the templates in. It depends on nothing but the delivery. An error
// says why that can never be: a template reads what the event does not have
// where it must have it, or what it has is of the wrong kind.
func (t Templates) Fill(d event.Delivery) (Filled, error) { return t.fill([]event.Delivery{d}) }

func (t Templates) fill(deliveries []event.Delivery) (Filled, error) {
	s, err := t.scope(deliveries)
	if err != nil {
		return Filled{}, err
	}
	f := Filled{Headers: map[string]string{}}
	if f.URL, err = t.URL.fill(s); err != nil {
		return Filled{}, err
	}
	for name, header := range t.Headers {
		text, err := header.text(s)
		if err != nil {
			return Filled{}, err
		}
		f.Headers[name] = headerValue(text)
	}
	f.Content, err = t.Form.fill(deliveries[0], s)
	return f, err
}

// Reads tells whether one of the templates reads something of a root.
func (t Templates) Reads(root string) bool {
	for _, header := range t.Headers {
		if header.Reads(root) {
			return true
		}
	}
	return t.URL.template.Reads(root) || t.Form.Reads(root)
}
