package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// topicTable says for each operation of the story which topics are delivered.
const topicTable = `
contentType.create               | ContentManagement.ContentType.create
contentType.createWithId         | ContentManagement.ContentType.create
contentType.update               | ContentManagement.ContentType.save
contentType.publish              | ContentManagement.ContentType.publish
contentType.publish (draft)      | ContentManagement.ContentType.publish
contentType.unpublish            | ContentManagement.ContentType.unpublish
contentType.delete               | ContentManagement.ContentType.delete
editorInterface.update           |
entry.create                     | ContentManagement.Entry.create
entry.createWithId               | ContentManagement.Entry.create
entry.update (never published)   | ContentManagement.Entry.save
entry.patch                      | ContentManagement.Entry.save
entry.publish                    | ContentManagement.Entry.publish
entry.update                     | ContentManagement.Entry.save
entry.publish locales (add)      | ContentManagement.Entry.publish
entry.unpublish locales (remove) | ContentManagement.Entry.publish
entry.unpublish                  | ContentManagement.Entry.unpublish
entry.archive                    | ContentManagement.Entry.archive
entry.unarchive                  | ContentManagement.Entry.unarchive
entry.delete                     | ContentManagement.Entry.delete
asset.create                     | ContentManagement.Asset.create
asset.createWithId               | ContentManagement.Asset.create
asset.update                     | ContentManagement.Asset.save
asset.processForLocale           |
asset.publish                    | ContentManagement.Asset.publish
asset.unpublish                  | ContentManagement.Asset.unpublish
asset.archive                    | ContentManagement.Asset.archive
asset.unarchive                  | ContentManagement.Asset.unarchive
asset.delete                     | ContentManagement.Asset.delete
environment.createWithId         |
environmentAlias.createWithId    | SpaceManagement.EnvironmentAlias.create
environmentAlias.update          | SpaceManagement.EnvironmentAlias.change_target
entry.update via alias           | ContentManagement.Entry.save
environmentAlias.delete          | SpaceManagement.EnvironmentAlias.delete
release.create                   | ContentManagement.Release.create
release.update                   | ContentManagement.Release.save
release.validate                 |
release entry create             | ContentManagement.ReleaseEntry.save
release entry update             | ContentManagement.ReleaseEntry.save
release.publish                  | ContentManagement.ReleaseAction.create
release.unpublish                | ContentManagement.ReleaseAction.create
release.archive                  | ContentManagement.Release.archive
release.unarchive                | ContentManagement.Release.unarchive
release.delete                   | ContentManagement.Release.delete
bulkAction.publish v1            | ContentManagement.BulkAction.create
bulkAction.unpublish v1          | ContentManagement.BulkAction.create
bulkAction.validate v1           | ContentManagement.BulkAction.create
bulkAction v2 publish            | ContentManagement.BulkAction.create
bulkAction v2 unpublish          | ContentManagement.BulkAction.create
scheduledActions.create          | ContentManagement.ScheduledAction.create
scheduledActions.update          | ContentManagement.ScheduledAction.save
scheduledActions.delete          | ContentManagement.ScheduledAction.delete
task.create                      | ContentManagement.Task.create
task.update                      | ContentManagement.Task.save
task.delete                      | ContentManagement.Task.delete
comment.create                   | ContentManagement.Comment.create
comment.update                   | ContentManagement.Comment.save
comment.delete                   | ContentManagement.Comment.delete
workflow.create                  | ContentManagement.Workflow.create
workflow.update                  | ContentManagement.Workflow.save
workflow.complete                | ContentManagement.Workflow.complete
tag.createWithId                 |
locale.create                    |
upload.create                    |
webhook.create                   |
webhook.update                   |
webhook.getMany                  |
webhook.upsertSigningSecret      |
webhook.upsertRetryPolicy        |
webhook.delete                   |
`

// checkTopics compares the topics of each operation with the table.
func checkTopics(t *testing.T, told []operation) {
	t.Helper()
	var got []string
	for _, o := range told {
		line := o.Op + " |"
		for _, call := range o.deliveries {
			line += " " + call.Header.Get("X-Contentful-Topic")
		}
		got = append(got, line)
	}
	table := regexp.MustCompile(` +\|`).ReplaceAllString(strings.TrimSpace(topicTable), " |")
	if diff := cmp.Diff(strings.Split(table, "\n"), got); diff != "" {
		t.Error(diff)
	}
}
