/**
 * The official client pointed at a relay, and what to learn from the relay before using it.
 *
 * libsignal has one switch for servers other than Signal's: `localTestServer`. It connects to `localhost` and nothing
 * else, over TLS, and trusts one root certificate (docs/mobile.md says what that means for a real app).
 */

import { X509Certificate } from 'node:crypto';

import { Net, PublicKey, SenderCertificate } from '@signalapp/libsignal-client';

import { fromBase64 } from './bytes.ts';

const USER_AGENT = 'subrosa-example';
const LOCAL_NAMES = ['localhost', '127.0.0.1'];

/** What `GET /v1/server-info` says, as far as this example uses it. */
export type ServerInfo = { version: string; trustRoot: string };

/** Both kinds of connection carry any REST call: `fetch` tunnels it through the WebSocket. */
type Tunnel = Pick<Net.ChatConnection, 'fetch'>;

/** A status that the caller did not expect. */
export class RelayRefused extends Error {
  readonly status: number;

  constructor(verb: string, path: string, status: number) {
    super(`the relay answered ${status} to ${verb} ${path.split('?')[0]}`);
    this.status = status;
  }
}

/**
 * Make the client for the relay at `url`, whose certificate leads to `rootCertificate` (PEM).
 *
 * @throws {Error} the URL is not one that this client can reach.
 */
export function netFor(url: string, rootCertificate: string): Net.Net {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== 'https:' || !LOCAL_NAMES.includes(hostname)) {
    throw new Error('libsignal connects to https://localhost:PORT only; forward a local port to a relay elsewhere');
  }
  const chatPort = Number(port || 443);
  return new Net.Net({
    localTestServer: true,
    userAgent: USER_AGENT,
    TESTING_localServer_chatPort: chatPort,
    // Other services of Signal. The relay has none of them, but the options want a port.
    TESTING_localServer_cdsiPort: chatPort,
    TESTING_localServer_svr2Port: chatPort,
    TESTING_localServer_svrBPort: chatPort,
    TESTING_localServer_rootCertificateDer: new Uint8Array(new X509Certificate(rootCertificate).raw),
    TESTING_localServer_httpVersion: 1,
  });
}

/**
 * Call a path of the relay's REST API and read the JSON of its answer; `undefined` if it has no body.
 *
 * @throws {RelayRefused} any status but 2xx.
 */
export async function call(chat: Tunnel, verb: string, path: string, body?: object): Promise<unknown> {
  const answer = await chat.fetch({
    verb,
    path,
    headers: body ? [['content-type', 'application/json']] : [],
    ...(body && { body: new TextEncoder().encode(JSON.stringify(body)) }),
  });
  if (answer.status < 200 || answer.status > 299) throw new RelayRefused(verb, path, answer.status);
  return answer.body?.length ? JSON.parse(new TextDecoder().decode(answer.body)) : undefined;
}

export async function serverInfo(chat: Tunnel): Promise<ServerInfo> {
  return (await call(chat, 'GET', '/v1/server-info')) as ServerInfo;
}

/**
 * Fetch the certificate that goes into sealed messages, and check it as a receiver will: it must lead to `trustRoot`,
 * be valid now, and name this device's own account and key.
 *
 * @throws {Error} it does not.
 */
export async function fetchSenderCertificate(
  chat: Tunnel,
  trustRoot: PublicKey,
  own: { aci: string; deviceId: number; identityKey: PublicKey },
): Promise<SenderCertificate> {
  const answer = (await call(chat, 'GET', '/v1/certificate/delivery')) as { certificate: string };
  const certificate = SenderCertificate.deserialize(fromBase64(answer.certificate));
  const isOurs =
    certificate.senderUuid() === own.aci &&
    certificate.senderDeviceId() === own.deviceId &&
    certificate.key().equals(own.identityKey);
  if (!isOurs || !certificate.validate(trustRoot, Date.now())) {
    throw new Error('the relay gave a sender certificate that does not hold');
  }
  return certificate;
}

