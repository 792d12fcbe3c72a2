// MessagePack, the part of it that the frames use: nil, booleans, safe integers, strings, bytes, arrays.
//
// The decoder is strict: any other type, a number that JavaScript cannot hold exactly, deep nesting and trailing bytes are
// errors. Bytes are decoded as views, without a copy. Source: the MessagePack specification, msgpack/spec.md.

const MAX_DEPTH = 8;

export function decode(buffer) {
  const reader = { buffer, offset: 0 };
  const value = read(reader, 0);
  if (reader.offset !== buffer.length) throw new RangeError('trailing bytes');
  return value;
}

function read(reader, depth) {
  const { buffer } = reader;
  const tag = take(reader, 1);
  const type = buffer[tag];
  if (type <= 0x7f) return type;
  if (type >= 0xe0) return type - 0x100;
  if (type >= 0x90 && type <= 0x9f) return readArray(reader, type & 0x0f, depth);
  if (type >= 0xa0 && type <= 0xbf) return readText(reader, type & 0x1f);
  switch (type) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: return readBytes(reader, readUnsigned(reader, 1));
    case 0xc5: return readBytes(reader, readUnsigned(reader, 2));
    case 0xc6: return readBytes(reader, readUnsigned(reader, 4));
    case 0xcc: return readUnsigned(reader, 1);
    case 0xcd: return readUnsigned(reader, 2);
    case 0xce: return readUnsigned(reader, 4);
    case 0xcf: return safe(buffer.readBigUInt64BE(take(reader, 8)));
    case 0xd0: return buffer.readInt8(take(reader, 1));
    case 0xd1: return buffer.readInt16BE(take(reader, 2));
    case 0xd2: return buffer.readInt32BE(take(reader, 4));
    case 0xd3: return safe(buffer.readBigInt64BE(take(reader, 8)));
    case 0xd9: return readText(reader, readUnsigned(reader, 1));
    case 0xda: return readText(reader, readUnsigned(reader, 2));
    case 0xdb: return readText(reader, readUnsigned(reader, 4));
    case 0xdc: return readArray(reader, readUnsigned(reader, 2), depth);
    case 0xdd: return readArray(reader, readUnsigned(reader, 4), depth);
    default: throw new TypeError('a type that the frames do not use');
  }
}

function take(reader, count) {
  const start = reader.offset;
  if (count > reader.buffer.length - start) throw new RangeError('too short');
  reader.offset = start + count;
  return start;
}

function readUnsigned(reader, count) {
  return reader.buffer.readUIntBE(take(reader, count), count);
}

function readBytes(reader, length) {
  const start = take(reader, length);
  return reader.buffer.subarray(start, start + length);
}

function readText(reader, length) {
  const start = take(reader, length);
  return reader.buffer.toString('utf8', start, start + length);
}

function readArray(reader, length, depth) {
  if (depth === MAX_DEPTH) throw new RangeError('nested too deeply');
  const items = [];
  for (let index = 0; index < length; index++) items.push(read(reader, depth + 1));
  return items;
}

function safe(big) {
  const number = Number(big);
  if (!Number.isSafeInteger(number)) throw new RangeError('an integer beyond 2^53');
  return number;
}

// Returns one buffer: `space` zero bytes for a header, then the value.
export function encode(value, space = 0) {
  const buffer = Buffer.allocUnsafe(space + sizeOf(value));
  buffer.fill(0, 0, space);
  const end = write(buffer, space, value);
  return buffer.subarray(0, end);
}

// An upper bound of the encoded size, so that one allocation is enough.
function sizeOf(value) {
  if (value instanceof Uint8Array) return 5 + value.length;
  if (typeof value === 'string') return 5 + Buffer.byteLength(value);
  if (Array.isArray(value)) return value.reduce((size, item) => size + sizeOf(item), 5);
  return 9;
}

function write(buffer, offset, value) {
  if (value === null) return buffer.writeUInt8(0xc0, offset);
  if (value === false) return buffer.writeUInt8(0xc2, offset);
  if (value === true) return buffer.writeUInt8(0xc3, offset);
  if (typeof value === 'number') return writeInteger(buffer, offset, value);
  if (value instanceof Uint8Array) {
    offset = writeLength(buffer, offset, value.length, 0xc6);
    buffer.set(value, offset);
    return offset + value.length;
  }
  if (typeof value === 'string') {
    offset = writeLength(buffer, offset, Buffer.byteLength(value), 0xdb);
    return offset + buffer.write(value, offset);
  }
  if (Array.isArray(value)) {
    offset = writeLength(buffer, offset, value.length, 0xdd);
    for (const item of value) offset = write(buffer, offset, item);
    return offset;
  }
  throw new TypeError('a value that the frames do not hold');
}

// The four-byte forms throughout: a few bytes more, one case instead of three.
function writeLength(buffer, offset, length, type) {
  return buffer.writeUInt32BE(length, buffer.writeUInt8(type, offset));
}

function writeInteger(buffer, offset, value) {
  if (!Number.isSafeInteger(value)) throw new RangeError('not a safe integer');
  if (value >= 0 && value <= 0x7f) return buffer.writeUInt8(value, offset);
  return buffer.writeBigInt64BE(BigInt(value), buffer.writeUInt8(0xd3, offset));
}
