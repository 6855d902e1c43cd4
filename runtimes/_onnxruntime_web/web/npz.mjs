// @ts-check
/** Reads the arrays of an uncompressed `.npz`, as edgekit writes golden inputs and outputs. */

/** @typedef {{data: any, dims: number[], dtype: string}} NpzArray */

/** numpy's type code → the array that holds it, its size in bytes, and numpy's name. @type {Record<string, [any, number, string]>} */
const TYPES = {
  f4: [Float32Array, 4, "float32"],
  f8: [Float64Array, 8, "float64"],
  f2: [/** @type {any} */ (globalThis).Float16Array ?? Uint16Array, 2, "float16"],
  i1: [Int8Array, 1, "int8"],
  u1: [Uint8Array, 1, "uint8"],
  b1: [Uint8Array, 1, "bool"],
  i2: [Int16Array, 2, "int16"],
  u2: [Uint16Array, 2, "uint16"],
  i4: [Int32Array, 4, "int32"],
  u4: [Uint32Array, 4, "uint32"],
  i8: [BigInt64Array, 8, "int64"],
  u8: [BigUint64Array, 8, "uint64"],
};

/** @param {ArrayBuffer} buffer @returns {Record<string, NpzArray>} name → array, in C order */
export function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22; // the zip's end record, which may carry a comment
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error("not an .npz: it has no zip directory");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  /** @type {Record<string, NpzArray>} */
  const arrays = {};
  for (let entry = 0; entry < count; entry += 1) {
    if (view.getUint16(at + 10, true) !== 0) throw new Error("the .npz is compressed");
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, nameLength));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    arrays[name.replace(/\.npy$/, "")] = readNpy(buffer, start);
    at += 46 + nameLength + extra + comment;
  }
  return arrays;
}

/** @param {ArrayBuffer} buffer @param {number} start @returns {NpzArray} */
function readNpy(buffer, start) {
  const view = new DataView(buffer, start);
  const wide = view.getUint8(6) >= 2; // the format's version 2 has a longer header
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const offset = wide ? 12 : 10;
  const header = new TextDecoder().decode(new Uint8Array(buffer, start + offset, length));
  const [, code] = /'descr': '[<|=]?([^']+)'/.exec(header) ?? [];
  const [, listed] = /'shape': \(([^)]*)\)/.exec(header) ?? [];
  if (code === undefined || listed === undefined) throw new Error(`an array of a kind that is not read here: ${header}`);
  const dims = listed.split(",").filter((text) => text.trim()).map(Number);
  const size = dims.reduce((all, dim) => all * dim, 1);
  const from = start + offset + length;
  const fortran = header.includes("'fortran_order': True");
  const text = /^U(\d+)$/.exec(code);
  if (text) return inOrder(readText(buffer, from, size, Number(text[1])), dims, "string", fortran);
  const [Typed, bytes, dtype] = TYPES[code] ?? [];
  if (!Typed) throw new Error(`an array of dtype ${code}, which JavaScript has not`);
  // A copy: the array's place in the file may not be aligned.
  return inOrder(new Typed(buffer.slice(from, from + size * bytes)), dims, /** @type {string} */ (dtype), fortran);
}

/** @param {ArrayBuffer} buffer @param {number} from @param {number} size @param {number} width  characters, 4 bytes each */
function readText(buffer, from, size, width) {
  const codes = new DataView(buffer, from);
  return Array.from({ length: size }, (_, index) => {
    let text = "";
    for (let at = 0; at < width; at += 1) {
      const code = codes.getUint32(4 * (index * width + at), true);
      if (code !== 0) text += String.fromCodePoint(code);
    }
    return text;
  });
}

/** @param {any} data @param {number[]} dims @param {string} dtype @param {boolean} fortran  the first index runs fastest */
function inOrder(data, dims, dtype, fortran) {
  if (!fortran || dims.length < 2) return { data, dims, dtype };
  const ordered = data.slice();
  const index = dims.map(() => 0);
  for (let at = 0; at < data.length; at += 1) {
    let place = 0;
    for (let axis = dims.length - 1; axis >= 0; axis -= 1) place = place * dims[axis] + index[axis];
    ordered[at] = data[place];
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis] === dims[axis]; axis -= 1) index[axis] = 0;
  }
  return { data: ordered, dims, dtype };
}
