// Frames in, one operation at a time, frames out.
//
// A frame is: length of the rest (u32, big-endian), request id (u32), MessagePack array. A request is [operation,
// ...arguments]; a reply is [0, ...results], [1, error name, ...detail] or, after a fault, [2].

import net from 'node:net';

import { decode, encode } from './msgpack.js';
import { classify } from './operations.js';

const MAX_FRAME = 16 * 1024 * 1024; // as in worker_process.py
const HEADER = 8;
const SLICE_MS = 1;
const READY = 0;

// Says with an empty reply to request 0 that it is ready.
export function serve(operations, fd) {
  const socket = new net.Socket({ fd, readable: true, writable: true });
  const waiting = [];
  const reader = new FrameReader();
  let running = false;

  // The parent is gone: nobody is left to work for.
  socket.on('close', () => process.exit(0));
  socket.on('error', () => process.exit(0));
  socket.on('data', (chunk) => {
    waiting.push(...reader.push(chunk));
    if (!running) void drain();
  });

  socket.write(encodeReply([0], READY));

  async function drain() {
    running = true;
    while (waiting.length > 0) {
      const replies = [];
      const until = performance.now() + SLICE_MS;
      while (waiting.length > 0 && performance.now() < until) replies.push(await answer(operations, waiting.shift()));
      socket.write(replies.length === 1 ? replies[0] : Buffer.concat(replies));
      // Native handles are freed by finalizers, which run only when the event loop turns.
      await new Promise(setImmediate);
    }
    running = false;
  }
}

async function answer(operations, frame) {
  const id = frame.readUInt32BE(0);
  let name = '';
  try {
    const [operation, ...args] = decode(frame.subarray(4));
    name = operation;
    if (!Object.hasOwn(operations, name)) return encodeReply([1, 'InvalidArgument'], id);
    const reply = encodeReply([0, ...(await operations[name](...args))], id);
    return reply.length > MAX_FRAME ? encodeReply([1, 'TooLarge'], id) : reply;
  } catch (error) {
    const failure = classify(name, error);
    if (failure !== null) return encodeReply([1, ...failure], id);
    process.stderr.write(`fault in ${name}: ${error?.constructor?.name}\n`);
    return encodeReply([2], id);
  }
}

function encodeReply(value, id) {
  const reply = encode(value, HEADER);
  reply.writeUInt32BE(reply.length - 4, 0);
  reply.writeUInt32BE(id, 4);
  return reply;
}

class FrameReader {
  #chunks = [];
  #length = 0;
  #needed = 4;

  // Returns the frames that are complete now, each without its length. Bytes are joined once a frame, not once a chunk.
  push(chunk) {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const frames = [];
    if (this.#length < this.#needed) return frames;
    let rest = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    while (rest.length >= 4) {
      const size = 4 + rest.readUInt32BE(0);
      if (size < HEADER || size > MAX_FRAME) throw new RangeError('a frame beyond its limits');
      this.#needed = size;
      if (rest.length < size) break;
      frames.push(rest.subarray(4, size));
      rest = rest.subarray(size);
      this.#needed = 4;
    }
    this.#chunks = [rest];
    this.#length = rest.length;
    return frames;
  }
}
