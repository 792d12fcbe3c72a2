/** Prekeys: what others need to write to this device while it is away. Private halves stay in the store. */

import {
  KEMKeyPair,
  KyberPreKeyRecord,
  PreKeyRecord,
  PrivateKey,
  SignedPreKeyRecord,
} from '@signalapp/libsignal-client';
import type { Net } from '@signalapp/libsignal-client';

import { fromBase64, toBase64 } from './bytes.ts';
import { call } from './relay.ts';
import type { Store } from './store.ts';

const BATCH = 100; // of each kind; the relay takes no more in one upload
const LOW = 20; // of either kind: upload again
const PATH = '/v2/keys?identity=aci';

export function signedPrekey(id: number, identity: PrivateKey): SignedPreKeyRecord {
  const pair = PrivateKey.generate();
  const signature = identity.sign(pair.getPublicKey().serialize());
  return SignedPreKeyRecord.new(id, Date.now(), pair.getPublicKey(), pair, signature);
}

export function kyberPrekey(id: number, identity: PrivateKey): KyberPreKeyRecord {
  const pair = KEMKeyPair.generate();
  return KyberPreKeyRecord.new(id, Date.now(), pair, identity.sign(pair.getPublicKey().serialize()));
}

/**
 * Upload 100 prekeys of each kind if few are left; returns how many there are then.
 *
 * An upload replaces what the relay had. The earlier private halves are kept: somebody may have fetched one of those
 * keys and not written yet. Libsignal's own call for this needs HTTP/2, so the request goes through the tunnel.
 */
export async function topUpPrekeys(chat: Net.AuthenticatedChatConnection, store: Store): Promise<PrekeyCount> {
  const left = await countPrekeys(chat);
  if (Math.min(left.count, left.pqCount) >= LOW) return left;
  const identity = PrivateKey.deserialize(fromBase64(store.account.identityKey));
  // Stored before they are uploaded: nobody can be given a key that this device does not have.
  const [preKeys, pqPreKeys] = await store.transaction(async () => {
    const first = store.state.nextPrekeyId;
    const ids = Array.from({ length: BATCH }, (_, index) => first + index);
    store.state.nextPrekeyId += BATCH;
    return [await newOneTimeKeys(store, ids), await newKyberKeys(store, ids, identity)];
  });
  await call(chat, 'PUT', PATH, { preKeys, pqPreKeys });
  return countPrekeys(chat);
}

export type PrekeyCount = { count: number; pqCount: number };

async function countPrekeys(chat: Net.AuthenticatedChatConnection): Promise<PrekeyCount> {
  return (await call(chat, 'GET', PATH)) as PrekeyCount;
}

async function newOneTimeKeys(store: Store, ids: number[]): Promise<object[]> {
  return Promise.all(
    ids.map(async (keyId) => {
      const pair = PrivateKey.generate();
      await store.prekeys.savePreKey(keyId, PreKeyRecord.new(keyId, pair.getPublicKey(), pair));
      return { keyId, publicKey: toBase64(pair.getPublicKey().serialize()) };
    }),
  );
}

async function newKyberKeys(store: Store, ids: number[], identity: PrivateKey): Promise<object[]> {
  return Promise.all(
    ids.map(async (keyId) => {
      const record = kyberPrekey(keyId, identity);
      await store.kyberPrekeys.saveKyberPreKey(keyId, record);
      const publicKey = toBase64(record.publicKey().serialize());
      return { keyId, publicKey, signature: toBase64(record.signature()) };
    }),
  );
}
