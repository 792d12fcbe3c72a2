// The rest of the contract: devices, provisioning, sync, stories, messages to many, usernames, profiles, attachments, reports.
// Typed calls where the client has them over HTTP/1.1, its tunnel for the others. Prints what it saw as one JSON object.

import { request as httpsRequest } from 'node:https';
import { readFileSync } from 'node:fs';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  base64, bytes, folder, kyberPrekey, Person, port, refused, rootCertificate, signal, signedJson, signedPrekey, text,
} from './people.mjs';
import { pathToFileURL } from 'node:url';

const usernames = await import(pathToFileURL(`${folder}/dist/usernames.js`));
const json = (answer) => JSON.parse(text(answer.body));
const url64 = (data) => Buffer.from(data).toString('base64url');
const seen = {};

const alice = new Person('+4915550000201'), bob = new Person('+4915550000202');
await alice.register();
await bob.register();
await alice.connect({ acknowledge: true });
await bob.connect({ acknowledge: true });
await Promise.all([alice.queueEmpty, bob.queueEmpty]);
const anonymous = await alice.net.connectUnauthenticatedChat({ onConnectionInterrupted() {} });
const plain = async (verb, path, { body, headers = [] } = {}) => anonymous.fetch({
  verb, path, headers: body ? [['content-type', 'application/json'], ...headers] : headers,
  body: body ? bytes(JSON.stringify(body)) : undefined,
});
const status = async (answer) => (await answer).status;

// Account: who one is, attributes, locks, the report.
seen.whoami = json(await alice.request('GET', '/v1/accounts/whoami')).uuid === alice.aci.getServiceIdString();
const attributes = {
  fetchesMessages: true, registrationId: alice.registrationId, pniRegistrationId: 7,
  unidentifiedAccessKey: base64(alice.accessKey), capabilities: { spqr: true }, discoverableByPhoneNumber: false,
};
seen.attributes = await status(alice.request('PUT', '/v1/accounts/attributes/', attributes));
seen.lock = await status(alice.request('PUT', '/v1/accounts/registration_lock', { registrationLock: 'ab'.repeat(32) }));
seen.unlock = await status(alice.request('DELETE', '/v1/accounts/registration_lock'));
const report = json(await alice.request('GET', '/v2/accounts/data_report'));
seen.report = { devices: report.data.devices.length, text: report.text.includes('# Account') };
seen.exists = [
  await anonymous.accountExists({ account: alice.aci }),
  await anonymous.accountExists({ account: signal.Aci.fromUuid(randomUUID()) }),
];

// A new device: the typed provisioning socket, and linking with a token.
const provisioned = await new Promise((resolve) => {
  bob.net.connectProvisioning({
    onReceivedAddress: async (address, ack) => {
      ack.send(200);
      const path = `/v1/provisioning/${encodeURIComponent(address)}`;
      seen.provisioning = await status(alice.request('PUT', path, { body: base64(bytes('come in')) }));
    },
    onReceivedEnvelope: (envelope, ack) => { ack.send(200); resolve(text(envelope)); },
    onConnectionInterrupted() {},
  });
});
seen.provisioned = provisioned;
const token = json(await alice.request('GET', '/v1/devices/provisioning/code'));
const laptop = { password: randomBytes(16).toString('hex'), registrationId: 4242, identity: alice.identity };
const linked = await plain('PUT', '/v1/devices/link', {
  body: {
    verificationCode: token.verificationCode,
    accountAttributes: { fetchesMessages: true, registrationId: 4242, pniRegistrationId: 4243, capabilities: { spqr: true } },
    aciSignedPreKey: signedJson(signedPrekey(1, alice.identity)),
    pniSignedPreKey: signedJson(signedPrekey(1, alice.pniIdentity)),
    aciPqLastResortPreKey: signedJson(kyberPrekey(1, alice.identity)),
    pniPqLastResortPreKey: signedJson(kyberPrekey(1, alice.pniIdentity)),
  },
  headers: [['authorization', 'Basic ' + base64(bytes(`new:${laptop.password}`))]],
});
seen.linked = { status: linked.status, device: json(linked).deviceId };
const waited = await alice.request('GET', `/v1/devices/wait_for_linked_device/${token.tokenIdentifier}?timeout=5`);
seen.waited = { id: json(waited).id, registrationId: json(waited).registrationId };
seen.name = await status(alice.request('PUT', '/v1/accounts/name?deviceId=2', { deviceName: base64(bytes('laptop')) }));
seen.devices = json(await alice.request('GET', '/v1/devices')).devices.map((device) => device.id);

