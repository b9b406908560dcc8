// Drives a content API with Contentstack's own client, one operation after the
// other, and prints one line of JSON for each: { op, result }. After each it
// makes a content type in the stack "marks", so that what cmstap made of the
// operation can be told from what it made of the next.
import contentstack from '@contentstack/management'

const [host, port] = process.argv[2].split(':')
const api = contentstack.client({ host, port, insecure: true, retryOnError: false })
const stack = api.stack({ api_key: 'bltapikey', management_token: 'token-of-an-editor' })
const marks = api.stack({ api_key: 'marks', management_token: 'token-of-an-editor' })

let steps = 0
async function step(op, run) {
  const result = await run()
  await marks.contentType().create({ content_type: { uid: `mark-${steps++}`, title: op, schema: [] } })
  console.log(JSON.stringify({ op, result }))
  return result
}

const title = [{ display_name: 'Title', uid: 'title', data_type: 'text' }]
const both = { publishDetails: { locales: ['en-us', 'fr-fr'], environments: ['development', 'production'] }, locale: 'en-us', version: 1 }
const one = { publishDetails: { locales: ['en-us'], environments: ['production'] }, locale: 'en-us', version: 1 }
const later = '2027-01-01T00:00:00.000Z'

async function models() {
  await step('contentType.create', () => stack.contentType().create({ content_type: { title: 'Blog', uid: 'blog', schema: title } }))
  const blog = await stack.contentType('blog').fetch()
  await step('contentType.update', () => blog.update())
  await step('globalField.create', () => stack.globalField().create({ global_field: { title: 'SEO', uid: 'seo', schema: [] } }))
  await step('globalField.delete', () => stack.globalField('seo').delete())
}

async function entries() {
  const { uid } = await step('entry.create', () => stack.contentType('blog').entry().create({ entry: { title: 'T' } }))
  const entry = await stack.contentType('blog').entry(uid).fetch()
  entry.title = 'T2'
  await step('entry.update', () => entry.update())
  await step('entry.update in a locale', () => entry.update({ locale: 'fr-fr' }))
  await step('entry.publish', () => entry.publish(both))
  await step('entry.publish later', () => entry.publish({ ...one, scheduledAt: later }))
  await step('entry.unpublish', () => entry.unpublish(one))
  await step('entry.workflow', () => entry.setWorkflowStage({ workflow_stage: { uid: 'stage1' }, locale: 'en-us' }))
  await step('entry.delete in a locale', () => entry.delete({ locale: 'fr-fr' }))
  await step('entry.delete', () => entry.delete())
}

async function assets() {
  const { uid } = await step('asset.create', () => stack.asset().create({ upload: 'package.json', title: 'A file' }))
  const asset = await stack.asset(uid).fetch()
  await step('asset.update', () => asset.update())
  await step('asset.publish', () => asset.publish(one))
  await step('asset.delete', () => asset.delete())
}

async function bulk() {
  const details = {
    entries: [{ uid: 'e1', content_type: 'blog', version: 1, locale: 'en-us' }], assets: [{ uid: 'a1' }],
    locales: ['en-us'], environments: ['development', 'production'],
  }
  await step('bulk.publish', () => stack.bulkOperation().publish({ details, api_version: '3.2' }))
  await step('bulk.publish later', () => stack.bulkOperation().publish({ details: { ...details, scheduled_at: later } }))
  await step('bulk.unpublish', () => stack.bulkOperation().unpublish({ details: { ...details, assets: [] } }))
  await step('bulk.delete', () => stack.bulkOperation().delete({ details: { entries: details.entries, assets: details.assets } }))
  await step('bulk.workflow', () =>
    stack.bulkOperation().update({ entries: details.entries, workflow: { workflow_stage: { uid: 'stage1' } } }))
}

async function releases() {
  const release = await step('release.create', () => stack.release().create({ release: { name: 'R' } }))
  const items = [{ uid: 'e1', content_type_uid: 'blog', version: 1, locale: 'en-us', action: 'publish' }]
  await step('release.item.delete', () => release.item().delete({ items }))
  await step('release.deploy', () => release.deploy({ environments: ['production', 'uat'], locales: ['en-us'], action: 'publish' }))
}

async function taxonomies() {
  const taxonomy = await step('taxonomy.create', () => stack.taxonomy().create({ taxonomy: { uid: 'tax', name: 'Tax' } }))
  await step('taxonomy.localize', () => taxonomy.localize({ taxonomy: { uid: 'tax', name: 'Taxe' } }, { locale: 'fr-fr' }))
  await step('term.create', () => taxonomy.terms().create({ term: { uid: 'term', name: 'Term' } }))
  await step('term.delete', () => stack.taxonomy('tax').terms('term').delete())
  await step('taxonomy.delete', () => stack.taxonomy('tax').delete())
}

async function branches() {
  const on = (branch_uid) => api.stack({ api_key: 'bltapikey', management_token: 'token-of-an-editor', branch_uid })
  const save = (branch) => () => on(branch).contentType('blog').entry().create({ entry: { title: 'T' } })
  await step('branch.create', () => stack.branch().create({ branch: { uid: 'feature-x', source: 'main' } }))
  await step('alias.assign', () => stack.branchAlias('deploy').createOrUpdate('feature-x'))
  await step('entry.create on the branch', save('feature-x'))
  await step('entry.create on its alias', save('deploy'))
  await step('alias.assign again', () => stack.branchAlias('deploy').createOrUpdate('main'))
  await step('entry.create on the moved alias', save('deploy'))
  await step('alias.unassign', () => stack.branchAlias('deploy').delete())
  await step('entry.create on no alias', save('deploy'))
  await step('aliases.list', () => stack.branchAlias().fetchAll())
  await step('entry.create on the listed alias', save('listed'))
  await step('branch.delete', () => stack.branch('feature-x').delete())
}

async function others() {
  await step('workflow.enable', () => stack.workflow('wf1').enable())
  await step('webhook.create', () => stack.webhook().create({ webhook: { name: 'w', channels: ['assets.create'] } }))
  await step('contentType.delete', () => stack.contentType('blog').delete())
}

await models()
await entries()
await assets()
await bulk()
await releases()
await taxonomies()
await branches()
await others()
