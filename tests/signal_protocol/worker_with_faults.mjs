// The real worker, with operations that fail in every way that a worker can, and two that a server does:
// issue certificates and split messages to many. It is not part of the package.

import { operations } from '../../signal_protocol/worker/operations.js';
import { serve } from '../../signal_protocol/worker/serve.js';
import {
  PrivateKey,
  PublicKey,
  SenderCertificate,
  ServerCertificate,
} from '../../signal_protocol/worker/node_modules/@signalapp/libsignal-client/dist/index.js';
import SealedSenderMultiRecipientMessage from '../../signal_protocol/worker/node_modules/@signalapp/libsignal-client/dist/SealedSenderMultiRecipientMessage.js';
import { TESTING_PanicInBodySync } from '../../signal_protocol/worker/node_modules/@signalapp/libsignal-client/dist/Native.js';

const faults = {
  abort: () => process.abort(),
  hang: () => {
    for (;;);
  },
  panic: () => TESTING_PanicInBodySync(null),
  garbage: () => [undefined],
  write_raw: async (bytes) => {
    (await import('node:fs')).writeSync(Number(process.argv[2]), bytes);
    return [];
  },
  zeros: (size) => [Buffer.alloc(size)],
  noise: (size) => {
    process.stderr.write('x'.repeat(size));
    return [];
  },
  environment: () => [Object.keys(process.env)],
  read_file: async (path) => [(await import('node:fs')).readFileSync(path)],
};

function issueCertificate(rootPrivate, serviceId, deviceId, identityKey, expires) {
  const server = PrivateKey.generate();
  const certificate = ServerCertificate.new(1, server.getPublicKey(), PrivateKey.deserialize(rootPrivate));
  const key = PublicKey.deserialize(identityKey);
  return [SenderCertificate.new(serviceId, null, deviceId, key, expires, certificate, server).serialize()];
}

function split(upload) {
  const message = new SealedSenderMultiRecipientMessage(upload);
  return Object.entries(message.recipientsByServiceIdString()).map(([serviceId, recipient]) => [
    serviceId,
    message.messageForRecipient(recipient),
  ]);
}

serve({ ...operations, ...faults, issue_certificate: issueCertificate, split }, Number(process.argv[2]));
