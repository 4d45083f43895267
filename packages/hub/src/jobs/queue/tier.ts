/**
 * The waiters of one model and one priority. Between consumers the least virtual counter is served first (VTC, Sheng et
 * al., "Fairness in Serving Large Language Models", OSDI '24): a counter grows by what its consumer is served, in
 * weighted tokens; who comes back is lifted to the least counter of those who wait, so that nobody saves up time.
 *
 * A consumer's waiters stand in lanes, in order of arrival. Waiters of one lane ask the same of a node: what the first
 * cannot use, none behind it can. One look at the head of each lane is therefore enough.
 */
import type { Priority } from "../types.ts";
import { Heap, type HeapMember } from "./flow-heap.ts";

/**
 * Who waits for one node's slots alone goes first there (locality under a fair share: Cao et al., "Locality-aware Fair
 * Scheduling in LLM Serving", 2025), but not if its consumer was served so many weighted tokens more than another that
 * waits, nor before one who has waited for so long.
 */
export const PINNED_LEAD_MAX = 8_192;
export const PINNED_FIRST_MS = 2_000;
/** Heads of lanes that are looked at for one free slot. */
export const LOOKS_MAX = 64;
/** Consumers whose counters are remembered while they neither wait nor run, in one tier. */
const IDLE_SHARES_MAX = 1024;

export interface Ticket<W> {
  readonly waiter: W;
  readonly model: string;
  readonly priority: Priority;
  readonly consumer: string;
  readonly weight: number;
  readonly lane: string;
  /** The node whose slots alone it waits for. */
  readonly pinned: string | undefined;
  /** Weighted tokens that serving it will probably cost. */
  readonly cost: number;
  readonly sinceMs: number;
  /** Decides between equal counters. */
  readonly arrival: number;
  /** Its number among its consumer's. */
  own: number;
  flow: Flow<W> | null;
  previous: Ticket<W> | null;
  next: Ticket<W> | null;
}

/** One consumer in one tier. */
export interface Share<W> {
  readonly consumer: string;
  /** What it was served, in weighted tokens, divided by its weight. */
  counter: number;
  waiting: number;
  running: number;
  /** Waiters that came and that left, ever. */
  came: number;
  left: number;
  readonly flows: Map<string, Flow<W>>;
}

/** One consumer's waiters in one lane, the first at the head. */
export interface Flow<W> extends HeapMember {
  readonly share: Share<W>;
  readonly lane: string;
  head: Ticket<W> | null;
  tail: Ticket<W> | null;
}

const servedBefore = <W>(a: Flow<W>, b: Flow<W>): boolean =>
  a.share.counter < b.share.counter ||
  (a.share.counter === b.share.counter && a.head!.arrival < b.head!.arrival);

/** Puts the first that waits for this node alone before the others, where that is fair. `heads`: in fair order. */
function pinnedFirst<W>(heads: Flow<W>[], nowMs: number): void {
  const at = heads.findIndex(({ head }) => head!.pinned !== undefined);
  if (at <= 0) return;
  const pinned = heads[at]!;
  if (pinned.share.counter - heads[0]!.share.counter > PINNED_LEAD_MAX) return;
  if (heads.some(({ head }) => head!.pinned === undefined && nowMs - head!.sinceMs > PINNED_FIRST_MS)) return;
  heads.splice(at, 1);
  heads.unshift(pinned);
}

export class Tier<W> {
  readonly shares = new Map<string, Share<W>>();
  readonly #lanes = new Map<string, Heap<Flow<W>>>();
  /** The counter that was served last: where one begins who comes while nobody waits. */
  #floor = 0;
  #sweepAt = 64;
  length = 0;
  /** Consumers that wait. */
  consumers = 0;
  /** What may still be served in this round, in weighted tokens; see fair-queue.ts. */
  credit = 0;

  add(ticket: Ticket<W>): void {
    const share = this.#lifted(ticket.consumer);
    let flow = share.flows.get(ticket.lane);
    ticket.own = share.came++;
    ticket.flow = flow ?? null;
    ticket.previous = flow?.tail ?? null;
    if (share.waiting++ === 0) this.consumers++;
    this.length++;
    if (flow) {
      flow.tail!.next = ticket;
      flow.tail = ticket;
      return;
    }
    flow = { share, lane: ticket.lane, head: ticket, tail: ticket, place: -1 };
    ticket.flow = flow;
    share.flows.set(ticket.lane, flow);
    let lane = this.#lanes.get(ticket.lane);
    if (!lane) {
      lane = new Heap<Flow<W>>(servedBefore);
      this.#lanes.set(ticket.lane, lane);
    }
    lane.add(flow);
  }

