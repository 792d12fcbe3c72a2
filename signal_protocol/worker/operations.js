// Pure functions of libsignal over serialized records: bytes in, bytes out.
//
// Nothing is kept between calls. No operation opens a file or a connection, or asks for the time: `now` is an argument, in
// milliseconds since 1970. What is written to a store during a call is returned, and the caller decides whether to keep it.
// A failed operation throws a `Refusal` or an error of libsignal's; `classify` gives either its name in Python.
//
// `local` is [service id, device id, registration id, private key, public key]; `remote` is [service id, device id].

import {
  CiphertextMessageType,
  DecryptionErrorMessage,
  ErrorCode,
  Fingerprint,
  IdentityChange,
  IdentityKeyPair,
  KEMKeyPair,
  KEMPublicKey,
  KyberPreKeyRecord,
  LibSignalErrorBase,
  PlaintextContent,
  PreKeyBundle,
  PreKeyRecord,
  PreKeySignalMessage,
  PrivateKey,
  ProtocolAddress,
  PublicKey,
  ScannableFingerprint,
  SenderCertificate,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  ServiceId,
  SessionRecord,
  SignalMessage,
  SignedPreKeyRecord,
  UnidentifiedSenderMessageContent,
  groupDecrypt,
  groupEncrypt,
  processPreKeyBundle,
  processSenderKeyDistributionMessage,
  sealedSenderDecryptToUsmc,
  sealedSenderEncrypt,
  sealedSenderMultiRecipientEncrypt,
  signalDecrypt,
  signalDecryptPreKey,
  signalEncrypt,
} from '@signalapp/libsignal-client';

// Signal's parameters: 5,200 rounds of SHA-512, second version of the format.
const SAFETY_NUMBER_ROUNDS = 5200;
const SAFETY_NUMBER_VERSION = 2;

export class Refusal extends Error {
  constructor(name, ...detail) {
    super(name);
    this.refusal = name;
    this.detail = detail;
  }
}

// --- the stores of one call -------------------------------------------------------------------------------------------

class Stores {
  constructor(local, session, known, trustsNew) {
    const [, , registrationId, privateKey, publicKey] = local;
    this.registrationId = registrationId;
    this.identity = own(() => new IdentityKeyPair(PublicKey.deserialize(publicKey), PrivateKey.deserialize(privateKey)));
    this.session = session && own(() => SessionRecord.deserialize(session));
    this.known = known && own(() => PublicKey.deserialize(known));
    this.trustsNew = trustsNew;
    this.prekeys = {};
  }

  async getSession() {
    return this.session;
  }

  async saveSession(_address, record) {
    this.session = record;
  }

  async getIdentityKeyPair() {
    return this.identity;
  }

  async getLocalRegistrationId() {
    return this.registrationId;
  }

  async getIdentity() {
    return this.known;
  }

  async isTrustedIdentity(_address, key) {
    const trusted = this.known ? this.known.equals(key) : this.trustsNew;
    if (!trusted) this.cause = new Refusal('UntrustedIdentity', key.serialize());
    return trusted;
  }

  async saveIdentity(_address, key) {
    this.known = key;
    return IdentityChange.NewOrUnchanged;
  }

  async getPreKey() {
    return this.#prekey('oneTime', PreKeyRecord);
  }

  async removePreKey(id) {
    this.usedOneTime = id;
  }

  async getSignedPreKey() {
    return this.#prekey('signed', SignedPreKeyRecord);
  }

  async getKyberPreKey() {
    return this.#prekey('kyber', KyberPreKeyRecord);
  }

  async markKyberPreKeyUsed(kyberId, signedId, baseKey) {
    this.usedKyber = [kyberId, signedId, baseKey.serialize()];
  }

  #prekey(kind, Record) {
    const bytes = this.prekeys[kind];
    try {
      if (!bytes) throw new Refusal('KeyNotFound');
      return own(() => Record.deserialize(bytes));
    } catch (error) {
      this.cause = error;
      throw error;
    }
  }

  run = run;
}

class SenderKeyStore {
  constructor(distributionId, record) {
    this.distributionId = distributionId;
    this.record = record && own(() => SenderKeyRecord.deserialize(record));
  }

  // The record was chosen by the id that the caller read: libsignal has to have read the same.
  async getSenderKey(_sender, distributionId) {
    if (distributionId === this.distributionId) return this.record;
    this.cause = new Refusal('InvalidMessage');
    throw this.cause;
  }

