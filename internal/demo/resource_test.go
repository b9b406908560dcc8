package demo_test

import (
	"encoding/json"
	"testing"

	"cmstap/internal/demo"
)

const (
	toBlue  = `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"blue"}}}`
	toGreen = `{"environment":{"sys":{"type":"Link","linkType":"Environment","id":"green"}}}`
)

func TestAliases(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{})
	c.must(201, "PUT", "/spaces/sp1/environments/blue/content_types/post", postType)
	c.must(201, "PUT", "/spaces/sp1/environments/blue/entries/e1", hello)
	const alias = "/spaces/sp1/environment_aliases/live"
	equal(t, "version", c.must(201, "PUT", alias, toBlue).doc.Sys.Version, 1)
	c.must(409, "PUT", alias, toGreen)
	c.must(409, "PUT", alias, toGreen, version(7))

	through := c.must(200, "GET", "/spaces/sp1/environments/live/entries/e1", "").doc
	equal(t, "environment", through.Sys.Environment.Sys.ID, "live")
	saved := c.must(200, "PUT", "/spaces/sp1/environments/live/entries/e1", hello, version(1)).doc
	equal(t, "environment", saved.Sys.Environment.Sys.ID, "live")
	listed := c.must(200, "GET", "/spaces/sp1/environments/live/entries", "").doc
	equal(t, "environment", listed.Items[0].Sys.Environment.Sys.ID, "live")
	direct := c.must(200, "GET", "/spaces/sp1/environments/blue/entries/e1", "").doc
	equal(t, "environment", direct.Sys.Environment.Sys.ID, "blue")
	equal(t, "version", direct.Sys.Version, 2)
	task := c.must(201, "POST", "/spaces/sp1/environments/live/entries/e1/tasks", `{"body":"do"}`).doc
	equal(t, "environment", task.Sys.Environment.Sys.ID, "live")
	c.must(200, "GET", "/spaces/sp1/environments/blue/entries/e1/tasks/"+task.Sys.ID, "")

	equal(t, "version", c.must(200, "PUT", alias, toGreen, version(1)).doc.Sys.Version, 2)
	c.must(404, "GET", "/spaces/sp1/environments/live/entries/e1", "")
	equal(t, "aliases", len(c.must(200, "GET", "/spaces/sp1/environment_aliases", "").doc.Items), 1)
	equal(t, "environments", environments(c), map[string]string{"green": "", "live": "green", "master": ""})
	c.must(204, "DELETE", alias, "")
	c.must(404, "GET", alias, "")
	equal(t, "environments", environments(c), map[string]string{"master": ""})
	last := c.api.Writes()[len(c.api.Writes())-1]
	equal(t, "write", last, demo.Write{
		Method: "DELETE", Path: alias, Status: 204, Type: "EnvironmentAlias", Action: "delete", Space: "sp1", ID: "live", Version: 2,
	})
}

// environments lists the environments of the space, and what those stand for that are aliases.
func environments(c *client) map[string]string {
	c.t.Helper()
	var page struct {
		Items []struct {
			Sys struct {
				ID                 string
				Aliases            []any
				AliasedEnvironment struct{ Sys struct{ ID string } }
			}
		}
	}
	if err := json.Unmarshal(c.must(200, "GET", "/spaces/sp1/environments", "").body, &page); err != nil {
		c.t.Fatal(err)
	}
	found := map[string]string{}
	for _, item := range page.Items {
		found[item.Sys.ID] = item.Sys.AliasedEnvironment.Sys.ID
		target := item.Sys.ID == "green" || item.Sys.ID == "live"
		equal(c.t, item.Sys.ID+" has aliases", len(item.Sys.Aliases) == 1, target)
	}
	return found
}

func TestResources(t *testing.T) {
	t.Parallel()
	c := newClient(t, demo.ContentAPIOptions{NewID: func() string { return "new" }})
	check := func(status int, method, path, body string, version int, headers ...string) {
		t.Helper()
		equal(t, method+" "+path, c.must(status, method, path, body, headers...).doc.Sys.Version, version)
	}
	check(201, "POST", env+"/releases", `{"title":"R"}`, 1)
	check(409, "PUT", env+"/releases/new", `{}`, 0)
	check(400, "PUT", env+"/releases/new", `{`, 0, version(1))
	check(200, "PUT", env+"/releases/new", `{"title":"S"}`, 2, version(1))
	check(200, "PUT", env+"/releases/new/archived", "", 3, version(2))
	check(200, "DELETE", env+"/releases/new/archived", "", 4)
	check(202, "PUT", env+"/releases/new/published", "", 1)
	check(200, "GET", env+"/releases/new/actions/new", "", 1)
	check(204, "DELETE", env+"/releases/new", "", 0)
	check(404, "DELETE", env+"/releases/new", "", 0)
	check(201, "POST", "/spaces/sp1/scheduled_actions", "{}", 1)
	check(200, "DELETE", "/spaces/sp1/scheduled_actions/new", "", 2)
	check(200, "GET", "/spaces/sp1/scheduled_actions/new", "", 2)
	check(201, "POST", env+"/bulk_actions/publish", "{}", 1)
	check(200, "GET", env+"/bulk_actions/actions/new", "", 1)
	check(200, "PUT", env+"/content_types/post/editor_interface", "{}", 1, version(0))
	check(201, "POST", env+"/uploads", "not JSON", 1, "Content-Type: application/octet-stream")
	check(404, "POST", env+"/unknown", "{}", 0)
}
