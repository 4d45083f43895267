/** Branded identifiers: a string that was made or checked as what its name says. */
declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type UserId = Branded<"UserId">;
export type NodeId = Branded<"NodeId">;
export type JobId = Branded<"JobId">;
export type AttemptId = Branded<"AttemptId">;

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"; // Crockford base32: no i, l, o, u

const TAIL_LENGTH = 16;
/** Randomness is drawn for many ids at once: each draw is a system call. */
const drawn = new Uint8Array(256 * TAIL_LENGTH);
let drawnAt = drawn.length;

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
  if (drawnAt + TAIL_LENGTH > drawn.length) {
    crypto.getRandomValues(drawn);
    drawnAt = 0;
  }
  let tail = "";
  for (const end = drawnAt + TAIL_LENGTH; drawnAt < end; drawnAt++) tail += ALPHABET[drawn[drawnAt]! & 31]!;
  return `${prefix}_${time}${tail}`;
}

export const newJobId = (nowMs?: number): JobId => newId("job", nowMs) as JobId;
export const newAttemptId = (nowMs?: number): AttemptId => newId("att", nowMs) as AttemptId;