  async saveSenderKey(_sender, _distributionId, record) {
    this.record = record;
  }

  run = run;
}

// An error thrown in a store reaches the caller wrapped, without its type: stores remember it as `cause`.
async function run(action) {
  try {
    return await action();
  } catch (error) {
    throw this.cause ?? error;
  }
}

// Reads what we ourselves stored: if it cannot be read, it is not the message that is wrong.
function own(parse) {
  try {
    return parse();
  } catch (error) {
    throw error instanceof LibSignalErrorBase ? new Refusal('CorruptRecord') : error;
  }
}

function addressOf([serviceId, deviceId]) {
  return ProtocolAddress.new(serviceId, deviceId);
}

// --- keys -------------------------------------------------------------------------------------------------------------

function generateIdentity() {
  const key = PrivateKey.generate();
  return [key.getPublicKey().serialize(), key.serialize()];
}

function range(first, count) {
  return Array.from({ length: count }, (_, index) => first + index);
}

function generateOneTimePrekeys(firstId, count) {
  return range(firstId, count).map((id) => {
    const key = PrivateKey.generate();
    const record = PreKeyRecord.new(id, key.getPublicKey(), key);
    return [id, key.getPublicKey().serialize(), record.serialize()];
  });
}

function generateSignedPrekey(id, now, identityPrivate) {
  const identity = own(() => PrivateKey.deserialize(identityPrivate));
  const key = PrivateKey.generate();
  const publicKey = key.getPublicKey();
  const signature = identity.sign(publicKey.serialize());
  const record = SignedPreKeyRecord.new(id, now, publicKey, key, signature);
  return [publicKey.serialize(), signature, record.serialize()];
}

function generateKyberPrekeys(firstId, count, now, identityPrivate) {
  const identity = own(() => PrivateKey.deserialize(identityPrivate));
  return range(firstId, count).map((id) => {
    const pair = KEMKeyPair.generate();
    const publicKey = pair.getPublicKey().serialize();
    const signature = identity.sign(publicKey);
    return [id, publicKey, signature, KyberPreKeyRecord.new(id, now, pair, signature).serialize()];
  });
}

// --- sessions ---------------------------------------------------------------------------------------------------------

async function processBundle(local, remote, session, known, trustsNew, bundle, now) {
  const [registrationId, deviceId, identityKey, signed, kyber, oneTime] = bundle;
  const stores = new Stores(local, session, known, trustsNew);
  const prekeyBundle = PreKeyBundle.new(
    registrationId,
    deviceId,
    oneTime && oneTime[0],
    oneTime && PublicKey.deserialize(oneTime[1]),
    signed[0],
    PublicKey.deserialize(signed[1]),
    signed[2],
    PublicKey.deserialize(identityKey),
    kyber[0],
    KEMPublicKey.deserialize(kyber[1]),
    kyber[2]
  );
  await stores.run(() =>
    processPreKeyBundle(prekeyBundle, addressOf(remote), addressOf(local), stores, stores, new Date(now))
  );
  return [stores.session.serialize()];
}

async function encryptMessage(stores, local, remote, plaintext, now) {
  return stores.run(() =>
    signalEncrypt(plaintext, addressOf(remote), addressOf(local), stores, stores, new Date(now))
  );
}

async function encrypt(local, remote, session, known, trustsNew, plaintext, now) {
  const stores = new Stores(local, session, known, trustsNew);
  const message = await encryptMessage(stores, local, remote, plaintext, now);
  const { session: record } = stores;
  return [message.type(), message.serialize(), record.remoteRegistrationId(), record.serialize()];
}

async function decrypt(local, remote, session, known, trustsNew, kind, ciphertext, oneTime, signed, kyber) {
  const stores = new Stores(local, session, known, trustsNew);
  stores.prekeys = { oneTime, signed, kyber };
  const [from, to] = [addressOf(remote), addressOf(local)];
  const plaintext = await stores.run(() => {
    switch (kind) {
      case CiphertextMessageType.Whisper:
        return signalDecrypt(SignalMessage.deserialize(ciphertext), from, to, stores, stores);
      case CiphertextMessageType.PreKey:
        return signalDecryptPreKey(
          PreKeySignalMessage.deserialize(ciphertext), from, to, stores, stores, stores, stores, stores
        );
      default:
        throw new Refusal('InvalidArgument');
    }
  });
  return [
    plaintext,
    stores.session.serialize(),
    stores.known.serialize(),
    stores.usedOneTime ?? null,
    stores.usedKyber ?? null,
  ];
}

