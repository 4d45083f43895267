/**
 * BLAKE2b (RFC 7693), unkeyed: what minisign hashes with. For manifests and keys, not for large files: it takes about a second a
 * megabyte on a small script engine. No runtime that the agent runs on has it in common with the others.
 */
const MASK = 0xffff_ffff_ffff_ffffn;
const BLOCK_BYTES = 128;
const ROUNDS = 12;

/** Fractional parts of the square roots of the first eight primes, as in SHA-512. */
const IV = [
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
] as const;

/** The order in which each round takes the words of a block; rounds 11 and 12 begin anew. */
const PERMUTATIONS: readonly (readonly number[])[] = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/** Columns, then diagonals, of the four by four words. */
const MIXED = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
] as const;

const rotate = (word: bigint, by: bigint): bigint => ((word >> by) | (word << (64n - by))) & MASK;

/** The hash of `bytes` with `length` bytes, 64 at most. */
export function blake2b(bytes: Uint8Array, length = 64): Uint8Array<ArrayBuffer> {
  const state: bigint[] = [...IV];
  state[0] = state[0]! ^ 0x0101_0000n ^ BigInt(length);
  const padded = new Uint8Array(Math.max(1, Math.ceil(bytes.byteLength / BLOCK_BYTES)) * BLOCK_BYTES);
  padded.set(bytes);
  const view = new DataView(padded.buffer);
  for (let at = 0; at < padded.byteLength; at += BLOCK_BYTES) {
    const last = at + BLOCK_BYTES >= padded.byteLength;
    compress(state, view, at, BigInt(last ? bytes.byteLength : at + BLOCK_BYTES), last);
  }
  const hash = new DataView(new ArrayBuffer(64));
  for (const [i, word] of state.entries()) hash.setBigUint64(i * 8, word, true);
  return new Uint8Array(hash.buffer, 0, length);
}

function compress(state: bigint[], block: DataView, at: number, counted: bigint, last: boolean): void {
  const words = Array.from({ length: 16 }, (_, i) => block.getBigUint64(at + i * 8, true));
  const v: bigint[] = [...state, ...IV];
  v[12] = v[12]! ^ counted;
  if (last) v[14] = v[14]! ^ MASK;
  for (let round = 0; round < ROUNDS; round++) {
    const order = PERMUTATIONS[round % PERMUTATIONS.length]!;
    for (const [i, [a, b, c, d]] of MIXED.entries()) {
      v[a] = (v[a]! + v[b]! + words[order[2 * i]!]!) & MASK;
      v[d] = rotate(v[d]! ^ v[a]!, 32n);
      v[c] = (v[c]! + v[d]!) & MASK;
      v[b] = rotate(v[b]! ^ v[c]!, 24n);
      v[a] = (v[a]! + v[b]! + words[order[2 * i + 1]!]!) & MASK;
      v[d] = rotate(v[d]! ^ v[a]!, 16n);
      v[c] = (v[c]! + v[d]!) & MASK;
      v[b] = rotate(v[b]! ^ v[c]!, 63n);
    }
  }
  for (let i = 0; i < 8; i++) state[i] = state[i]! ^ v[i]! ^ v[i + 8]!;
}