// A typed sync send reaches the linked device.
const laptopInbox = [];
let laptopInterrupted = null;
const laptopChat = await alice.net.connectAuthenticatedChat(alice.aci.getServiceIdString() + '.2', laptop.password, false, {
  onIncomingMessage: (envelope, timestamp, ack) => { laptopInbox.push(envelope); ack.send(200); },
  onQueueEmpty() {},
  onConnectionInterrupted: (cause) => { laptopInterrupted = cause ? signal.ErrorCode[cause.code] : 'on purpose'; },
});
const bundlesOf = async (person) => (await anonymous.getPreKeys({
  target: person.aci, device: 'all', auth: { accessKey: person.accessKey },
})).preKeyBundles;
const laptopAddress = signal.ProtocolAddress.new(alice.aci, 2);
const aliceBundles = await bundlesOf(alice);
seen.bundles = aliceBundles.map((bundle) => bundle.deviceId());
await signal.processPreKeyBundle(aliceBundles[1], laptopAddress, alice.address, alice.sessions, alice.identities);
const sync = await signal.signalEncrypt(bytes('sync'), laptopAddress, alice.address, alice.sessions, alice.identities);
await alice.chat.sendSyncMessage({
  timestamp: Date.now(), urgent: true, contents: [{ deviceId: 2, registrationId: 4242, contents: sync }],
});
for (let tries = 0; laptopInbox.length === 0 && tries < 100; tries++) await new Promise((resolve) => setTimeout(resolve, 20));
seen.sync = laptopInbox.length;
seen.removed = await status(alice.request('DELETE', '/v1/devices/2'));
for (let tries = 0; laptopInterrupted === null && tries < 100; tries++) await new Promise((resolve) => setTimeout(resolve, 20));
seen.revoked = laptopInterrupted;

// Usernames: made by the client's own library, found by its typed look-ups.
const username = usernames.generateCandidates('rose', 3, 32)[0];
const hash = usernames.hash(username);
const hashes = [url64(randomBytes(32)), url64(hash)];
seen.reserved = json(await alice.request('PUT', '/v1/accounts/username_hash/reserve', { usernameHashes: hashes })).usernameHash === hashes[0];
await alice.request('PUT', '/v1/accounts/username_hash/reserve', { usernameHashes: [url64(hash)] });
const link = usernames.createUsernameLink(username);
const confirmed = json(await alice.request('PUT', '/v1/accounts/username_hash/confirm', {
  usernameHash: url64(hash), zkProof: url64(usernames.generateProof(username)), encryptedUsername: url64(link.encryptedUsername),
}));
const found = await anonymous.lookUpUsernameHash({ hash });
seen.username = found !== null && found.isEqual(alice.aci);
seen.noUsername = await anonymous.lookUpUsernameHash({ hash: new Uint8Array(randomBytes(32)) });
seen.link = (await anonymous.lookUpUsernameLink({ uuid: confirmed.usernameLinkHandle, entropy: link.entropy })).username === username;
seen.released = await status(alice.request('DELETE', '/v1/accounts/username_hash'));
seen.gone = await anonymous.lookUpUsernameHash({ hash });

// Profiles and identity checks.
const version = randomBytes(32).toString('hex');
seen.profile = await status(alice.request('PUT', '/v1/profile', {
  version, commitment: base64(randomBytes(97)), name: base64(randomBytes(81)), avatar: false,
}));
const profile = json(await bob.request('GET', `/v1/profile/${alice.aci.getServiceIdString()}/${version}`));
seen.profileName = Buffer.from(profile.name, 'base64').length;
seen.capabilities = profile.capabilities;
seen.batch = json(await plain('POST', '/v1/profile/identity_check/batch', {
  body: { elements: [{ uuid: alice.aci.getServiceIdString(), fingerprint: base64(randomBytes(4)) }] },
})).elements.length;

