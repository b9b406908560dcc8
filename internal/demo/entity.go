package demo

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	userID        = "user-demo"
	defaultLocale = "en-US"
)

// entity is an entry, an asset or a content type. It is a plain value: an operation returns a changed copy, and what
// is behind the maps and slices is replaced, never changed.
type entity struct {
	key
	order            int // of creation
	content          content
	contentType      string // of an entry
	version          int
	publishedVersion int // 0 while not published
	publishedCounter int
	archivedVersion  int // 0 while not archived
	createdAt        time.Time
	updatedAt        time.Time
	publishedAt      time.Time
	firstPublishedAt time.Time
	archivedAt       time.Time
	locales          map[string]string // locale to draft, changed or published
}

// withContent replaces the content; metadata that is not sent stays.
func (e entity) withContent(c content) (entity, *problem) {
	if e.archivedVersion > 0 {
		return e, badRequest("Cannot edit archived")
	}
	if c.Metadata == nil {
		c.Metadata = e.content.Metadata
	}
	e.content = c
	e.locales = e.localesAfterSave()
	return e, nil
}

func (e entity) localesAfterSave() map[string]string {
	var fields map[string]map[string]json.RawMessage
	// Fields of another form are accepted and have no locales.
	_ = json.Unmarshal(e.content.Fields, &fields)
	status := map[string]string{defaultLocale: ""}
	for _, values := range fields {
		for locale := range values {
			status[locale] = ""
		}
	}
	for locale := range status {
		status[locale] = "draft"
		if was := e.locales[locale]; was == "published" || was == "changed" {
			status[locale] = "changed"
		}
	}
	return status
}

// localesAfterPublish reads the body of a publish: empty for all locales, or the locales to add or remove.
func (e entity) localesAfterPublish(body []byte) (map[string]string, *problem) {
	type fields struct {
		Fields map[string][]string `json:"fields"`
	}
	var only struct{ Add, Remove *fields }
	if len(body) > 0 {
		if err := json.Unmarshal(body, &only); err != nil {
			return nil, badRequest("The body you sent is not a choice of locales: " + err.Error())
		}
	}
	status := maps.Clone(e.locales)
	if only.Add == nil && only.Remove == nil {
		return marked(status, slices.Collect(maps.Keys(status)), "published"), nil
	}
	if only.Add != nil {
		marked(status, only.Add.Fields["*"], "published")
	}
	if only.Remove != nil {
		marked(status, only.Remove.Fields["*"], "draft")
	}
	return status, nil
}

func marked(status map[string]string, locales []string, as string) map[string]string {
	for _, l := range locales {
		status[l] = as
	}
	return status
}

func (e entity) localesAfterUnpublish() map[string]string {
	status := maps.Clone(e.locales)
	return marked(status, slices.Collect(maps.Keys(status)), "draft")
}

// link is how one entity names another.
type link struct {
	Sys linkSys `json:"sys"`
}

type linkSys struct {
	Type     string `json:"type"`
	LinkType string `json:"linkType"`
	ID       string `json:"id"`
}

func linkTo(linkType, id string) link {
	return link{linkSys{Type: "Link", LinkType: linkType, ID: id}}
}

// instant is a time as the API writes it.
type instant struct{ time.Time }

// MarshalJSON writes milliseconds and Z, always.
func (i instant) MarshalJSON() ([]byte, error) {
	return []byte(i.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// sys is what the system knows of an entity, in the order of a recorded answer of November 2025.
type sys struct {
	Space            link                         `json:"space"`
	ID               string                       `json:"id"`
	Type             string                       `json:"type"`
	CreatedAt        instant                      `json:"createdAt"`
	UpdatedAt        instant                      `json:"updatedAt"`
	Environment      link                         `json:"environment"`
	PublishedVersion int                          `json:"publishedVersion,omitzero"`
	PublishedAt      instant                      `json:"publishedAt,omitzero"`
	FirstPublishedAt instant                      `json:"firstPublishedAt,omitzero"`
	ArchivedVersion  int                          `json:"archivedVersion,omitzero"`
	ArchivedAt       instant                      `json:"archivedAt,omitzero"`
	ArchivedBy       link                         `json:"archivedBy,omitzero"`
	CreatedBy        link                         `json:"createdBy"`
	UpdatedBy        link                         `json:"updatedBy"`
	PublishedCounter int                          `json:"publishedCounter"`
	Version          int                          `json:"version"`
	PublishedBy      link                         `json:"publishedBy,omitzero"`
	FieldStatus      map[string]map[string]string `json:"fieldStatus,omitzero"`
	AutomationTags   []string                     `json:"automationTags,omitzero"`
	ContentType      link                         `json:"contentType,omitzero"`
	URN              string                       `json:"urn,omitzero"`
}

func (e entity) sys() sys {
	user := linkTo("User", userID)
	s := sys{
		Space: linkTo("Space", e.space), ID: e.id, Type: e.kind.name, Environment: linkTo("Environment", e.environment),
		CreatedAt: instant{e.createdAt}, UpdatedAt: instant{e.updatedAt}, CreatedBy: user, UpdatedBy: user,
		PublishedVersion: e.publishedVersion, PublishedAt: instant{e.publishedAt}, PublishedCounter: e.publishedCounter,
		FirstPublishedAt: instant{e.firstPublishedAt}, ArchivedVersion: e.archivedVersion,
		ArchivedAt: instant{e.archivedAt}, Version: e.version,
	}
	if e.publishedVersion > 0 {
		s.PublishedBy = user
	}
	if e.archivedVersion > 0 {
		s.ArchivedBy = user
	}
	if e.kind.content {
		s.FieldStatus = map[string]map[string]string{"*": e.locales}
		s.URN = fmt.Sprintf("crn:contentful:::content:spaces/%s/environments/%s/%s/%s",
			e.space, e.environment, e.kind.segment, e.id)
	}
	if e.kind == entries {
		s.AutomationTags = []string{}
		s.ContentType = linkTo("ContentType", e.contentType)
	}
	return s
}

// document is an entity as the API shows it.
type document struct {
	Metadata     json.RawMessage `json:"metadata,omitzero"`
	Sys          sys             `json:"sys"`
	DisplayField json.RawMessage `json:"displayField,omitzero"`
	Name         json.RawMessage `json:"name,omitzero"`
	Description  json.RawMessage `json:"description,omitzero"`
	Fields       json.RawMessage `json:"fields"`
}

func (e entity) document() document {
	c := e.content
	if !e.kind.content {
		return document{nil, e.sys(), c.DisplayField, c.Name, c.Description, c.Fields}
	}
	if c.Metadata == nil {
		c.Metadata = json.RawMessage(`{"tags":[],"concepts":[]}`)
	}
	return document{Metadata: c.Metadata, Sys: e.sys(), Fields: c.Fields}
}
