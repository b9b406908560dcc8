package rules_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// strapiReport is the body of a webhook call of Strapi's own.
type strapiReport struct {
	Event, Model, UID string
	Entry             map[string]any
	Media             map[string]any
}

// ownStrapi is what Strapi's own webhooks said of a step. They tell of each row
// of a deleted document, a draft and a published one. A single type goes by its
// name here.
func ownStrapi(x *recorded) (lines []string) {
	for _, report := range x.Own {
		var r strapiReport
		if err := json.Unmarshal(report.Body, &r); err != nil {
			panic(err)
		}
		line := fmt.Sprintf("%s %v", r.Event, r.Media["id"])
		if r.Entry != nil {
			id, locale := r.Entry["documentId"], r.Entry["locale"]
			if r.Model == "homepage" {
				id = r.Model
			}
			if locale == nil {
				locale = "en"
			}
			line = fmt.Sprintf("%s %v %v", r.Event, id, locale)
		}
		if r.Event != "entry.delete" || !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestStrapiTraffic: what recorded requests give is what Strapi's own webhooks
// said of them.
func TestStrapiTraffic(t *testing.T) {
	t.Parallel()
	compareTraffic(t, "strapi-traffic.json", newReplay(t, "strapi"), ownStrapi, map[string]meant{
		"UI: Discard changes": {"entry.draft-discard swtpgrzqojog96t4isunllbk en", "Strapi has that webhook; the one that was listening had not asked for it"},
		"create content type": {"content-type.create api::zlab20974.zlab20974", "Strapi has no webhook for models"},
		"update content type": {"content-type.update api::zlab20974.zlab20974", "the same"},
		"delete content type": {"content-type.delete api::zlab20974.zlab20974", "the same"},
	})
}
