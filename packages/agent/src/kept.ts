/**
 * What attempts said that nobody waits for at this moment (`keep_ms` of their start): kept while the hub may not have had it. A
 * connection that is lost does not end them; the hub that asks again, by the attempt's id, is told all of it from the beginning
 * and then its end. Nothing is written to disk.
 *
 *   connected ──lost──► away ──asked again──► connected
 *       │                └── its time is up ──► dropped (an attempt that still runs is aborted)
 *       └── ended, its time is up ──► dropped
 */
import type { DeltaKind } from "@gfe/protocol";
import type { Attempt, AttemptEnd, Deltas } from "./attempt.ts";
import type { Host } from "./host.ts";
import { KEEP_LIMITS } from "./limits.ts";

const encoder = new TextEncoder();

/** The deltas of one attempt, on their way to whichever connection it has, and kept. */
export class KeptDeltas implements Deltas {
  #to: Deltas | null;
  #channel: number;
  #pieces: { kind: DeltaKind; text: string }[] = [];
  #bytes = 0;
  #isWhole = true;

  constructor(to: Deltas, channel: number) {
    this.#to = to;
    this.#channel = channel;
  }

  get congested(): boolean {
    return this.#to?.congested ?? false;
  }
  get queuedBytes(): number {
    return this.#to?.queuedBytes ?? 0;
  }
  whenClear(): Promise<void> {
    return this.#to?.whenClear() ?? Promise.resolve();
  }

  /** Bytes that are kept, about. */
  get bytes(): number {
    return this.#bytes;
  }
  /** Whether all of it is here; else it can't be told again. */
  get isWhole(): boolean {
    return this.#isWhole;
  }
  get isAway(): boolean {
    return this.#to === null;
  }

  text(kind: DeltaKind, _channel: number, text: string): number {
    if (this.#isWhole) {
      this.#pieces.push({ kind, text });
      this.#bytes += text.length;
      if (this.#bytes > KEEP_LIMITS.attemptBytes) this.drop();
    }
    return this.#to?.text(kind, this.#channel, text) ?? encoder.encode(text).byteLength;
  }

  /** Whether this is where it goes, or went. */
  goesTo(to: Deltas): boolean {
    return this.#to === to;
  }

  lose(): void {
    this.#to = null;
  }

  /** Tells all of it again, on another connection. */
  moveTo(to: Deltas, channel: number): void {
    this.#to = to;
    this.#channel = channel;
    for (const { kind, text } of this.#pieces) to.text(kind, channel, text);
  }

  drop(): void {
    this.#isWhole = false;
    this.#pieces = [];
    this.#bytes = 0;
  }
}

export interface KeptAttempt {
  attempt: Attempt;
  deltas: KeptDeltas;
  /** Null while it runs. */
  end: AttemptEnd | null;
}

export interface Kept {
  get(id: string): KeptAttempt | undefined;
  /** From its start; what was kept for longest makes room. */
  add(attempt: Attempt, deltas: KeptDeltas, keepMs: number): void;
  /** It has ended: it may be asked for until its time is up. */
  ended(attempt: Attempt, end: AttemptEnd): void;
  /** Its connection was lost; false where it is not kept, or not as a whole. It is aborted where nobody asks in time. */
  lost(attempt: Attempt): boolean;
  /** It was asked for again. */
  returned(attempt: Attempt): void;
  /** Nobody will ask any more. */
  clear(): void;
}

interface Entry extends KeptAttempt {
  keepMs: number;
  callOff: () => void;
}

export function createKept(host: Pick<Host, "after">): Kept {
  const entries = new Map<string, Entry>();

  function drop(entry: Entry): void {
    entry.callOff();
    entries.delete(entry.attempt.id);
    if (entry.end === null && entry.deltas.isAway)
      entry.attempt.abort({ code: "cancelled", message: "the hub did not come back for it" });
  }

  function later(entry: Entry): void {
    entry.callOff();
    entry.callOff = host.after(entry.keepMs, () => drop(entry));
  }

  function makeRoom(): void {
    let bytes = 0;
    for (const { deltas } of entries.values()) bytes += deltas.bytes;
    for (const entry of entries.values()) {
      if (entries.size <= KEEP_LIMITS.attempts && bytes <= KEEP_LIMITS.bytes) return;
      if (entry.end === null) continue;
      bytes -= entry.deltas.bytes;
      drop(entry);
    }
  }

  return {
    get: (id) => entries.get(id),
    add(attempt, deltas, keepMs) {
      const entry = {
        attempt,
        deltas,
        end: null,
        keepMs: Math.min(keepMs, KEEP_LIMITS.keepMs),
        callOff() {},
      };
      entries.set(attempt.id, entry);
      makeRoom();
    },
    ended(attempt, end) {
      const entry = entries.get(attempt.id);
      if (!entry) return;
      entry.end = end;
      if (!entry.deltas.isWhole) return drop(entry);
      later(entry);
      makeRoom();
    },
    lost(attempt) {
      const entry = entries.get(attempt.id);
      if (!entry?.deltas.isWhole) return false;
      entry.deltas.lose();
      later(entry);
      return true;
    },
    returned(attempt) {
      const entry = entries.get(attempt.id);
      if (!entry) return;
      entry.callOff();
      entry.callOff = () => {};
      if (entry.end) later(entry);
    },
    clear() {
      for (const entry of [...entries.values()]) {
        entry.callOff();
        entries.delete(entry.attempt.id);
      }
    },
  };
}
