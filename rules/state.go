package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"cmstap/event"
	"cmstap/internal/expression"
)

// beforeConfig says how an entity is read before a write, where nothing is kept
// of it.
type beforeConfig struct {
	// Get is its path, as a template.
	Get string `yaml:"get"`
	// Payload names the form in which events show the entity, as payload does in
	// a route; without one it is the answer as it is.
	Payload string `yaml:"payload"`

	get     template
	payload *node
}

func (d *Dialect) compileBefore(check place, c beforeConfig) *beforeConfig {
	if c.Get == "" {
		if c.Payload != "" {
			check.Add("get", "say where the entity is, for example /posts/${path.id}")
		}
		return nil
	}
	c.get = compileTemplate(check, "get", c.Get, requestRoots)
	if c.payload = d.payloads[c.Payload]; c.Payload != "" && c.payload == nil {
		check.Add("payload", "there is no payload %q under payloads%s", c.Payload, didYouMean(c.Payload, d.payloads))
	}
	return &c
}

// Recall lists the keys of the entities that an exchange is about, and tells
// whether anybody asks what they were. Derive wants to be given their states.
func (r *Rules) Recall(x *event.Exchange, links event.Links) (keys []string, content bool) {
	of := r.dialect.named[x.Intent.Route]
	if of == nil {
		return nil, false
	}
	content = r.roots["before"] || r.roots["changes"]
	for _, one := range append(slices.Clip(of.after), of) {
		content = content || one.readsBefore || one.readsRelated
	}
	if _, constant := of.typ.constant(); constant && of.each == nil && of.job == nil && of.related.id == nil && x.Intent.Entity != "" {
		return []string{x.Intent.Entity}, content
	}
	return r.derive(x, links, nil, true).keys, content
}

// Lookup is the path under which the entity of an intent is to be read before the
// write is forwarded; "" if nothing depends on what it was, or that is known.
func (r *Rules) Lookup(intent *event.Intent) string {
	route := r.dialect.named[intent.Route]
	if route == nil || route.needs == nil || intent.Entity == "" || intent.Last.Known {
		return ""
	}
	asks := r.roots["before"] || r.roots["changes"] || r.roots["payload"] || r.roots["entity"]
	if !asks && !route.readsBefore {
		return ""
	}
	in := r.dialect.again(intent)
	query := map[string]string{}
	for name, value := range in.query {
		query[name] = url.QueryEscape(value)
	}
	v := escaped(expression.NewScope(r.dialect.rootsOf(intent, route))).With(map[string]any{"uri": in.path, "query": query})
	path := route.needs.get.known(v)
	if strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c == '#' || c == 0x7f }) {
		return "" // the path may be plain text from the query
	}
	return path
}

// none is how an event says that there was no entity before.
var none = json.RawMessage("null")

// unseenBefore says why a state is not known if there is nothing more to say.
const unseenBefore = "the state before is not known"

// recall fills in what the entity's state tells: its content type, what it was,
// and whether the event is late.
func (d *derivation) recall(e *event.Event, v *expression.Scope) {
	key := e.Key()
	state := d.states[key]
	var since event.Last
	if key == d.x.Intent.Entity {
		since = d.x.Intent.Last
	}
	e.BeforeUnseen = unseenBefore
	switch {
	case state.Newer(e.Entity.Version, since):
		e.Late, e.BeforeUnseen = true, "a newer version of it was seen before"
	case state.Gone && !e.Gone && key == d.x.Intent.Entity && state.Seq != since.Seq:
		e.BeforeUnseen = "it was deleted while this write was under way"
		return // nobody knows which of them was first
	case state.Gone:
		e.Before, e.BeforeUnseen, e.BeforeEvent = none, "", event.NoEvent
		return // its id may be another entity's now
	case state.Payload != nil:
		e.Before, e.BeforeUnseen, e.BeforeEvent = state.Payload, "", state.Shown
	case d.x.Before != nil && state.Seq == since.Seq && d.isOfIntent(e, v):
		d.lookedUp(e, v)
	case state.Shown != "": // nobody asks for it now
		e.BeforeEvent = state.Shown
	}
	if e.Entity.ContentType == "" {
		e.Entity.ContentType = state.ContentType
	}
}

// isOfIntent tells whether an event is about the entity of the intent, of whose
// type the answer may have another name than the path.
func (d *derivation) isOfIntent(e *event.Event, v *expression.Scope) bool {
	if e.Key() == d.x.Intent.Entity {
		return true
	}
	if _, constant := d.route.typ.constant(); constant || d.route.each != nil {
		return false
	}
	head := *e
	head.Entity.Type = d.route.typ.known(v.With(map[string]any{"status": 0, "response": expression.Document{Why: "no answer was seen"}}))
	return head.Key() == d.x.Intent.Entity
}

