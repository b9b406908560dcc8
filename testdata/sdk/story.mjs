// Drives a content API with Contentful's own client, one operation after the
// other, and prints one line of JSON for each: { op, result }. After each it
// writes a content type into the space "marks", so that what cmstap made of
// the operation can be told from what it made of the next.
import { createClient } from 'contentful-management'

const host = process.argv[2]
const client = createClient(
  { accessToken: 'token-of-an-editor', host, hostUpload: host, insecure: true },
  { type: 'plain', defaults: { spaceId: 'sp1', environmentId: 'master' } },
)

let steps = 0
async function step(op, run) {
  const result = await run()
  await client.contentType.createWithId({ spaceId: 'marks', contentTypeId: `mark-${steps++}` }, { name: op, fields: [] })
  console.log(JSON.stringify({ op, result }))
  return result
}

const link = (linkType, id, version) => ({ sys: { type: 'Link', linkType, id, version } })
const items = (...links) => ({ sys: { type: 'Array' }, items: links })
const in2 = { 'en-US': 'Hello', 'de-DE': 'Hallo' }
const title = [{ id: 'title', name: 'Title', type: 'Symbol', required: false, localized: true }]

async function contentTypes() {
  const { contentType } = client
  const draft = await step('contentType.create', () => contentType.create({}, { name: 'Draft', displayField: 'title', fields: title }))
  const id = { contentTypeId: draft.sys.id }
  let post = await step('contentType.createWithId', () =>
    contentType.createWithId({ contentTypeId: 'post' }, { name: 'Post', displayField: 'title', fields: title }))
  post = await step('contentType.update', () => contentType.update({ contentTypeId: 'post' }, { ...post, description: 'A post' }))
  await step('contentType.publish', () => contentType.publish({ contentTypeId: 'post' }, post))
  const published = await contentTypePublished(id, draft)
  await step('contentType.unpublish', () => contentType.unpublish({ ...id }, published))
  await step('contentType.delete', () => contentType.delete(id))
  const controls = await client.editorInterface.update({ contentTypeId: 'post' }, { sys: { version: 0 }, controls: [] })
  await step('editorInterface.update', () => client.editorInterface.update({ contentTypeId: 'post' }, controls))
}

const contentTypePublished = (id, draft) =>
  step('contentType.publish (draft)', () => client.contentType.publish(id, draft))

async function entries() {
  const { entry } = client
  const id = { entryId: 'e1' }
  const made = await step('entry.create', () => entry.create({ contentTypeId: 'post' }, { fields: { title: { 'en-US': 'Other' } } }))
  let e = await step('entry.createWithId', () => entry.createWithId({ contentTypeId: 'post', ...id }, { fields: { title: in2 } }))
  e = await step('entry.update (never published)', () => entry.update(id, e))
  e = await step('entry.patch', () =>
    entry.patch({ ...id, version: e.sys.version }, [{ op: 'replace', path: '/fields/title/en-US', value: 'Bye' }]))
  e = await step('entry.publish', () => entry.publish(id, e))
  e = await step('entry.update', () => entry.update(id, e))
  e = await step('entry.publish locales (add)', () => entry.publish({ ...id, locales: ['de-DE'] }, e))
  e = await step('entry.unpublish locales (remove)', () => entry.unpublish({ ...id, locales: ['de-DE'] }, e))
  await step('entry.unpublish', () => entry.unpublish(id, e))
  await step('entry.archive', () => entry.archive(id))
  await step('entry.unarchive', () => entry.unarchive(id))
  await step('entry.delete', () => entry.delete({ entryId: made.sys.id }))
}

async function assets() {
  const { asset } = client
  const id = { assetId: 'a1' }
  const text = { title: { 'en-US': 'Pic' }, description: { 'en-US': 'A picture' } }
  const file = { 'en-US': { contentType: 'image/png', fileName: 'y.png', upload: 'http://127.0.0.1/y.png' } }
  const bare = await step('asset.create', () => asset.create({}, { fields: text }))
  let a = await step('asset.createWithId', () => asset.createWithId(id, { fields: { ...text, file } }))
  a = await step('asset.update', () => asset.update(id, a))
  a = await step('asset.processForLocale', () => asset.processForLocale({}, a, 'en-US', { processingCheckWait: 10 }))
  a = await step('asset.publish', () => asset.publish(id, a))
  await step('asset.unpublish', () => asset.unpublish(id, a))
  await step('asset.archive', () => asset.archive(id))
  await step('asset.unarchive', () => asset.unarchive(id))
  await step('asset.delete', () => asset.delete({ assetId: bare.sys.id }))
}

async function environments() {
  const { environmentAlias } = client
  const id = { environmentAliasId: 'my-alias' }
  await step('environment.createWithId', () =>
    client.environment.createWithId({ environmentId: 'release-1', sourceEnvironmentId: 'master' }, { name: 'release-1' }))
  let alias = await step('environmentAlias.createWithId', () =>
    environmentAlias.createWithId(id, { environment: link('Environment', 'release-1') }))
  alias = await step('environmentAlias.update', () =>
    environmentAlias.update(id, { ...alias, environment: link('Environment', 'master') }))
  const at = { environmentId: 'my-alias', entryId: 'e1' }
  const e = await client.entry.get(at)
  await step('entry.update via alias', () => client.entry.update(at, e))
  await step('environmentAlias.delete', () => environmentAlias.delete(id))
}

