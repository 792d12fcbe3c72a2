/**
 * Everything that one device knows, in one JSON file, and the five stores that libsignal asks for, on top of it.
 *
 * A transaction writes the file once, at its end, or undoes everything: the step of a ratchet and the message that came
 * with it are kept together or not at all. Transactions run one after the other, because two at once would use the same
 * ratchet twice. The file is written whole each time and is not encrypted: good enough to read, not for a phone. There,
 * use a database that encrypts (SQLCipher, or SQLite under the platform's data protection) and a key in the keystore.
 */

import { existsSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';

import * as signal from '@signalapp/libsignal-client';

import { fromBase64, toBase64, type Bytes } from './bytes.ts';
import { Unreadable } from './content.ts';

/** What a device keeps about itself. Bytes are base64. */
export type Account = {
  aci: string;
  password: string;
  identityKey: string;
  /** Of the number's own identity, which this example registers and does not use. */
  pniIdentityKey: string;
  registrationId: number;
  profileKey: string;
  /** Proves ownership of the number later on. Never a constant: whoever knows it can take the account. */
  recoveryPassword: string;
  /** The relay's, as seen at registration. An app with one relay builds it in instead. */
  trustRoot: string;
};

export type Message = { from: string; body: string; timestamp: number; sealed: boolean };

type State = {
  account: Account | null;
  /** By account: the profile key, where it is known. */
  contacts: Record<string, string>;
  messages: Message[];
  /** By `account.device`. */
  sessions: Record<string, string>;
  /** By account: the identity key that was seen last. */
  identities: Record<string, string>;
  prekeys: Record<number, string>;
  signedPrekeys: Record<number, string>;
  kyberPrekeys: Record<number, string>;
  /** The Kyber prekey of last resort is used again and again; what was used with it must not come twice. */
  lastResort: { id: number; seen: string[] };
  nextPrekeyId: number;
};

const EMPTY: State = {
  account: null,
  contacts: {},
  messages: [],
  sessions: {},
  identities: {},
  prekeys: {},
  signedPrekeys: {},
  kyberPrekeys: {},
  lastResort: { id: 0, seen: [] },
  nextPrekeyId: 1,
};

export class Store {
  state: State;
  /** Called when a contact's identity key is another than before: tell the user. */
  onIdentityChange: (aci: string) => void = () => {};

  readonly sessions = new Sessions(this);
  readonly identities = new Identities(this);
  readonly prekeys = new Prekeys(this);
  readonly signedPrekeys = new SignedPrekeys(this);
  readonly kyberPrekeys = new KyberPrekeys(this);

  readonly #path: string;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
    this.state = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as State) : structuredClone(EMPTY);
  }

  /** Forget everything: what belongs to another registration is of no use to a new one. Inside a transaction. */
  begin(account: Account): void {
    this.state = { ...structuredClone(EMPTY), account };
  }

  /** @throws {Error} this device is not registered. */
  get account(): Account {
    if (!this.state.account) throw new Error('this device is not registered');
    return this.state.account;
  }

  /**
   * Run `work` when no other transaction runs. What it changed in `state` is on the disk when this returns; if it
   * throws, nothing has changed. Do not wait for the network, or for another transaction, inside one.
   */
  transaction<T>(work: () => T | Promise<T>): Promise<T> {
    const turn = this.#turn.then(async () => {
      const before = structuredClone(this.state);
      try {
        const result = await work();
        await this.#write();
        return result;
      } catch (error) {
        this.state = before;
        throw error;
      }
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** The devices of an account that there are sessions with, good for sending. */
  devicesOf(aci: string): number[] {
    return Object.entries(this.state.sessions)
      .filter(([address]) => address.startsWith(`${aci}.`))
      .filter(([, record]) => signal.SessionRecord.deserialize(fromBase64(record)).hasCurrentState())
      .map(([address]) => Number(address.slice(aci.length + 1)));
  }

  async #write(): Promise<void> {
    const draft = `${this.#path}.new`;
    const file = await open(draft, 'w', 0o600);
    try {
      await file.writeFile(JSON.stringify(this.state));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, this.#path); // all of the new file, or all of the old one
  }
}

