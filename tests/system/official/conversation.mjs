// Two people talk through a relay: registration, keys, sending, receiving, acknowledging.
// The client's typed API is used wherever it has one over HTTP/1.1; its typed key upload speaks gRPC over HTTP/2 only, so
// keys are uploaded through its tunnel. Prints one JSON object of what it saw; the test beside it judges that.

import { bytes, Person, refused, signal, text } from './people.mjs';

const seen = {};
const alice = new Person('+4915550000101'), bob = new Person('+4915550000102');
const aliceAccount = await alice.register();
const bobAccount = await bob.register();
seen.registration = {
  wrongCode: alice.wrongCode, verified: alice.verified,
  number: aliceAccount.number, reregistration: aliceAccount.reregistration,
  pni: aliceAccount.pni !== null, differentAccounts: !aliceAccount.aci.isEqual(bobAccount.aci),
};

await alice.connect({ acknowledge: true });
await bob.connect({ acknowledge: true });
await Promise.all([alice.queueEmpty, bob.queueEmpty]);
seen.queueEmpty = true;
await alice.uploadPrekeys();
seen.upload = await bob.uploadPrekeys();

// A typed bundle fetch by access key, without credentials.
const anonymous = await alice.net.connectUnauthenticatedChat({ onConnectionInterrupted() {} });
const fetch = (accessKey, target = bob.aci) => anonymous.getPreKeys({ target, device: 'all', auth: { accessKey } });
const { identityKey, preKeyBundles } = await fetch(bob.accessKey);
seen.bundles = preKeyBundles.map((bundle) => ({
  device: bundle.deviceId(), oneTime: bundle.preKeyId(), kyber: bundle.kyberPreKeyId(), signed: bundle.signedPreKeyId(),
}));
seen.identityMatches = Buffer.compare(identityKey.serialize(), bob.identity.getPublicKey().serialize()) === 0;
seen.countsAfterFetch = await bob.prekeyCounts();
seen.wrongAccessKey = await refused(fetch(new Uint8Array(16)));
seen.unknownAccount = await refused(fetch(bob.accessKey, signal.Aci.fromUuid('00000000-0000-4000-8000-000000000001')));

// A typed, authenticated send; Bob is online.
await signal.processPreKeyBundle(preKeyBundles[0], bob.address, alice.address, alice.sessions, alice.identities);
const encrypt = (from, to, body) =>
  signal.signalEncrypt(bytes(body), to.address, from.address, from.sessions, from.identities);
const send = async (from, to, contents, registrationId = to.registrationId, deviceId = 1) =>
  from.chat.sendMessage({
    destination: to.aci, timestamp: Date.now(), onlineOnly: false, urgent: true,
    contents: [{ deviceId, registrationId, contents }],
  });
await send(alice, bob, await encrypt(alice, bob, 'hello bob'));
const first = await bob.next();
seen.first = { ...(await bob.open(first)), type: first.type };
seen.first.fromAlice = seen.first.sender === alice.aci.getServiceIdString();
await send(bob, alice, await encrypt(bob, alice, 'hello alice'));
seen.reply = { ...(await alice.open(await alice.next())) };
seen.reply.fromBob = seen.reply.sender === bob.aci.getServiceIdString();

// A typed sealed send with the relay's sender certificate, checked against its trust root.
const certificateAnswer = await alice.chat.fetch({ verb: 'GET', path: '/v1/certificate/delivery', headers: [] });
const certificate = signal.SenderCertificate.deserialize(
  new Uint8Array(Buffer.from(JSON.parse(text(certificateAnswer.body)).certificate, 'base64')));
const info = JSON.parse(text((await anonymous.fetch({ verb: 'GET', path: '/v1/server-info', headers: [] })).body));
const trustRoot = signal.PublicKey.deserialize(new Uint8Array(Buffer.from(info.trustRoot, 'base64')));
seen.certificateValid = certificate.validate(trustRoot, Date.now());
const sealed = await signal.sealedSenderEncryptMessage(
  bytes('hello under the rose'), bob.address, certificate, alice.sessions, alice.identities);
const sendSealed = (accessKey) => anonymous.sendMessage({
  destination: bob.aci, timestamp: Date.now(), auth: { accessKey }, onlineOnly: false, urgent: true,
  contents: [{ deviceId: 1, registrationId: bob.registrationId, contents: sealed }],
});
seen.sealedWrongKey = await refused(sendSealed(new Uint8Array(16)));
await sendSealed(bob.accessKey);
const sealedEnvelope = await bob.next();
seen.sealed = {
  type: sealedEnvelope.type, hasSource: 'sourceServiceId' in sealedEnvelope, ...(await bob.open(sealedEnvelope, trustRoot)),
};
seen.sealed.fromAlice = seen.sealed.sender === alice.aci.getServiceIdString();

// Wrong devices, as the typed API reports them.
const mismatched = async (promise) => {
  try { await promise; return 'accepted'; } catch (error) {
    return (error.entries ?? []).map((entry) => ({
      missing: entry.missingDevices, extra: entry.extraDevices, stale: entry.staleDevices,
    }));
  }
};
const later = await encrypt(alice, bob, 'to wrong devices');
seen.stale = await mismatched(send(alice, bob, later, (bob.registrationId % 16000) + 1));
seen.mismatched = await mismatched(send(alice, bob, later, bob.registrationId, 2));

// Offline: stored, and delivered at least once until acknowledged.
await bob.chat.disconnect();
for (const body of ['one', 'two', 'three']) await send(alice, bob, await encrypt(alice, bob, body));
await bob.connect({ acknowledge: false });
await bob.queueEmpty;
seen.unacknowledged = bob.inbox.length;
bob.inbox = [];
await bob.chat.disconnect();
await bob.connect({ acknowledge: true });
await bob.queueEmpty;
seen.redelivered = [];
for (const envelope of bob.inbox) seen.redelivered.push((await bob.open(envelope)).text);
bob.inbox = [];
await bob.chat.disconnect();
await bob.connect({ acknowledge: true });
await bob.queueEmpty;
seen.afterAcknowledgement = bob.inbox.length;

// Wrong credentials, an unknown path, and a second connection of the same device.
seen.wrongPassword = await refused(bob.net.connectAuthenticatedChat(
  bob.aci.getServiceIdString() + '.1', 'wrong', false, { onIncomingMessage() {}, onQueueEmpty() {}, onConnectionInterrupted() {} }));
seen.unknownPath = (await alice.chat.fetch({ verb: 'GET', path: '/v1/nowhere', headers: [] })).status;
const displaced = alice.chat;
await alice.connect({ acknowledge: true });
await new Promise((resolve) => setTimeout(resolve, 500));
seen.displaced = alice.interrupted;

seen.receipts = alice.receipts.map((receipt) => receipt.sourceDevice);
await Promise.all([alice.chat.disconnect(), bob.chat.disconnect(), anonymous.disconnect()]);
console.log(JSON.stringify(seen));
process.exit(0);
