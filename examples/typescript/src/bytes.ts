/** Bytes and their base64. The relay reads and writes standard base64 with padding, never the URL-safe alphabet. */

/** What libsignal takes and gives. A Node `Buffer` is one too, but may be a view into a larger one. */
export type Bytes = Uint8Array<ArrayBuffer>;

export const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const fromBase64 = (text: string): Bytes => new Uint8Array(Buffer.from(text, 'base64'));