function sessionInfo(session, now) {
  const record = own(() => SessionRecord.deserialize(session));
  return [record.hasCurrentState(new Date(now)), remoteRegistrationId(record)];
}

function remoteRegistrationId(record) {
  try {
    return record.remoteRegistrationId();
  } catch (error) {
    if (error instanceof LibSignalErrorBase) return null; // archived: no current state to ask
    throw error;
  }
}

function archiveSession(session) {
  const record = own(() => SessionRecord.deserialize(session));
  record.archiveCurrentState();
  return [record.serialize()];
}

// --- groups -----------------------------------------------------------------------------------------------------------

async function createDistribution(sender, distributionId, senderKey) {
  const store = new SenderKeyStore(distributionId, senderKey);
  const message = await store.run(() =>
    SenderKeyDistributionMessage.create(addressOf(sender), distributionId, store)
  );
  return [message.serialize(), store.record.serialize()];
}

async function processDistribution(sender, distributionId, senderKey, message) {
  const store = new SenderKeyStore(distributionId, senderKey);
  await store.run(() =>
    processSenderKeyDistributionMessage(addressOf(sender), SenderKeyDistributionMessage.deserialize(message), store)
  );
  return [store.record.serialize()];
}

async function encryptForGroup(sender, distributionId, senderKey, plaintext) {
  const store = new SenderKeyStore(distributionId, senderKey);
  const message = await store.run(() => groupEncrypt(addressOf(sender), distributionId, store, plaintext));
  return [message.serialize(), store.record.serialize()];
}

async function decryptFromGroup(sender, distributionId, senderKey, ciphertext) {
  const store = new SenderKeyStore(distributionId, senderKey);
  const plaintext = await store.run(() => groupDecrypt(addressOf(sender), store, ciphertext));
  return [plaintext, store.record.serialize()];
}

// --- sealed sender ----------------------------------------------------------------------------------------------------

// Encrypting and sealing are one operation: libsignal cannot make a message object from bytes.
async function encryptSealed(local, remote, session, known, trustsNew, plaintext, certificate, hint, groupId, now) {
  const stores = new Stores(local, session, known, trustsNew);
  const message = await encryptMessage(stores, local, remote, plaintext, now);
  const content = contentOf(message, certificate, hint, groupId);
  const sealed = await stores.run(() => sealedSenderEncrypt(content, addressOf(remote), stores));
  return [sealed, stores.session.remoteRegistrationId(), stores.session.serialize()];
}

async function encryptSealedForGroup(
  local, destinations, excluded, distributionId, senderKey, plaintext, certificate, hint, groupId
) {
  const senderKeys = new SenderKeyStore(distributionId, senderKey);
  const message = await senderKeys.run(() => groupEncrypt(addressOf(local), distributionId, senderKeys, plaintext));
  const stores = new Stores(local, null, null, false);
  const identities = new Map(destinations.map(([remote, key]) => [remote[0], own(() => PublicKey.deserialize(key))]));
  stores.getIdentity = async (address) => identities.get(address.name()) ?? null;
  const sessions = destinations.map(([, , session]) => own(() => SessionRecord.deserialize(session)));
  if (sessions.some((record) => remoteRegistrationId(record) === null)) throw new Refusal('NoSession');
  stores.getExistingSessions = async () => sessions;
  const sealed = await stores.run(() =>
    sealedSenderMultiRecipientEncrypt({
      content: contentOf(message, certificate, hint, groupId),
      recipients: destinations.map(([remote]) => addressOf(remote)),
      excludedRecipients: excluded.map((serviceId) => ServiceId.parseFromServiceIdString(serviceId)),
      identityStore: stores,
      sessionStore: stores,
    })
  );
  return [sealed, senderKeys.record.serialize()];
}

function contentOf(message, certificate, hint, groupId) {
  return UnidentifiedSenderMessageContent.new(message, SenderCertificate.deserialize(certificate), hint, groupId);
}

// libsignal opens the seal without a look at the certificate: both happen here, so that neither can be forgotten.
async function unseal(local, message, trustRoots, now) {
  const stores = new Stores(local, null, null, false);
  const content = await sealedSenderDecryptToUsmc(message, stores);
  const certificate = content.senderCertificate();
  const roots = trustRoots.map((root) => own(() => PublicKey.deserialize(root)));
  const sender = certificate.senderAci();
  if (sender === null || !isValid(certificate, roots, now)) throw new Refusal('UntrustedCertificate');
  const [name, device] = [sender.getServiceIdString(), certificate.senderDeviceId()];
  if (name === local[0] && device === local[1]) throw new Refusal('SelfSend');
  return [
    name,
    device,
    certificate.key().serialize(),
    content.msgType(),
    content.contentHint(),
    content.groupId(),
    content.contents(),
  ];
}

