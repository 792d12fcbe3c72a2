/**
 * One device that talks: it sends sealed messages, and reads, stores and acknowledges what comes.
 *
 * Two connections, as Signal's apps have them: an authenticated one, on which this device receives, and one without
 * credentials for sealed messages, so that the relay does not learn from the connection who sends.
 */

import {
  Aci,
  ErrorCode,
  Fingerprint,
  LibSignalErrorBase,
  PreKeySignalMessage,
  PrivateKey,
  ProtocolAddress,
  PublicKey,
  ServiceId,
  SignalMessage,
  processPreKeyBundle,
  sealedSenderDecryptMessage,
  sealedSenderEncryptMessage,
  signalDecrypt,
  signalDecryptPreKey,
} from '@signalapp/libsignal-client';
import type { MismatchedDevicesEntry, Net, SenderCertificate } from '@signalapp/libsignal-client';
import { ProfileKey } from '@signalapp/libsignal-client/zkgroup.js';

import { fromBase64, toBase64, type Bytes } from './bytes.ts';
import { EnvelopeType, Unreadable, readContent, readEnvelope, writeContent, type Envelope } from './content.ts';
import { topUpPrekeys, type PrekeyCount } from './keys.ts';
import { fetchSenderCertificate, serverInfo } from './relay.ts';
import type { Message, Store } from './store.ts';

const DEVICE = 1; // this example links no second device
const MAX_REPAIRS = 3;
const CERTIFICATE_MARGIN = 60 * 60 * 1000; // milliseconds: not one that expires on the way
const OK = 200;

/** What one person hands to another, in a QR code for example, so that the other can write first. */
export type ContactCard = { aci: string; profileKey: string };

/** What the user should see. */
export type Listener = {
  onMessage(message: Message): void;
  onNotice(notice: string): void;
};

export class Messenger {
  readonly #store: Store;
  readonly #listener: Listener;
  readonly #trustRoot: PublicKey;
  #chat!: Net.AuthenticatedChatConnection;
  #anonymous!: Net.UnauthenticatedChatConnection;
  #certificate: SenderCertificate | undefined;

  private constructor(store: Store, listener: Listener) {
    this.#store = store;
    this.#listener = listener;
    this.#trustRoot = PublicKey.deserialize(fromBase64(store.account.trustRoot));
    store.onIdentityChange = () => listener.onNotice('the safety number has changed');
  }

