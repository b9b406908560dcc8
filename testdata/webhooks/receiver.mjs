// Receives webhooks and verifies them with the libraries that receivers use.
// It prints its port, and then one line of JSON for each call. The first call of
// each path gets 503, so that there is a second attempt.
import { verifyRequest } from '@contentful/node-apps-toolkit'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import { Webhook } from 'standardwebhooks'

const secrets = JSON.parse(process.argv[2])

const verify = {
  standard: (secret) => ({ headers, body }) => new Webhook(secret).verify(body, headers),
  contentful: (secret) => (request) => verifyRequest(secret, request),
  // docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
  github: (secret) => ({ headers, body }) =>
    timingSafeEqual(
      Buffer.from(headers['x-hub-signature-256']),
      Buffer.from('sha256=' + createHmac('sha256', secret).update(body).digest('hex')),
    ),
}

function check(scheme, secret, request) {
  try {
    return verify[scheme](secret)(request) !== false
  } catch (error) {
    return String(error)
  }
}

const seen = new Set()
const server = createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const { method, url: path, headers } = request
  const scheme = path.split(/[/?]/)[1]
  const call = { method, path, headers, body: Buffer.concat(chunks).toString() }
  const verdicts = {}
  for (const [name, secret] of Object.entries(secrets[scheme])) verdicts[name] = check(scheme, secret, call)
  const tampered = { ...call, body: call.body + ' ' }
  const wrong = check(scheme, secrets[scheme].new, tampered) === true
  console.log(JSON.stringify({ scheme, verdicts, wrong, headers, path }))
  response.statusCode = seen.has(scheme) ? 200 : 503
  seen.add(scheme)
  response.end()
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