// An attachment: the typed upload form, then tus over plain HTTPS.
const content = randomBytes(5000);
const form = await alice.chat.getUploadForm({ uploadSize: 5000n });
seen.form = { cdn: form.cdn, hasKey: form.key.length > 0 };
const headers = Object.fromEntries(form.headers instanceof Map ? form.headers : Object.entries(form.headers));
const certificate = `-----BEGIN CERTIFICATE-----\n${readFileSync(rootCertificate).toString('base64')}\n-----END CERTIFICATE-----\n`;
const http = (method, path, headers = {}, body = null) => new Promise((resolve, reject) => {
  const call = httpsRequest({ host: 'localhost', port, method, path, headers, ca: certificate }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
  });
  call.on('error', reject);
  call.end(body);
});
const where = new URL(form.signedUploadUrl ?? form.signedUploadLocation).pathname;
const tus = { ...headers, 'Tus-Resumable': '1.0.0' };
const piece = { ...tus, 'Content-Type': 'application/offset+octet-stream' };
const created = await http('POST', where, { ...piece, 'Upload-Length': '5000', 'Content-Length': '2000' }, content.subarray(0, 2000));
const patched = await http('PATCH', created.headers.location, { ...piece, 'Upload-Offset': '2000' }, content.subarray(2000));
const downloaded = await http('GET', `/attachments/${form.key}`, { Range: 'bytes=100-' });
seen.attachment = [created.status, patched.status, downloaded.status, Buffer.compare(downloaded.body, content.subarray(100))];
seen.tooLarge = await refused(alice.chat.getUploadForm({ uploadSize: 10n ** 12n }));

// Stories and messages to many: typed, split by the relay, opened by the receiver's libsignal.
const certificateAnswer = await alice.chat.fetch({ verb: 'GET', path: '/v1/certificate/delivery', headers: [] });
const senderCertificate = signal.SenderCertificate.deserialize(
  new Uint8Array(Buffer.from(json(certificateAnswer).certificate, 'base64')));
const info = json(await plain('GET', '/v1/server-info'));
const trustRoot = signal.PublicKey.deserialize(new Uint8Array(Buffer.from(info.trustRoot, 'base64')));
const [bobBundle] = await bundlesOf(bob);
await signal.processPreKeyBundle(bobBundle, bob.address, alice.address, alice.sessions, alice.identities);
const sealed = await signal.sealedSenderEncryptMessage(bytes('sealed'), bob.address, senderCertificate, alice.sessions, alice.identities);
const sendSealed = (auth) => anonymous.sendMessage({
  destination: bob.aci, timestamp: Date.now(), auth, onlineOnly: false, urgent: true,
  contents: [{ deviceId: 1, registrationId: bob.registrationId, contents: sealed }],
});
await sendSealed({ accessKey: bob.accessKey });
seen.sealed = (await bob.open(await bob.next(), trustRoot)).text;
seen.unrestricted = await refused(sendSealed('unrestricted'));
seen.storyAccepted = await refused(sendSealed('story'));
const encryptedForMany = await (async () => {
  const content = signal.UnidentifiedSenderMessageContent.new(
    await signal.signalEncrypt(bytes('to many'), bob.address, alice.address, alice.sessions, alice.identities),
    senderCertificate, signal.ContentHint.Default, null);
  return signal.sealedSenderMultiRecipientEncrypt(content, [bob.address], alice.identities, alice.sessions);
})();
const many = await anonymous.sendMultiRecipientMessage({
  payload: encryptedForMany, timestamp: Date.now(), auth: 'story', onlineOnly: false, urgent: true,
});
seen.many = many.unregisteredIds.length;
const manyBody = await anonymous.fetch({
  verb: 'PUT', path: `/v1/messages/multi_recipient?ts=${Date.now()}&online=false&urgent=true`,
  headers: [['content-type', 'application/vnd.signal-messenger.mrm'], ['unidentified-access-key', base64(bob.accessKey)]],
  body: encryptedForMany,
});
seen.manyByKey = [manyBody.status, json(manyBody)];
seen.manyOpened = (await bob.open(await bob.next(), trustRoot)).text;
seen.manyRefused = await status(anonymous.fetch({
  verb: 'PUT', path: '/v1/messages/multi_recipient?ts=1', headers: [['unidentified-access-key', base64(alice.accessKey)]],
  body: encryptedForMany,
}));

// Keys, configuration, limits, reports; and at the end the account itself.
const digestOf = (await import('node:crypto')).createHash('sha256').update('other').digest();
seen.keysCheck = await status(alice.request('POST', '/v2/keys/check', { identityType: 'aci', digest: base64(digestOf) }));
seen.config = json(await alice.request('GET', '/v2/config')).config;
seen.limits = json(await alice.request('GET', '/v1/limits')).limits.length > 0;
seen.spam = await status(alice.request('POST', `/v1/messages/report/${bob.aci.getServiceIdString()}/${randomUUID()}`));
seen.deleted = await status(alice.request('DELETE', '/v1/accounts/me'));
seen.existsAfter = await anonymous.accountExists({ account: alice.aci });

console.log(JSON.stringify(seen));
process.exit(0);