function isValid(certificate, roots, now) {
  try {
    return certificate.validateWithTrustRoots(roots, now);
  } catch (error) {
    if (error instanceof LibSignalErrorBase) return false;
    throw error;
  }
}

// --- safety numbers and failed messages -------------------------------------------------------------------------------

function safetyNumber(localId, localKey, remoteId, remoteKey) {
  const fingerprint = Fingerprint.new(
    SAFETY_NUMBER_ROUNDS,
    SAFETY_NUMBER_VERSION,
    localId,
    PublicKey.deserialize(localKey),
    remoteId,
    PublicKey.deserialize(remoteKey)
  );
  return [fingerprint.displayableFingerprint().toString(), fingerprint.scannableFingerprint().toBuffer()];
}

function compareSafetyNumbers(ours, theirs) {
  return [ScannableFingerprint._fromBuffer(ours).compare(ScannableFingerprint._fromBuffer(theirs))];
}

function makeDecryptionError(kind, ciphertext, sentAt, deviceId) {
  return [PlaintextContent.from(DecryptionErrorMessage.forOriginal(ciphertext, kind, sentAt, deviceId)).serialize()];
}

function readDecryptionError(content) {
  const message = DecryptionErrorMessage.extractFromSerializedBody(PlaintextContent.deserialize(content).body());
  return [message.timestamp(), message.deviceId(), message.ratchetKey()?.serialize() ?? null];
}

// --- the table --------------------------------------------------------------------------------------------------------

export const operations = {
  ping: (value) => [value],
  generate_identity: generateIdentity,
  generate_one_time_prekeys: generateOneTimePrekeys,
  generate_signed_prekey: generateSignedPrekey,
  generate_kyber_prekeys: generateKyberPrekeys,
  process_bundle: processBundle,
  encrypt,
  decrypt,
  session_info: sessionInfo,
  archive_session: archiveSession,
  create_distribution: createDistribution,
  process_distribution: processDistribution,
  group_encrypt: encryptForGroup,
  group_decrypt: decryptFromGroup,
  encrypt_sealed: encryptSealed,
  group_encrypt_sealed: encryptSealedForGroup,
  unseal,
  safety_number: safetyNumber,
  compare_safety_numbers: compareSafetyNumbers,
  make_decryption_error: makeDecryptionError,
  read_decryption_error: readDecryptionError,
};

// What is left when no text tells more: these read what others sent, all else reads what the caller gave.
const READS_MESSAGES = new Set([
  'decrypt', 'group_decrypt', 'process_distribution', 'unseal', 'compare_safety_numbers', 'read_decryption_error',
]);

const BY_CODE = new Map([
  [ErrorCode.DuplicatedMessage, 'DuplicateMessage'],
  [ErrorCode.SealedSenderSelfSend, 'SelfSend'],
  [ErrorCode.InvalidSession, 'CorruptRecord'],
  [ErrorCode.InvalidSenderKeySession, 'CorruptRecord'],
  [ErrorCode.VerificationFailed, 'VerificationFailed'],
]);

// libsignal gives most failures one code; only the text tells these apart (rust/protocol/src/error.rs).
const BY_TEXT = [
  [/^session .*not found: /, 'NoSession'],
  [/^missing sender key state /, 'NoSession'],
  [/^invalid signature detected/, 'VerificationFailed'],
  [/^invalid state for call to /, 'CorruptRecord'],
  [/^unknown server certificate ID/, 'UntrustedCertificate'],
];

// [name, ...detail] of a failure. The text stays here: libsignal's hold addresses. `null`: not a failure but a fault.
export function classify(operation, error) {
  if (error instanceof Refusal) return [error.refusal, ...error.detail];
  if (!(error instanceof LibSignalErrorBase)) return null;
  const byText = () => BY_TEXT.find(([pattern]) => pattern.test(error.message))?.[1];
  const rest = READS_MESSAGES.has(operation) ? 'InvalidMessage' : 'InvalidArgument';
  return [BY_CODE.get(error.code) ?? byText() ?? rest];
}
