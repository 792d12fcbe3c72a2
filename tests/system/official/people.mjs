// People with the official, unmodified libsignal client: its keys, its stores in memory, its network stack.
// Arguments of whatever imports this: LIBSIGNAL_FOLDER PORT ROOT_CERTIFICATE_DER CODES_FILE

import { readFileSync } from 'node:fs';
import { randomBytes, randomInt } from 'node:crypto';
import { pathToFileURL } from 'node:url';

export const [folder, port, rootCertificate, codesFile] = process.argv.slice(2);
export const signal = await import(pathToFileURL(`${folder}/dist/index.js`));
const { Net, AccountAttributes } = await import(pathToFileURL(`${folder}/dist/net.js`));

export const net = () =>
  new Net({
    localTestServer: true,
    userAgent: 'subrosa-conformance',
    TESTING_localServer_chatPort: Number(port),
    TESTING_localServer_cdsiPort: Number(port),
    TESTING_localServer_svr2Port: Number(port),
    TESTING_localServer_svrBPort: Number(port),
    TESTING_localServer_rootCertificateDer: new Uint8Array(readFileSync(rootCertificate)),
    TESTING_localServer_httpVersion: 1,
  });

const SERVER_DELIVERY_RECEIPT = 5;

export const bytes = (text) => new Uint8Array(Buffer.from(text));
export const text = (data) => Buffer.from(data).toString();
export const base64 = (data) => Buffer.from(data).toString('base64');
export const signedJson = (record) => ({
  keyId: record.id(), publicKey: base64(record.publicKey().serialize()), signature: base64(record.signature()),
});

// What the stores of libsignal ask for, in memory.
class Sessions extends signal.SessionStore {
  records = new Map();
  async saveSession(address, record) { this.records.set(address.toString(), record.serialize()); }
  async getSession(address) {
    const record = this.records.get(address.toString());
    return record ? signal.SessionRecord.deserialize(record) : null;
  }
  async getExistingSessions(addresses) { return Promise.all(addresses.map((address) => this.getSession(address))); }
}

class Identities extends signal.IdentityKeyStore {
  known = new Map();
  constructor(privateKey, registrationId) { super(); this.privateKey = privateKey; this.registrationId = registrationId; }
  async getIdentityKey() { return this.privateKey; }
  async getLocalRegistrationId() { return this.registrationId; }
  async saveIdentity(address, key) { this.known.set(address.name(), key); return signal.IdentityChange.NewOrUnchanged; }
  async isTrustedIdentity() { return true; }
  async getIdentity(address) { return this.known.get(address.name()) ?? null; }
}

class Prekeys extends signal.PreKeyStore {
  records = new Map();
  async savePreKey(id, record) { this.records.set(id, record); }
  async getPreKey(id) { return this.records.get(id); }
  async removePreKey(id) { this.records.delete(id); }
}

class SignedPrekeys extends signal.SignedPreKeyStore {
  records = new Map();
  async saveSignedPreKey(id, record) { this.records.set(id, record); }
  async getSignedPreKey(id) { return this.records.get(id); }
}

class KyberPrekeys extends signal.KyberPreKeyStore {
  records = new Map();
  used = [];
  async saveKyberPreKey(id, record) { this.records.set(id, record); }
  async getKyberPreKey(id) { return this.records.get(id); }
  async markKyberPreKeyUsed(id) { this.used.push(id); }
}

export function signedPrekey(id, identity) {
  const pair = signal.PrivateKey.generate();
  const signature = identity.sign(pair.getPublicKey().serialize());
  return signal.SignedPreKeyRecord.new(id, Date.now(), pair.getPublicKey(), pair, signature);
}

export function kyberPrekey(id, identity) {
  const pair = signal.KEMKeyPair.generate();
  return signal.KyberPreKeyRecord.new(id, Date.now(), pair, identity.sign(pair.getPublicKey().serialize()));
}

