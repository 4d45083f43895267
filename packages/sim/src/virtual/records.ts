/** What the simulation saw with its own eyes, apart from anything that the hub keeps: the auditor's evidence. */
import { createHash } from "node:crypto";
import type { PriceWire } from "@gfe/protocol";
import { type Clock, START_MS } from "./clock.ts";

/** What one node said in one attempt. */
export interface Speech {
  /** Names it in every piece. */
  name: string;
  provider: string;
  price: PriceWire;
  pieces: string[];
  /** Whether it claims a token for each of its pieces, and input as it is. */
  isHonest: boolean;
}

/** One request of a consumer, from both ends. */
export interface RequestRecord {
  n: number;
  consumer: string;
  whole: boolean;
  /** The most tokens of input that anyone could claim for it. */
  inputTokensMax: number;
  outputTokensMax: number;
  jobIds: Set<string>;
  /** What the hub handed to this caller of the answer, in the order in which it did. */
  relayed: string;
  speeches: Speech[];
  /** What its caller was told; null as long as it waits. */
  answer: Answer | null;
}

export interface Answer {
  /** `completed`, `hung up`, `connection lost`, or the code of the error. */
  outcome: string;
  text: string;
  jobId?: string;
  costMicro?: string;
}

const LINES_KEPT = 40;

export class Records {
  readonly requests: RequestRecord[] = [];
  /** How often which fault and which lie happened. */
  readonly happened = new Map<string, number>();
  readonly #clock: Clock;
  readonly #hash = createHash("sha256");
  readonly #trace: ((line: string) => void) | undefined;
  readonly #names = new Map<string, string>();
  #speeches = 0;
  lines: string[] = [];

  constructor(clock: Clock, trace?: (line: string) => void) {
    this.#clock = clock;
    this.#trace = trace;
  }

  /** A line of the log. Ids, which are random, are named in the order in which they are seen. */
  note(text: string): void {
    const named = text.replace(/\b(job|att|node)_[0-9a-z]{26}/g, (id, kind) => this.#named(id, kind));
    const line = `${((this.#clock.nowMs - START_MS) / 1000).toFixed(4)} ${this.#clock.owner.name}: ${named}`;
    this.#hash.update(line).update("\n");
    this.#trace?.(line);
    if (this.lines.push(line) > 2 * LINES_KEPT) this.lines = this.lines.slice(-LINES_KEPT);
  }

  #named(id: string, kind: string): string {
    const name = this.#names.get(id) ?? `${kind}${this.#names.size + 1}`;
    this.#names.set(id, name);
    return name;
  }

  happen(what: string): void {
    this.happened.set(what, (this.happened.get(what) ?? 0) + 1);
    this.note(what);
  }

  /** The request that a node was asked to answer, by the mark in its prompt. */
  requestOf(body: object): RequestRecord {
    const n = /request (\d+)/.exec(JSON.stringify(body))?.[1];
    return this.requests[Number(n)]!;
  }

  speech(of: Pick<Speech, "provider" | "price" | "isHonest"> & { name: string; body: object }): Speech {
    const { name, provider, price, isHonest } = of;
    const made = { name: `${name}#${++this.#speeches}`, provider, price, isHonest, pieces: [] };
    this.requestOf(of.body).speeches.push(made);
    return made;
  }

  /** Of everything that was noted: two runs with the same are the same. */
  digest(): string {
    return this.#hash.copy().digest("hex").slice(0, 16);
  }

  last(): string[] {
    return this.lines.slice(-LINES_KEPT);
  }
}

/** The next piece of a speech: its name, its place in it, and as much padding as asked for. */
export function nextPiece(speech: Speech, padding = 0): string {
  const piece = `${speech.name}.${speech.pieces.length}${"x".repeat(padding)} `;
  speech.pieces.push(piece);
  return piece;
}