// relatedKey is the key of the entity that an event's is related to, "" if there
// is none.
func (d *derivation) relatedKey(e *event.Event, v *expression.Scope) string {
	id := d.route.related.id.known(v)
	if id == "" {
		return ""
	}
	return event.Key(e.Space, e.Resolved(), d.route.related.typ, id, "")
}

// relatedState is what is known of that entity, as expressions see it.
func (d *derivation) relatedState(key string) expression.Document {
	if payload := d.states[key].Payload; payload != nil {
		return whole(payload)
	}
	return expression.Document{Why: "nothing is kept of what it is related to"}
}

// lookedUp fills in what was read before the write.
func (d *derivation) lookedUp(e *event.Event, v *expression.Scope) {
	found, needs := d.x.Before, d.route.needs
	response := readable(found.Entity)
	switch {
	case needs == nil || response.JSON == nil && len(found.Entity.Bytes) > 0:
		return
	case found.Status == statusNotFound:
		e.Before, e.BeforeUnseen, e.BeforeEvent = none, "", event.NoEvent
		return
	case found.Status != statusOK || response.JSON == nil:
		return
	}
	v = v.With(map[string]any{"response": response, "status": found.Status})
	if e.Entity.ContentType == "" {
		e.Entity.ContentType = d.route.event["content_type"].known(v)
	}
	if needs.payload == nil {
		e.Before, e.BeforeUnseen = without(response.JSON, d.dialect.without), ""
		return
	}
	payload, ok := needs.payload.fillOrNot(v.With(d.roots(e)), &gaps{})
	if ok {
		e.Before, e.BeforeUnseen = without(payload, d.dialect.without), ""
	}
}

// beforeOf is what was before as expressions see it.
func beforeOf(e *event.Event) any {
	switch {
	case e.Before == nil:
		why := e.BeforeUnseen
		if why == "" {
			why = unseenBefore
		}
		return expression.Document{Why: why}
	case bytes.Equal(e.Before, none):
		return nil
	default:
		return whole(e.Before)
	}
}

// Restore fills in what filters ask of a stored event, where nobody asked for it
// when the event was made. Before is what it is known to have been.
func (r *Rules) Restore(e *event.Event) {
	if r.roots["changes"] && e.Changes == nil {
		compare(e)
	}
}

// changesOf is the list of changes as expressions see it.
func changesOf(e *event.Event) expression.Document {
	if e.Changes == nil {
		return expression.Document{Why: cmp.Or(e.ChangesUnseen, e.BeforeUnseen, unseenBefore)}
	}
	return document(e.Changes, "")
}

// maxChanges bounds the paths of changes.
const maxChanges = 1000

// compare fills in what changed.
func compare(e *event.Event) {
	now := e.Payload
	switch {
	case e.Before == nil:
		e.ChangesUnseen = e.BeforeUnseen
		return
	case e.Gone:
		now = none
	case e.Shows == event.ShowsSame:
		now = e.Before
	case e.Shows == event.ShowsNothing:
		e.ChangesUnseen = "the entity was not seen"
		return
	}
	was, is := decoded(e.Before), decoded(now)
	e.Changes = []string{} // known, if it is none
	if differ(&e.Changes, "", was, is); len(e.Changes) > maxChanges {
		e.Changes, e.ChangesUnseen = nil, "too much of it changed to be listed"
		return
	}
	slices.Sort(e.Changes)
}

// absent stands for a value that is not there.
type absent struct{}

// decoded is a JSON text as values, its numbers as they are written; null is
// absent.
func decoded(text []byte) (value any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil || value == nil {
		return absent{}
	}
	return value
}

// differ adds the paths of what differs. Of objects they lead to the values, of
// lists to the list.
func differ(paths *[]string, path string, was, is any) {
	old, wasObject := was.(map[string]any)
	young, isObject := is.(map[string]any)
	inside := wasObject && isObject ||
		wasObject && is == any(absent{}) && len(old) > 0 || isObject && was == any(absent{}) && len(young) > 0
	if !inside {
		if len(*paths) <= maxChanges && !reflect.DeepEqual(was, is) {
			*paths = append(*paths, path)
		}
		return
	}
	keys := maps.Clone(old)
	if keys == nil {
		keys = map[string]any{}
	}
	maps.Copy(keys, young)
	for key := range keys {
		differ(paths, dotted(path, key), field(old, key), field(young, key))
	}
}

func field(object map[string]any, key string) any {
	if value, there := object[key]; there {
		return value
	}
	return absent{}
}
