/** A virtual clock: what is to happen, by when; of equal times the earlier entered goes first. */
import { Heap } from "../virtual/heap.ts";

export class Events {
  nowMs = 0;
  readonly #heap = new Heap<{ atMs: number; order: number; run: () => void }>(
    (a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order),
  );
  #order = 0;

  after(delayMs: number, run: () => void): void {
    this.#heap.push({ atMs: this.nowMs + delayMs, order: this.#order++, run });
  }

  /** Runs all that happens, and what that makes happen. */
  run(): void {
    for (let next = this.#heap.pop(); next; next = this.#heap.pop()) {
      this.nowMs = next.atMs;
      next.run();
    }
  }
}