const codeFor = (number) =>
  readFileSync(codesFile, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
    .filter((entry) => entry.number === number).at(-1).code;

export class Person {
  constructor(number) {
    this.number = number;
    this.net = net();
    this.password = randomBytes(16).toString('hex');
    this.accessKey = new Uint8Array(randomBytes(16));
    this.registrationId = randomInt(1, 16380);
    this.identity = signal.PrivateKey.generate();
    this.pniIdentity = signal.PrivateKey.generate();
    this.sessions = new Sessions();
    this.identities = new Identities(this.identity, this.registrationId);
    this.prekeys = new Prekeys();
    this.signedPrekeys = new SignedPrekeys();
    this.kyberPrekeys = new KyberPrekeys();
    this.inbox = [];
    this.receipts = [];
    this.waiting = [];
  }

  get address() { return signal.ProtocolAddress.new(this.aci, 1); }

  async register() {
    const signed = signedPrekey(1, this.identity);
    const lastResort = kyberPrekey(1, this.identity);
    await this.signedPrekeys.saveSignedPreKey(1, signed);
    await this.kyberPrekeys.saveKyberPreKey(1, lastResort);
    const session = await this.net.createRegistrationSession({ e164: this.number });
    await session.requestVerification({ transport: 'sms', client: 'conformance', languages: ['en'] });
    this.wrongCode = await session.verifySession('000000').catch((error) => error.constructor.name);
    const code = codeFor(this.number);
    this.verified = await session.verifySession(code);
    const response = await session.registerAccount({
      accountPassword: this.password,
      skipDeviceTransfer: true,
      accountAttributes: new AccountAttributes({
        recoveryPassword: new Uint8Array(32),
        aciRegistrationId: this.registrationId,
        pniRegistrationId: randomInt(1, 16380),
        registrationLock: null,
        unidentifiedAccessKey: this.accessKey,
        unrestrictedUnidentifiedAccess: false,
        capabilities: new Set(),
        discoverableByPhoneNumber: true,
      }),
      aciPublicKey: this.identity.getPublicKey(),
      aciSignedPreKey: signed,
      aciPqLastResortPreKey: lastResort,
      pniPublicKey: this.pniIdentity.getPublicKey(),
      pniSignedPreKey: signedPrekey(1, this.pniIdentity),
      pniPqLastResortPreKey: kyberPrekey(1, this.pniIdentity),
    });
    this.aci = response.aci;
    return response;
  }

  async connect({ acknowledge }) {
    this.queueEmpty = new Promise((resolve) => { this.sawQueueEmpty = resolve; });
    this.chat = await this.net.connectAuthenticatedChat(this.aci.getServiceIdString() + '.1', this.password, false, {
      onIncomingMessage: (envelope, timestamp, ack) => {
        if (acknowledge) ack.send(200);
        const read = readEnvelope(envelope);
        if (read.type === SERVER_DELIVERY_RECEIPT) { this.receipts.push(read); return; }
        this.inbox.push(read);
        this.waiting.shift()?.();
      },
      onQueueEmpty: () => this.sawQueueEmpty(),
      onConnectionInterrupted: (cause) => { this.interrupted = cause ? (signal.ErrorCode[cause.code] ?? cause.name) : 'on purpose'; },
    });
  }

  async next() {
    if (this.inbox.length === 0) await new Promise((resolve) => this.waiting.push(resolve));
    return this.inbox.shift();
  }

  async uploadPrekeys() {
    const ec = [], kem = [];
    for (let id = 100; id < 110; id++) {
      const pair = signal.PrivateKey.generate();
      await this.prekeys.savePreKey(id, signal.PreKeyRecord.new(id, pair.getPublicKey(), pair));
      ec.push({ keyId: id, publicKey: base64(pair.getPublicKey().serialize()) });
      kem.push(signedJson(await this.newKyberPrekey(id)));
    }
    const signed = signedPrekey(2, this.identity);
    await this.signedPrekeys.saveSignedPreKey(2, signed);
    const body = { preKeys: ec, pqPreKeys: kem, signedPreKey: signedJson(signed) };
    const answer = await this.request('PUT', '/v2/keys?identity=aci', body);
    return { status: answer.status, counts: await this.prekeyCounts() };
  }

  async newKyberPrekey(id) {
    const record = kyberPrekey(id, this.identity);
    await this.kyberPrekeys.saveKyberPreKey(id, record);
    return record;
  }

  async prekeyCounts() { return JSON.parse(text((await this.request('GET', '/v2/keys?identity=aci')).body)); }

  async request(verb, path, body) {
    return this.chat.fetch({
      verb, path, headers: body ? [['content-type', 'application/json']] : [],
      body: body ? bytes(JSON.stringify(body)) : undefined,
    });
  }

  async open(envelope, trustRoot) {
    if (envelope.type === 6) {
      const result = await signal.sealedSenderDecryptMessage(
        envelope.content, trustRoot, Date.now(), null, this.aci.getServiceIdString(), 1,
        this.sessions, this.identities, this.prekeys, this.signedPrekeys, this.kyberPrekeys);
      return { text: text(result.message()), sender: result.senderUuid() };
    }
    const sender = signal.ProtocolAddress.new(
      signal.ServiceId.parseFromServiceIdBinary(envelope.sourceServiceId), envelope.sourceDevice);
    const plaintext = envelope.type === 3
      ? await signal.signalDecryptPreKey(signal.PreKeySignalMessage.deserialize(envelope.content), sender, this.address,
          this.sessions, this.identities, this.prekeys, this.signedPrekeys, this.kyberPrekeys)
      : await signal.signalDecrypt(signal.SignalMessage.deserialize(envelope.content), sender, this.address,
          this.sessions, this.identities);
    return { text: text(plaintext), sender: sender.name() };
  }
}

// The four fields of an envelope that a client needs, straight from the protobuf.
export function readEnvelope(data) {
  const names = { 1: 'type', 7: 'sourceDevice', 8: 'content', 19: 'sourceServiceId', 10: 'serverTimestamp' };
  const envelope = {};
  let at = 0;
  const varint = () => {
    let value = 0n, shift = 0n;
    for (;;) {
      const byte = data[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
      shift += 7n;
    }
  };
  while (at < data.length) {
    const tag = varint();
    let value;
    if ((tag & 7) === 0) value = varint();
    else { const length = varint(); value = data.slice(at, at + length); at += length; }
    if (names[tag >> 3]) envelope[names[tag >> 3]] = value;
  }
  return envelope;
}

export async function refused(promise) {
  try { await promise; return 'accepted'; } catch (error) { return signal.ErrorCode[error.code] ?? error.name; }
}

// The connection's threads do not keep Node alive, and a relay that never answers must not keep it for ever.
setTimeout(() => { console.error('no end in sight'); process.exit(1); }, 60_000);
