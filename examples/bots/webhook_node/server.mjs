// A webhook bot behind the gateway, without dependencies. It shows how to verify what is posted (Standard Webhooks), how to know
// a delivery that comes again, and both ways to answer: by a method in the response, and by a call of one's own.
//
//   TOKEN=1234567890:… node server.mjs          the gateway is at GATEWAY, by default http://127.0.0.1:8081
//
// A delivery is over when it was answered with 2xx. Until then the gateway posts it again, so a crash loses nothing; what is answered
// under the delivery's name is said once, however often it comes.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const { TOKEN, GATEWAY = 'http://127.0.0.1:8081', HOST = '127.0.0.1', PORT = '3000' } = process.env;
const MAX_BODY = 1024 * 1024; // bytes of an update
const MAX_AGE = 5 * 60; // seconds by which a delivery may be older or newer than now
const MAX_REMEMBERED = 10_000; // deliveries whose answers are kept

let key; // of the signatures; the gateway tells it to whoever has the token
const answers = new Map(); // promises of what was answered, by webhook-id, the oldest first

/** Calls a method of the gateway; under a name it says nothing twice. */
async function call(method, parameters = {}, name) {
  const response = await fetch(`${GATEWAY}/bot${TOKEN}/${method}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(name && { 'Idempotency-Key': name }) },
    body: JSON.stringify(parameters),
  });
  const said = await response.json();
  if (!said.ok) throw new Error(`${method}: ${said.description}`);
  return said.result;
}

/** Whether one of the signatures is the gateway's, over exactly these bytes, and of now. */
function isSigned(headers, body) {
  const id = headers['webhook-id'] ?? '';
  const timestamp = headers['webhook-timestamp'] ?? '';
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > MAX_AGE) return false;
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  return (headers['webhook-signature'] ?? '').split(' ').some((signature) => {
    const [version, text = ''] = signature.split(',');
    const given = Buffer.from(text, 'base64');
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/** What the bot does. A method that is returned is called by the gateway, once for each delivery. */
async function handle(update, name) {
  const { text, chat, date } = update.message ?? {};
  if (text === undefined) return {};
  const chat_id = chat.id;
  if (/^\/start\b/.test(text)) return { method: 'sendMessage', chat_id, text: 'Hello! /time tells when you asked; all else I repeat.' };
  if (/^\/time\b/.test(text)) {
    // Under one name one thing is said: what follows from the delivery, which may come again, and not from the clock.
    await call('sendMessage', { chat_id, text: new Date(date * 1000).toISOString() }, name);
    return {};
  }
  return { method: 'sendMessage', chat_id, text };
}

/** The same answer to the same delivery. One that failed is not remembered: it comes again. */
function answer(name, body) {
  if (!answers.has(name)) {
    const answered = handle(JSON.parse(body), name);
    answered.catch(() => answers.delete(name));
    answers.set(name, answered);
    if (answers.size > MAX_REMEMBERED) answers.delete(answers.keys().next().value);
  }
  return answers.get(name);
}

/** The body, or null when it is too large. Then the rest is read and dropped: a sender that meets a closed socket never sees the 413. */
async function read(request) {
  const pieces = [];
  let size = 0;
  for await (const piece of request) {
    if ((size += piece.length) <= MAX_BODY) pieces.push(piece);
  }
  return size <= MAX_BODY ? Buffer.concat(pieces) : null;
}

async function respond(request) {
  if (request.method !== 'POST') return [405, {}];
  const body = await read(request);
  if (body === null) return [413, {}];
  if (key === undefined) return [503, {}]; // the secret is not known yet: the gateway waits
  if (!isSigned(request.headers, body)) return [401, {}];
  try {
    return [200, await answer(request.headers['webhook-id'], body)];
  } catch (error) {
    console.error(error.name); // never what was said
    return [500, {}];
  }
}

const server = createServer(async (request, response) => {
  const [status, body] = await respond(request);
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(body));
});

if (!TOKEN) {
  console.error('webhook_node: set TOKEN to the token that `subrosa bot create` has shown');
  process.exit(2);
}
server.listen(Number(PORT), HOST, async () => {
  const url = `http://${HOST}:${server.address().port}/`;
  try {
    await call('setWebhook', { url });
    key = Buffer.from((await call('getWebhookSecret')).replace(/^whsec_/, ''), 'base64');
  } catch (error) {
    console.error(`webhook_node: ${error.cause ? `no gateway answers at ${GATEWAY}` : error.message}`);
    process.exit(1);
  }
  console.log(`ready at ${url}`);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.close());