  /**
   * Go online with the registered device in `store`. Returns when everything that waited has been received.
   *
   * @throws {Error} the relay's trust root is not the one that it had at registration.
   */
  static async connect(net: Net.Net, store: Store, listener: Listener): Promise<Messenger> {
    const messenger = new Messenger(store, listener);
    const { aci, password, trustRoot } = store.account;
    messenger.#anonymous = await net.connectUnauthenticatedChat({ onConnectionInterrupted() {} });
    if ((await serverInfo(messenger.#anonymous)).trustRoot !== trustRoot) throw new Error('another trust root');
    const queueEmpty = Promise.withResolvers<void>();
    messenger.#chat = await net.connectAuthenticatedChat(`${aci}.${DEVICE}`, password, false, {
      onIncomingMessage: (envelope, _timestamp, ack) => void messenger.#receive(envelope, ack),
      onQueueEmpty: queueEmpty.resolve,
      onConnectionInterrupted: (cause) => {
        // A real app connects again after a pause, except after ConnectedElsewhere and ConnectionInvalidated.
        if (cause) listener.onNotice(`the relay ended the connection: ${ErrorCode[cause.code] ?? 'unknown'}`);
      },
    });
    await queueEmpty.promise;
    await store.transaction(() => {}); // the last of them is stored
    return messenger;
  }

  async disconnect(): Promise<void> {
    await Promise.all([this.#chat.disconnect(), this.#anonymous.disconnect()]);
  }

  get card(): ContactCard {
    const { aci, profileKey } = this.#store.account;
    return { aci, profileKey };
  }

  async addContact(card: ContactCard): Promise<void> {
    await this.#store.transaction(() => {
      this.#store.state.contacts[card.aci] = card.profileKey;
    });
  }

  /** See `topUpPrekeys`; to be called after connecting, and from time to time. */
  topUpPrekeys(): Promise<PrekeyCount> {
    return topUpPrekeys(this.#chat, this.#store);
  }

  /** What two people compare to know that nobody sits between them; both see the same digits. */
  safetyNumber(aci: string): string {
    const own = this.#store.account;
    const theirs = this.#store.state.identities[aci];
    if (theirs === undefined) throw new Error('no key of this account has been seen');
    return Fingerprint.new(
      5200,
      2,
      Aci.fromUuid(own.aci).getServiceIdBinary(),
      this.#identityKey(),
      Aci.fromUuid(aci).getServiceIdBinary(),
      PublicKey.deserialize(fromBase64(theirs)),
    )
      .displayableFingerprint()
      .toString();
  }

  // Sending

  /**
   * Send `body` to every device of `aci`, sealed. When this returns, the relay has committed it to its database.
   *
   * A message goes to all devices of an account or to none. If this device is mistaken about them, the relay says how
   * and stores nothing; then the sessions are repaired and the message is encrypted and sent again.
   *
   * A real app also keeps the message in an outbox until then, so that it survives the app's own end.
   *
   * @throws {LibSignalError} RequestUnauthorized: another access key, or no such account; RateLimitedError; IoError
   */
  async send(aci: string, body: string): Promise<void> {
    const timestamp = Date.now();
    const profileKey = fromBase64(this.#store.account.profileKey);
    const plaintext = writeContent({ body, timestamp, profileKey });
    if (this.#store.devicesOf(aci).length === 0) await this.#startSessions(aci, 'all');
    for (let repairs = 0; ; repairs++) {
      try {
        return await this.#sendOnce(aci, timestamp, plaintext);
      } catch (error) {
        if (!LibSignalErrorBase.is(error, ErrorCode.MismatchedDevices) || repairs === MAX_REPAIRS) throw error;
        for (const entry of error.entries) await this.#repair(aci, entry);
      }
    }
  }

  async #sendOnce(aci: string, timestamp: number, plaintext: Bytes): Promise<void> {
    const certificate = await this.#senderCertificate();
    const contents = await this.#store.transaction(() =>
      Promise.all(this.#store.devicesOf(aci).map((deviceId) => this.#encrypt(aci, deviceId, certificate, plaintext))),
    );
    await this.#anonymous.sendMessage({
      destination: Aci.fromUuid(aci),
      timestamp,
      contents,
      auth: { accessKey: this.#accessKeyOf(aci) },
      onlineOnly: false,
      urgent: true,
    });
  }

  async #encrypt(aci: string, deviceId: number, certificate: SenderCertificate, plaintext: Bytes) {
    const { sessions, identities } = this.#store;
    const address = ProtocolAddress.new(aci, deviceId);
    const contents = await sealedSenderEncryptMessage(plaintext, address, certificate, sessions, identities);
    const registrationId = (await sessions.getSession(address))!.remoteRegistrationId();
    return { deviceId, registrationId, contents };
  }

  /** 409: devices that are missing, or that do not exist (any more). 410: stale ones, registered anew. */
  async #repair(aci: string, entry: MismatchedDevicesEntry): Promise<void> {
    const { missingDevices: missing, extraDevices: extra, staleDevices: stale } = entry;
    this.#listener.onNotice(`devices repaired: missing [${missing}], extra [${extra}], stale [${stale}]`);
    await this.#store.transaction(() => {
      for (const deviceId of extra) delete this.#store.state.sessions[`${aci}.${deviceId}`];
    });
    for (const deviceId of [...missing, ...stale]) await this.#startSessions(aci, { deviceId });
  }

  /** Fetch bundles of prekeys and begin sessions with them; a session that was there before is kept for receiving. */
  async #startSessions(aci: string, device: 'all' | { deviceId: number }): Promise<void> {
    const { preKeyBundles } = await this.#anonymous.getPreKeys({
      target: Aci.fromUuid(aci),
      device,
      auth: { accessKey: this.#accessKeyOf(aci) },
    });
    const { sessions, identities } = this.#store;
    await this.#store.transaction(async () => {
      for (const bundle of preKeyBundles) {
        const address = ProtocolAddress.new(aci, bundle.deviceId());
        await processPreKeyBundle(bundle, address, this.#address(), sessions, identities);
      }
    });
  }

  async #senderCertificate(): Promise<SenderCertificate> {
    if (!this.#certificate || this.#certificate.expiration() < Date.now() + CERTIFICATE_MARGIN) {
      const own = { aci: this.#store.account.aci, deviceId: DEVICE, identityKey: this.#identityKey() };
      this.#certificate = await fetchSenderCertificate(this.#chat, this.#trustRoot, own);
    }
    return this.#certificate;
  }

  #accessKeyOf(aci: string): Bytes {
    const profileKey = this.#store.state.contacts[aci];
    if (profileKey === undefined) throw new Error('the profile key of this contact is not known');
    return new ProfileKey(fromBase64(profileKey)).deriveAccessKey();
  }

  // Receiving

  /**
   * Decrypt and store in one transaction, then acknowledge, then show. A crash before the acknowledgement makes the
   * relay deliver again, and the ratchet recognises what it has seen: nothing is lost, nothing is shown twice.
   */
  async #receive(bytes: Uint8Array, ack: Net.ChatServerMessageAck): Promise<void> {
    let message: Message | undefined;
    try {
      message = await this.#store.transaction(() => this.#open(readEnvelope(bytes)));
    } catch (error) {
      if (!isUnreadable(error)) return this.#listener.onNotice('a message could not be stored; the relay keeps it');
      // It will not get better. A real app asks the sender to send again (libsignal's DecryptionErrorMessage).
      if (!LibSignalErrorBase.is(error, ErrorCode.DuplicatedMessage)) {
        this.#listener.onNotice('a message could not be read');
      }
    }
    ack.send(OK);
    if (message) this.#listener.onMessage(message);
  }

  async #open(envelope: Envelope): Promise<Message | undefined> {
    if (envelope.type === EnvelopeType.Receipt) return undefined;
    const { sender, plaintext } = await this.#decrypt(envelope);
    const { body, timestamp, profileKey } = readContent(plaintext);
    const message = { from: sender, body, timestamp, sealed: envelope.type === EnvelopeType.Sealed };
    this.#store.state.messages.push(message);
    if (profileKey) this.#store.state.contacts[sender] = toBase64(profileKey);
    return message;
  }

  async #decrypt({ type, content, source, serverTimestamp }: Envelope): Promise<{ sender: string; plaintext: Bytes }> {
    const { sessions, identities, prekeys, signedPrekeys, kyberPrekeys } = this.#store;
    if (type === EnvelopeType.Sealed) {
      // The certificate had to be valid when the relay took the message. It lasts a day; the message may wait for 30.
      const opened = await sealedSenderDecryptMessage(
        content, this.#trustRoot, serverTimestamp, null, this.#store.account.aci, DEVICE,
        sessions, identities, prekeys, signedPrekeys, kyberPrekeys,
      );
      return { sender: opened.senderUuid(), plaintext: opened.message() };
    }
    if (!source) throw new Unreadable('an envelope without a sender');
    const sender = ServiceId.parseFromServiceIdBinary(source.serviceId).getServiceIdString();
    const from = ProtocolAddress.new(sender, source.deviceId);
    const plaintext =
      type === EnvelopeType.PrekeyMessage
        ? await signalDecryptPreKey(
            PreKeySignalMessage.deserialize(content), from, this.#address(),
            sessions, identities, prekeys, signedPrekeys, kyberPrekeys,
          )
        : await signalDecrypt(SignalMessage.deserialize(content), from, this.#address(), sessions, identities);
    return { sender, plaintext };
  }

  #address(): ProtocolAddress {
    return ProtocolAddress.new(this.#store.account.aci, DEVICE);
  }

  #identityKey(): PublicKey {
    return PrivateKey.deserialize(fromBase64(this.#store.account.identityKey)).getPublicKey();
  }
}

/** Whether the message itself is at fault, not this device's disk. */
function isUnreadable(error: unknown): boolean {
  return error instanceof LibSignalErrorBase || error instanceof Unreadable;
}
