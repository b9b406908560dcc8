// Drives a content management API with DatoCMS's own client, which waits for the
// results of jobs itself, and prints one line of JSON for each operation: { op,
// result }, or { op, error }. Records are called what their titles say.
import { buildClient } from '@datocms/cma-client-node'

const baseUrl = `http://${process.argv[2]}`
const client = buildClient({ apiToken: 'token-of-an-editor', baseUrl })
const inside = (environment) => buildClient({ apiToken: 'token-of-an-editor', baseUrl, environment })

async function step(op, run) {
  try {
    const result = await run()
    console.log(JSON.stringify({ op, result: result ?? null }))
    return result
  } catch (error) {
    console.log(JSON.stringify({ op, error: String(error.message) }))
  }
}

const drafts = { type: 'item_type', id: 'DRAFTS' }
const live = { type: 'item_type', id: 'LIVE' }
const items = (...ids) => ({ items: ids.map((id) => ({ type: 'item', id })) })
const uploads = (...ids) => ({ uploads: ids.map((id) => ({ type: 'upload', id })) })
const save = (title, item_type = drafts, by = client) => () => by.items.create({ item_type, title })

async function withDrafts() {
  await step('items.create', save('a'))
  await step('items.update', () => client.items.update('a', { title: 'a' }))
  await step('items.publish', () => client.items.publish('a'))
  await step('items.update of a published one', () => client.items.update('a', { title: 'a' }))
  await step('items.publish of a locale', () => client.items.publish('a', { content_in_locales: ['en'], non_localized_content: true }))
  await step('scheduledPublication.create', () => client.scheduledPublication.create('a', { publication_scheduled_at: '2027-01-01T00:00:00Z' }))
  await step('scheduledPublication.destroy', () => client.scheduledPublication.destroy('a'))
  await step('items.unpublish', () => client.items.unpublish('a'))
  await step('items.validateExisting', () => client.items.validateExisting('a', { title: 'a' }))
  await step('items.validateNew', () => client.items.validateNew({ item_type: drafts, title: 'new' }))
  await step('items.destroy of a draft', () => client.items.destroy('a'))
}

async function withoutDrafts() {
  await step('items.create live', save('b', live))
  await step('items.update live', () => client.items.update('b', { title: 'b' }))
  await step('items.destroy live', () => client.items.destroy('b'))
}

async function others() {
  await step('items.create limited', save('limited'))
  await step('items.duplicate', () => client.items.duplicate('limited'))
  await step('items.destroy locked', () => client.items.destroy('locked'))
}

async function bulk() {
  await Promise.all([
    step('items.bulkPublish', () => client.items.bulkPublish(items('p1', 'p2'))),
    step('items.bulkPublish in part', () => client.items.bulkPublish(items('q1', 'bad1'))),
    step('items.bulkPublish in vain', () => client.items.bulkPublish(items('bad2', 'bad3'))),
    step('items.bulkUnpublish', () => client.items.bulkUnpublish(items('u1'))),
    step('items.bulkMoveToStage', () => client.items.bulkMoveToStage({ stage: 'review', ...items('m1') })),
    step('items.bulkDestroy', () => client.items.bulkDestroy(items('d1', 'd2'))),
    step('uploads.bulkTag', () => client.uploads.bulkTag({ tags: ['x'], ...uploads('t1') })),
    step('uploads.bulkDestroy', () => client.uploads.bulkDestroy(uploads('t2', 't3'))),
    step('itemVersions.restore', () => client.itemVersions.restore('v1')),
  ])
}

async function models() {
  await step('itemTypes.create', () => client.itemTypes.create({ name: 'Article', api_key: 'M1' }))
  await step('itemTypes.update', () => client.itemTypes.update('M1', { name: 'Article2' }))
  await step('fields.create', () => client.fields.create('M2', { label: 'Title', field_type: 'string', api_key: 'title' }))
  await step('fields.destroy', () => client.fields.destroy('F-M3'))
  await step('fieldsets.create', () => client.fieldsets.create('M4', { title: 'Set' }))
  await step('itemTypes.destroy', () => client.itemTypes.destroy('M5'))
}

async function files() {
  await step('uploads.createFromLocalFile', () => client.uploads.createFromLocalFile({ localPath: 'package.json' }))
  await step('uploads.update', () => client.uploads.update('UP2', { author: 'x' }))
  await step('uploads.destroy', () => client.uploads.destroy('UP3'))
}

async function settings() {
  await step('maintenanceMode.activate', () => client.maintenanceMode.activate())
  await step('buildTriggers.trigger', () => client.buildTriggers.trigger('7'))
  await step('roles.create', () => client.roles.create({ name: 'Editor' }))
}

async function sandboxes() {
  await step('environments.fork', () => client.environments.fork('main', { id: 'dev' }))
  await step('environments.rename', () => client.environments.rename('old', { id: 'new' }))
  await step('items.create in a sandbox', save('in-dev', drafts, inside('dev')))
  await step('items.create in the primary by its name', save('by-name', drafts, inside('main')))
  await step('items.destroy in a sandbox', () => inside('dev').items.destroy('in-dev2'))
  await step('environments.destroy', () => client.environments.destroy('other'))
}

await step('items.create before the primary is known', save('early'))
await step('environments.list', () => client.environments.list())
await Promise.all([withDrafts(), withoutDrafts(), others(), bulk(), models(), files(), settings(), sandboxes()])
await step('environments.promote', () => client.environments.promote('dev'))
await step('items.create after the promotion', save('late'))
