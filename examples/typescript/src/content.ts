/**
 * Two protobuf messages: the relay's `Envelope`, which is read, and the sender's `Content`, which is read and written.
 *
 * The fields are few, so this is the whole codec; a real app generates it from messaging/wire/protobuf/*.proto. Field
 * numbers are Signal's. The relay sees the envelope. It never sees the content, which is padded first, because
 * encryption does not hide a length.
 */

import type { Bytes } from './bytes.ts';

const PADDED_TO = 80; // bytes
const END_OF_CONTENT = 0x80; // then zeros

export const EnvelopeType = { Ciphertext: 1, PrekeyMessage: 3, Receipt: 5, Sealed: 6 } as const;

export type Envelope = {
  type: number;
  content: Bytes;
  /** When the relay took it, in milliseconds since 1970. */
  serverTimestamp: number;
  /** Who sent it; absent when the sender is sealed. */
  source?: { serviceId: Bytes; deviceId: number };
};

export type Content = {
  body: string;
  /** When the author sent it, in milliseconds since 1970. With the author, it names the message. */
  timestamp: number;
  /** 32 bytes, from which contacts derive the key that lets them send to the author without credentials. */
  profileKey?: Bytes;
};

/** The message itself is at fault: it cannot be read now or later. */
export class Unreadable extends Error {}

export function readEnvelope(bytes: Uint8Array): Envelope {
  const fields = readFields(bytes);
  const serviceId = fields.get(19);
  return {
    type: asNumber(fields.get(1)),
    content: asBytes(fields.get(8)),
    serverTimestamp: asNumber(fields.get(10)),
    ...(serviceId !== undefined && { source: { serviceId: asBytes(serviceId), deviceId: asNumber(fields.get(7)) } }),
  };
}

/** `Content { dataMessage(1): DataMessage { body(1), profileKey(6), timestamp(7) } }`, padded. */
export function writeContent({ body, timestamp, profileKey }: Content): Bytes {
  const message = [
    ...writeBytes(1, new TextEncoder().encode(body)),
    ...(profileKey ? writeBytes(6, profileKey) : []),
    ...writeVarint(7 << 3),
    ...writeVarint(timestamp),
  ];
  return pad(writeBytes(1, message));
}

export function readContent(padded: Uint8Array): Content {
  const message = readFields(asBytes(readFields(unpad(padded)).get(1)));
  const profileKey = message.get(6);
  return {
    body: new TextDecoder().decode(asBytes(message.get(1))),
    timestamp: asNumber(message.get(7)),
    ...(profileKey !== undefined && { profileKey: asBytes(profileKey) }),
  };
}

function pad(bytes: number[]): Bytes {
  const length = Math.ceil((bytes.length + 2) / PADDED_TO) * PADDED_TO - 1; // the cipher adds at least one byte
  const padded = new Uint8Array(length);
  padded.set([...bytes, END_OF_CONTENT]);
  return padded;
}

function unpad(padded: Uint8Array): Uint8Array {
  const end = padded.findLastIndex((byte) => byte !== 0);
  if (padded[end] !== END_OF_CONTENT) throw new Unreadable('no end of content');
  return padded.subarray(0, end);
}

type Field = number | Bytes;

function readFields(bytes: Uint8Array): Map<number, Field> {
  const fields = new Map<number, Field>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; at < bytes.length; factor *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * factor; // not with shifts: a timestamp needs more than 32 bits
      if (byte < 0x80 && Number.isSafeInteger(value)) return value;
    }
    throw new Unreadable('a number that does not end');
  };
  while (at < bytes.length) {
    const tag = varint();
    const wireType = tag % 8;
    if (wireType !== 0 && wireType !== 2) throw new Unreadable('a field of another type');
    const length = varint();
    if (wireType === 2 && at + length > bytes.length) throw new Unreadable('a field that does not end');
    fields.set(Math.floor(tag / 8), wireType === 0 ? length : new Uint8Array(bytes.subarray(at, (at += length))));
  }
  return fields;
}

function writeBytes(field: number, bytes: ArrayLike<number>): number[] {
  return [...writeVarint((field << 3) | 2), ...writeVarint(bytes.length), ...Array.from(bytes)];
}

function writeVarint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 0x80, ...writeVarint(Math.floor(value / 128))];
}

function asNumber(field: Field | undefined): number {
  if (typeof field !== 'number') throw new Unreadable('a number is missing');
  return field;
}

function asBytes(field: Field | undefined): Bytes {
  if (!(field instanceof Uint8Array)) throw new Unreadable('bytes are missing');
  return field;
}
