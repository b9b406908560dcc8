package expression

import "strings"

// Document is JSON to look into. It is safe for concurrent use as long as nobody changes the bytes.
//
// Of duplicate keys the last one counts, as in encoding/json and in JavaScript, so that a filter sees what CMS and
// receiver see.
type Document struct {
	// JSON is one valid JSON text, or nil. Text that is not valid gives wrong values, but no panic.
	JSON []byte
	// Whole says that what is not in JSON does not exist: it is missing. Otherwise it was not seen: it is unknown. Then
	// also an array or object that is in JSON is unknown as a whole, as there may be more in it.
	Whole bool
	// Why says why the document is not whole, for example "the answer was cut at 4 MiB".
	Why string
}

// Lookup gives the raw JSON at a path; without a path, the document. An array takes its index as a decimal number. The
// bytes are those of the document, not a copy. They are nil unless the state is Present.
func (d Document) Lookup(path ...string) (raw []byte, state State) {
	for _, part := range path {
		if d, state = d.step(part); state != Present {
			return nil, state
		}
	}
	if state = d.state(); state != Present {
		return nil, state
	}
	return trim(d.JSON), Present
}

// state says whether the document as a whole can be used as a value.
func (d Document) state() State {
	switch {
	case d.JSON == nil:
		return d.absent()
	case !d.Whole && isContainer(d.JSON):
		return Unknown
	}
	return Present
}

// absent is the state of what is not in the document.
func (d Document) absent() State {
	if d.Whole {
		return Missing
	}
	return Unknown
}

// step gives the part of the document that belongs to a key or index, as a document.
func (d Document) step(part string) (Document, State) {
	raw, ok := child(d.JSON, part)
	if !ok || !d.Whole && countsFromEnd(d.JSON, part) {
		return Document{}, d.absent()
	}
	return Document{JSON: raw, Whole: d.Whole, Why: d.Why}, Present
}

// value decodes the document.
func (d Document) value() (any, State, error) {
	if state := d.state(); state != Present {
		return nil, state, nil
	}
	v, err := decode(trim(d.JSON))
	if err != nil {
		return nil, Failed, err
	}
	return v, Present, nil
}

// countsFromEnd says whether the part is an index from the end of an array, which nobody knows unless the array is whole.
func countsFromEnd(text []byte, part string) bool {
	return strings.HasPrefix(part, "-") && trim(text)[0] == '['
}