async function releases() {
  const { release, entry } = client
  let r = await step('release.create', () => release.create({}, { title: 'R1', entities: items(link('Entry', 'e1')) }))
  const id = { releaseId: r.sys.id }
  const now = () => ({ ...id, version: r.sys.version })
  r = await step('release.update', () => release.update(now(), { title: 'R1b', entities: items() }))
  await step('release.validate', () => release.validate(id, { action: 'publish' }))
  const copy = await step('release entry create', () =>
    entry.create({ ...id, contentTypeId: 'post' }, { fields: { title: in2 } }))
  await step('release entry update', () => entry.update({ ...id, entryId: copy.sys.id }, copy))
  await step('release.publish', () => release.publish(now()))
  await step('release.unpublish', () => release.unpublish(now()))
  r = await step('release.archive', () => release.archive(now()))
  r = await step('release.unarchive', () => release.unarchive(now()))
  await step('release.delete', () => release.delete(id))
}

async function actions() {
  const { bulkAction, scheduledActions } = client
  const both = items(link('Entry', 'e1', 3), link('Asset', 'a1', 2))
  await step('bulkAction.publish v1', () => bulkAction.publish({}, { entities: both }))
  await step('bulkAction.unpublish v1', () => bulkAction.unpublish({}, { entities: items(link('Entry', 'e1')) }))
  await step('bulkAction.validate v1', () => bulkAction.validate({}, { entities: items(link('Entry', 'e1')) }))
  const one = { entity: link('Entry', 'e1', 3), add: { fields: { '*': ['de-DE'] } } }
  await step('bulkAction v2 publish', () => bulkAction.publishV2({}, { action: 'publish', entities: [one] }))
  await step('bulkAction v2 unpublish', () =>
    bulkAction.unpublishV2({}, { action: 'unpublish', entities: [{ entity: link('Entry', 'e1') }] }))
  const plan = {
    entity: link('Entry', 'e1'), environment: link('Environment', 'master'), action: 'publish',
    scheduledFor: { datetime: '2030-01-01T00:00:00.000Z', timezone: 'UTC' },
  }
  const s = await step('scheduledActions.create', () => scheduledActions.create({}, plan))
  const id = { scheduledActionId: s.sys.id }
  await step('scheduledActions.update', () => scheduledActions.update({ ...id, version: s.sys.version }, plan))
  await step('scheduledActions.delete', () => scheduledActions.delete({ ...id, environmentId: 'master' }))
}

async function teamwork() {
  const { task, comment, workflow } = client
  const e1 = { entryId: 'e1' }
  let t = await step('task.create', () => task.create(e1, { body: 'do', status: 'active', assignedTo: link('User', 'u1') }))
  t = await step('task.update', () => task.update({ ...e1, taskId: t.sys.id }, { ...t, status: 'resolved' }))
  await step('task.delete', () => task.delete({ ...e1, taskId: t.sys.id, version: t.sys.version }))
  let c = await step('comment.create', () => comment.create(e1, { body: 'hi' }))
  c = await step('comment.update', () => comment.update({ ...e1, commentId: c.sys.id }, { ...c, body: 'hi2' }))
  await step('comment.delete', () => comment.delete({ ...e1, commentId: c.sys.id, version: c.sys.version }))
  let w = await step('workflow.create', () =>
    workflow.create({}, { entity: link('Entry', 'e1'), workflowDefinition: link('WorkflowDefinition', 'wd1'), stepId: 's1' }))
  w = await step('workflow.update', () => workflow.update({ workflowId: w.sys.id }, { ...w, stepId: 's2' }))
  await step('workflow.complete', () => workflow.complete({ workflowId: w.sys.id, version: w.sys.version }))
}

async function settings() {
  const { webhook } = client
  await step('tag.createWithId', () =>
    client.tag.createWithId({ tagId: 't1' }, { name: 'T', sys: { id: 't1', visibility: 'public' } }))
  await step('locale.create', () => client.locale.create({}, {
    name: 'German', code: 'de-DE', fallbackCode: null, optional: true, contentDeliveryApi: true, contentManagementApi: true,
  }))
  await step('upload.create', () => client.upload.create({}, { file: 'abc' }))
  const w = await step('webhook.create', () => webhook.create({}, { name: 'wh', url: 'https://hooks.example.com/', topics: ['*.*'] }))
  const id = { webhookDefinitionId: w.sys.id }
  await step('webhook.update', () => webhook.update(id, w))
  await step('webhook.getMany', () => webhook.getMany({}))
  await step('webhook.upsertSigningSecret', () => webhook.upsertSigningSecret({}, { value: 'a'.repeat(64) }))
  await step('webhook.upsertRetryPolicy', () => webhook.upsertRetryPolicy({}, { maxRetries: 15 }))
  await step('webhook.delete', () => webhook.delete(id))
}

for (const part of [contentTypes, entries, assets, environments, releases, actions, teamwork, settings]) {
  await part()
}
