/** Registration: prove a number with the code sent to it, and become the (only) device of its account. */

import { randomBytes, randomInt } from 'node:crypto';

import { Net, PrivateKey } from '@signalapp/libsignal-client';
import { ProfileKey } from '@signalapp/libsignal-client/zkgroup.js';

import { fromBase64, toBase64 } from './bytes.ts';
import { kyberPrekey, signedPrekey } from './keys.ts';
import { serverInfo } from './relay.ts';
import type { Store } from './store.ts';

const MAX_REGISTRATION_ID = 16380;
const FIRST_KEY_ID = 1; // of the signed prekey and of the Kyber prekey of last resort

/**
 * Register `number` (E.164) with new keys, kept in `store`; whatever device the number had before is signed out.
 *
 * @param askForCode gives the code that the owner of the number received.
 * @param profileKey 32 bytes, base64: that of the device before, so that contacts can go on writing; by default new.
 * @returns whether the number had an account before.
 * @throws {Error} the code was wrong; {LibSignalError} the relay refused, or asks to wait.
 */
export async function register(
  net: Net.Net,
  store: Store,
  number: string,
  askForCode: () => Promise<string>,
  profileKey = toBase64(randomBytes(32)),
): Promise<{ again: boolean }> {
  const trustRoot = await readTrustRoot(net);
  const session = await net.createRegistrationSession({ e164: number });
  await session.requestVerification({ transport: 'sms', client: 'example', languages: ['en'] });
  if (!(await session.verifySession(await askForCode()))) throw new Error('that was not the code');

  const password = toBase64(randomBytes(18));
  const recoveryPassword = new Uint8Array(randomBytes(32));
  const registrationId = randomInt(1, MAX_REGISTRATION_ID + 1);
  const [aci, pni] = [newIdentity(), newIdentity()];
  const registered = await session.registerAccount({
    accountPassword: password,
    skipDeviceTransfer: true,
    accountAttributes: new Net.AccountAttributes({
      recoveryPassword,
      aciRegistrationId: registrationId,
      pniRegistrationId: randomInt(1, MAX_REGISTRATION_ID + 1),
      registrationLock: null,
      unidentifiedAccessKey: new ProfileKey(fromBase64(profileKey)).deriveAccessKey(),
      unrestrictedUnidentifiedAccess: false,
      capabilities: new Set(),
      discoverableByPhoneNumber: false,
    }),
    aciPublicKey: aci.identity.getPublicKey(),
    aciSignedPreKey: aci.signed,
    aciPqLastResortPreKey: aci.lastResort,
    pniPublicKey: pni.identity.getPublicKey(),
    pniSignedPreKey: pni.signed,
    pniPqLastResortPreKey: pni.lastResort,
  });

  await store.transaction(async () => {
    store.begin({
      aci: registered.aci.getServiceIdString(),
      password,
      identityKey: toBase64(aci.identity.serialize()),
      pniIdentityKey: toBase64(pni.identity.serialize()),
      registrationId,
      profileKey,
      recoveryPassword: toBase64(recoveryPassword),
      trustRoot,
    });
    store.state.lastResort.id = FIRST_KEY_ID;
    store.state.nextPrekeyId = FIRST_KEY_ID + 1;
    await store.signedPrekeys.saveSignedPreKey(FIRST_KEY_ID, aci.signed);
    await store.kyberPrekeys.saveKyberPreKey(FIRST_KEY_ID, aci.lastResort);
  });
  return { again: registered.reregistration };
}

function newIdentity() {
  const identity = PrivateKey.generate();
  return {
    identity,
    signed: signedPrekey(FIRST_KEY_ID, identity),
    lastResort: kyberPrekey(FIRST_KEY_ID, identity),
  };
}

async function readTrustRoot(net: Net.Net): Promise<string> {
  const chat = await net.connectUnauthenticatedChat({ onConnectionInterrupted() {} });
  try {
    return (await serverInfo(chat)).trustRoot;
  } finally {
    await chat.disconnect();
  }
}
