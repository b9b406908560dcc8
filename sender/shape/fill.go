package shape

import (
	"net/url"

	"cmstap/event"
	"cmstap/internal/expression"
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
func (t Templates) Fill(d event.Delivery) (Filled, error) {
	f, s, err := t.fillHead([]event.Delivery{d})
	if err != nil {
		return Filled{}, err
	}
	f.Content, err = t.Form.fill(d, s)
	return f, err
}

// fillHead fills in the address and the headers.
func (t Templates) fillHead(deliveries []event.Delivery) (Filled, *expression.Scope, error) {
	s, err := t.scope(deliveries)
	if err != nil {
		return Filled{}, nil, err
	}
	f := Filled{Headers: map[string]string{}}
	if f.URL, err = t.URL.fill(s); err != nil {
		return Filled{}, nil, err
	}
	for name, header := range t.Headers {
		text, err := header.text(s)
		if err != nil {
			return Filled{}, nil, err
		}
		f.Headers[name] = headerValue(text)
	}
	return f, s, nil
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
