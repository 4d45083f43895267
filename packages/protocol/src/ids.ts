/** Branded identifiers: a string that was made or checked as what its name says. */
declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type UserId = Branded<"UserId">;
export type NodeId = Branded<"NodeId">;
export type JobId = Branded<"JobId">;
export type AttemptId = Branded<"AttemptId">;

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"; // Crockford base32: no i, l, o, u

/**
 * A sortable id: `prefix_` + 10 characters of millisecond time + 16 of randomness (80 bits).
 * Ids are names, never secrets.
 */
export function newId(prefix: string, nowMs: number = Date.now()): string {
  let time = "";
  for (let rest = Math.floor(nowMs), i = 0; i < 10; i++) {
    time = ALPHABET[rest % 32]! + time;
    rest = Math.floor(rest / 32);
  }
  const random = crypto.getRandomValues(new Uint8Array(16));
  let tail = "";
  for (const byte of random) tail += ALPHABET[byte & 31]!;
  return `${prefix}_${time}${tail}`;
}

export const newJobId = (nowMs?: number): JobId => newId("job", nowMs) as JobId;
export const newAttemptId = (nowMs?: number): AttemptId => newId("att", nowMs) as AttemptId;