  /** Takes a waiter out unserved. */
  remove(ticket: Ticket<W>): void {
    const flow = ticket.flow!;
    const { share } = flow;
    const wasHead = flow.head === ticket;
    if (ticket.previous) ticket.previous.next = ticket.next;
    else flow.head = ticket.next;
    if (ticket.next) ticket.next.previous = ticket.previous;
    else flow.tail = ticket.previous;
    ticket.flow = ticket.previous = ticket.next = null;
    this.length--;
    const lane = this.#lanes.get(flow.lane)!;
    if (flow.head === null) {
      lane.remove(flow);
      share.flows.delete(flow.lane);
      if (lane.size === 0) this.#lanes.delete(flow.lane);
    } else if (wasHead) lane.moved(flow);
    share.left++;
    if (--share.waiting === 0) this.consumers--;
    this.#forgetIfIdle(share);
  }

  /**
   * The first in fair order that `fits` a slot of this node, or of some node; looks at the head of each lane at most, and
   * at LOOKS_MAX of them.
   */
  find(fits: (waiter: W) => boolean, nodeId: string | undefined, nowMs: number): Ticket<W> | null {
    const heads: Flow<W>[] = [];
    for (const lane of this.#lanes.values()) {
      const first = lane.first()!;
      const { pinned } = first.head!;
      if (pinned === undefined || pinned === nodeId) heads.push(first);
    }
    if (heads.length > 1) {
      heads.sort((a, b) => (servedBefore(a, b) ? -1 : 1));
      pinnedFirst(heads, nowMs);
    }
    for (const { head } of heads.slice(0, LOOKS_MAX)) if (fits(head!.waiter)) return head;
    return null;
  }

  /** About how many will be served before one more of this consumer's, with `own` before it: each other as often as itself. */
  ahead(waitingToo: boolean, own: number): number {
    const others = this.consumers - (waitingToo ? 1 : 0);
    return Math.min(this.length, own + others * (own + 1));
  }

  /** Since when the one who is next in fair order waits. */
  nextSinceMs(): number {
    let next: Flow<W> | null = null;
    for (const lane of this.#lanes.values()) {
      const first = lane.first()!;
      if (!next || servedBefore(first, next)) next = first;
    }
    return next?.head?.sinceMs ?? Number.POSITIVE_INFINITY;
  }

  /** Charges a consumer for what begins to be served, whether it waited or not. */
  charge(consumer: string, cost: number, weight: number): Share<W> {
    const share = this.shares.get(consumer) ?? this.#lifted(consumer);
    if (share.waiting === 0) share.counter = Math.max(share.counter, this.#least());
    this.#floor = Math.max(this.#floor, share.counter);
    share.running++;
    this.#grow(share, cost / weight);
    return share;
  }

  /** The end of what was charged for: `difference` is what it was more, or less, than the estimate. */
  correct(share: Share<W>, difference: number, weight: number): void {
    share.running--;
    this.#grow(share, difference / weight);
    this.#forgetIfIdle(share);
  }

  #grow(share: Share<W>, by: number): void {
    share.counter += by;
    for (const flow of share.flows.values()) this.#lanes.get(flow.lane)!.moved(flow);
  }

  #lifted(consumer: string): Share<W> {
    let share = this.shares.get(consumer);
    if (!share) {
      if (this.shares.size >= this.#sweepAt) this.#sweep();
      share = { consumer, counter: 0, waiting: 0, running: 0, came: 0, left: 0, flows: new Map() };
      this.shares.set(consumer, share);
    }
    if (share.waiting === 0) share.counter = Math.max(share.counter, this.#least());
    return share;
  }

  /** The least counter of those who wait; while nobody does, the one that was served last. */
  #least(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) least = Math.min(least, lane.first()!.share.counter);
    return least === Number.POSITIVE_INFINITY ? this.#floor : least;
  }

  /** A counter at or below the floor says nothing: its owner would be lifted there anyway. */
  #forgetIfIdle(share: Share<W>): void {
    if (share.waiting === 0 && share.running === 0 && share.counter <= this.#floor)
      this.shares.delete(share.consumer);
  }

  #sweep(): void {
    for (const share of this.shares.values()) this.#forgetIfIdle(share);
    if (this.shares.size >= IDLE_SHARES_MAX)
      for (const share of this.shares.values())
        if (share.waiting === 0 && share.running === 0) this.shares.delete(share.consumer);
    this.#sweepAt = Math.max(64, 2 * this.shares.size);
  }
}