class Sessions extends signal.SessionStore {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  async saveSession(address: signal.ProtocolAddress, record: signal.SessionRecord): Promise<void> {
    this.#store.state.sessions[address.toString()] = toBase64(record.serialize());
  }

  async getSession(address: signal.ProtocolAddress): Promise<signal.SessionRecord | null> {
    const record = this.#store.state.sessions[address.toString()];
    return record === undefined ? null : signal.SessionRecord.deserialize(fromBase64(record));
  }

  async getExistingSessions(addresses: signal.ProtocolAddress[]): Promise<signal.SessionRecord[]> {
    return Promise.all(
      addresses.map(async (address) => {
        const session = await this.getSession(address);
        if (!session) throw new Error('no session with this device');
        return session;
      }),
    );
  }
}

/** Trusts the first key it sees of an account, and every later one too, but says so: Signal's apps do the same. */
class Identities extends signal.IdentityKeyStore {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  async getIdentityKey(): Promise<signal.PrivateKey> {
    return signal.PrivateKey.deserialize(fromBase64(this.#store.account.identityKey));
  }

  async getLocalRegistrationId(): Promise<number> {
    return this.#store.account.registrationId;
  }

  async saveIdentity(address: signal.ProtocolAddress, key: signal.PublicKey): Promise<signal.IdentityChange> {
    const before = this.#store.state.identities[address.name()];
    const now = toBase64(key.serialize());
    this.#store.state.identities[address.name()] = now;
    if (before === undefined || before === now) return signal.IdentityChange.NewOrUnchanged;
    this.#store.onIdentityChange(address.name());
    return signal.IdentityChange.ReplacedExisting;
  }

  /** Where users have compared safety numbers, refuse here to send to another key until they have done so again. */
  async isTrustedIdentity(): Promise<boolean> {
    return true;
  }

  async getIdentity(address: signal.ProtocolAddress): Promise<signal.PublicKey | null> {
    const key = this.#store.state.identities[address.name()];
    return key === undefined ? null : signal.PublicKey.deserialize(fromBase64(key));
  }
}

class Prekeys extends signal.PreKeyStore {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  async savePreKey(id: number, record: signal.PreKeyRecord): Promise<void> {
    this.#store.state.prekeys[id] = toBase64(record.serialize());
  }

  async getPreKey(id: number): Promise<signal.PreKeyRecord> {
    return signal.PreKeyRecord.deserialize(found(this.#store.state.prekeys[id]));
  }

  async removePreKey(id: number): Promise<void> {
    delete this.#store.state.prekeys[id];
  }
}

class SignedPrekeys extends signal.SignedPreKeyStore {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  async saveSignedPreKey(id: number, record: signal.SignedPreKeyRecord): Promise<void> {
    this.#store.state.signedPrekeys[id] = toBase64(record.serialize());
  }

  async getSignedPreKey(id: number): Promise<signal.SignedPreKeyRecord> {
    return signal.SignedPreKeyRecord.deserialize(found(this.#store.state.signedPrekeys[id]));
  }
}

class KyberPrekeys extends signal.KyberPreKeyStore {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  async saveKyberPreKey(id: number, record: signal.KyberPreKeyRecord): Promise<void> {
    this.#store.state.kyberPrekeys[id] = toBase64(record.serialize());
  }

  async getKyberPreKey(id: number): Promise<signal.KyberPreKeyRecord> {
    return signal.KyberPreKeyRecord.deserialize(found(this.#store.state.kyberPrekeys[id]));
  }

  async markKyberPreKeyUsed(id: number, signedPrekeyId: number, baseKey: signal.PublicKey): Promise<void> {
    const { lastResort, kyberPrekeys } = this.#store.state;
    if (id !== lastResort.id) {
      delete kyberPrekeys[id];
      return;
    }
    const use = `${signedPrekeyId} ${toBase64(baseKey.serialize())}`;
    if (lastResort.seen.includes(use)) throw new Unreadable('a first message that was used before');
    lastResort.seen.push(use);
  }
}

function found(record: string | undefined): Bytes {
  if (record === undefined) throw new Unreadable('written for a prekey that this device does not have (any more)');
  return fromBase64(record);
}
