/**
 * Waiting for a slot. A wish that no free offer can serve waits its turn in the fair queue (queue/fair-queue.ts); every
 * slot that comes free, and every node that connects or announces, is offered to the waiting first. Because of that, a
 * free slot seen by a newcomer is one that nobody waiting could use: newcomers never overtake. A conversation may wait for
 * the one node that holds its cache, for a short while and while others are free (market/patience.ts).
 *
 * Who would wait longer than it may is refused at once: what is ahead of it, by the rate at which the model's slots
 * come free. A node that offers several models serves the waiters of each in turn.
 */
import { GfeError } from "@gfe/protocol";
import { watchDeparted } from "../market/departed.ts";
import { type MatchResult, match, type Wish } from "../market/match.ts";
import type { Matcher } from "../market/matcher.ts";
import type { Patience } from "../market/patience.ts";
import { type NodeEntry, namesOf, type Offer, type Registry } from "../market/registry.ts";
import { type Bounds, type Charge, costOf, FairQueue } from "./queue/fair-queue.ts";
import { laneOf } from "./queue/lane.ts";
import { ServiceRates } from "./queue/service-rate.ts";
import type { Ticket } from "./queue/tier.ts";
import { awayError, fullError, toError } from "./refusal.ts";
import { stopReason } from "./stop.ts";
import type { Place, Priority } from "./types.ts";

/** A waiter hears of its place first after so long a wait, and then again and again. */
export const PLACE_AFTER_MS = 1_000;
export const PLACE_EVERY_MS = 5_000;
/** Predictions err: a wait is begun only if it will probably end within this share of the longest that it may take. */
const PREDICTED_SHARE_MAX = 0.7;
/** Longest time after which a refused caller is asked to come back. */
const RETRY_AFTER_S_MAX = 60;

export interface Lease {
  offer: Offer;
  /** Gives the slot back; more than once is harmless. */
  release(): void;
  /** From now on what it returns gives the slot back, and `release` only says that the job needs it no more. */
  handOver(): () => void;
}

/** The slot that a job begins with. */
export interface FirstLease extends Lease {
  /** What the job took in the end, for the fair share; zero where nothing was served. Later calls are ignored. */
  served(tokens: { input_tokens: number; output_tokens: number }): void;
}

export interface Waiting {
  priority: Priority;
  waitMs: number;
  /** Called now and then while it waits. */
  queued?: ((place: Place) => void) | undefined;
}

/** Where jobs of all hubs wait, if not here. */
export interface Elsewhere {
  /** Whether somebody waits there for a slot of the model. Then nobody takes one here without asking there. */
  isCrowded(model: string): boolean;
  /** Null where the place to wait is here. Throws as SlotQueue.acquire does. */
  acquire(wish: Wish, waiting: Waiting, signal: AbortSignal): Promise<FirstLease> | null;
  /** Somebody waits here for a slot of the model, or nobody does any more. */
  changed(model: string, waits: boolean): void;
}

export interface SlotQueue {
  /**
   * Throws GfeError: model_not_found, model_away, no_own_node, unsupported_parameter, context_length_exceeded, over_price_cap, no_slot
   * (it waited too long, or would), overloaded, rate_limited (too much of this consumer's waits), cancelled, shutting_down.
   */
  acquire(wish: Wish, waiting: Waiting, signal: AbortSignal): Promise<FirstLease>;
  /** The same, without asking elsewhere. */
  acquireHere(wish: Wish, waiting: Waiting, signal: AbortSignal): Promise<FirstLease>;
  /** A slot now or null, without waiting: for fail-over. */
  tryAcquire(wish: Wish): Lease | null;
  length(): number;
}

interface Waiter {
  wish: Wish;
  grant(lease: Lease, charge: Charge<Waiter>): void;
}

export interface SlotQueueOptions {
  registry: Registry;
  bounds: Bounds;
  random: () => number;
  nowMs: () => number;
  /** Matching with a memory; without one, by what offers say. */
  choose?: (offers: readonly Offer[], wish: Wish, among?: readonly Offer[]) => MatchResult;
  /** Whether a wish had better wait for one node, for a while; never unless given. */
  patience?: Matcher["patience"];
  elsewhere?: Elsewhere | undefined;
}

export function createSlotQueue({
  registry,
  bounds,
  random,
  nowMs,
  choose = (offers, wish, among) => match(offers, wish, random, undefined, among),
  patience = () => null,
  elsewhere,
}: SlotQueueOptions): SlotQueue {
  const queue = new FairQueue<Waiter>(bounds);
  const isBackSoon = watchDeparted(registry, nowMs);
  const rates = new ServiceRates();
  /** When a model with waiters last had its turn. */
  const turns = new Map<string, number>();
  let turn = 0;
  /** By node, of those who wait for it alone: how each ends that. */
  const patient = new Map<string, Set<() => void>>();

  function take(wish: Wish, among?: readonly Offer[]): Lease | MatchResult {
    const result = choose(registry.offers(wish.model), wish, among);
    if (result.type !== "matched") return result;
    const { offer } = result;
    const release = registry.takeSlot(offer);
    if (!release) return { type: "busy" };
    let ended: ((endedAtMs: number) => void) | null = rates.begin(wish.model, nowMs());
    let isMine = true;
    return {
      offer,
      release() {
        ended?.(nowMs());
        ended = null;
        if (isMine) release();
      },
      handOver() {
        isMine = false;
        return release;
      },
    };
  }

  function firstLease(lease: Lease, charge: Charge<Waiter>): FirstLease {
    let open = true;
    return {
      ...lease,
      served({ input_tokens, output_tokens }) {
        if (open)
          queue.end(charge, input_tokens + output_tokens === 0 ? 0 : costOf(input_tokens, output_tokens));
        open = false;
      },
    };
  }

  function offerTo(node: NodeEntry): void {
    const models = namesOf(node).filter((model) => queue.lengthOf(model) > 0);
    models.sort((a, b) => (turns.get(a) ?? 0) - (turns.get(b) ?? 0));
    for (let model = models.shift(); model !== undefined; model = models.shift()) {
      if (node.draining || node.running >= node.announcement.slots) return;
      if (serveNext(node, model) && queue.lengthOf(model) > 0) models.push(model);
    }
  }

  /** The last node of a model is gone or leaves: then its name may mean another model, whose nodes are free. */
  function offerOthers(left: NodeEntry): void {
    for (const name of namesOf(left)) {
      if (queue.lengthOf(name) === 0) continue;
      for (const { node } of registry.offers(name)) if (node !== left) offerTo(node);
    }
  }

  function serveNext(node: NodeEntry, model: string): boolean {
    const offers = registry.offers(model).filter((offer) => offer.node === node);
    let lease: Lease | null = null;
    const fits = ({ wish }: Waiter) => {
      const result = take(wish, offers);
      if (!("release" in result)) return false;
      lease = result;
      return true;
    };
    const next = queue.next(model, fits, nowMs(), node.nodeId);
    if (!next) return false;
    turns.set(model, ++turn);
    next.ticket.waiter.grant(lease!, next.charge);
    return true;
  }

  registry.onChange((change) => {
    // A slot taken is one that this queue has just given: offering again meanwhile would serve one waiter twice.
    if (queue.length === 0 || change.type === "slot_taken") return;
    const leaves = change.type === "announced" && change.node.draining;
    if (leaves || change.type === "disconnected") {
      for (const end of patient.get(change.node.nodeId) ?? []) end();
      offerOthers(change.node);
    } else offerTo(change.node);
  });

  /** Waits for a slot of the one node that holds the conversation's cache. Null where that took too long. */
  async function waitPatiently(
    wish: Wish,
    { nodeId, waitMs }: Patience,
    { priority }: Waiting,
    signal: AbortSignal,
  ): Promise<FirstLease | null> {
    const others = patient.get(nodeId) ?? new Set();
    patient.set(nodeId, others);
    const over = new AbortController();
    const stop = () => over.abort();
    others.add(stop);
    try {
      return await wait(wish, { priority, waitMs }, AbortSignal.any([signal, over.signal]), nodeId);
    } catch (error) {
      if (signal.aborted) throw error;
      return null;
    } finally {
      others.delete(stop);
      if (others.size === 0) patient.delete(nodeId);
    }
  }

  function wait(
    wish: Wish,
    { priority, waitMs, queued }: Waiting,
    signal: AbortSignal,
    pinned?: string,
  ): Promise<FirstLease> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        wish,
        grant(lease, charge) {
          end();
          resolve(firstLease(lease, charge));
        },
      };
      const pushed = queue.push(entryOf(wish, priority, waiter, pinned), nowMs());
      if (typeof pushed === "string") return reject(fullError(pushed, wish));
      const ticket: Ticket<Waiter> = pushed;
      if (queue.lengthOf(wish.model) === 1) elsewhere?.changed(wish.model, true);
      const end = () => {
        queue.remove(ticket);
        if (queue.lengthOf(wish.model) === 0) {
          turns.delete(wish.model);
          elsewhere?.changed(wish.model, false);
        }
        clearTimeout(timer);
        clearTimeout(telling);
        signal.removeEventListener("abort", onAbort);
      };
      const fail = (error: GfeError) => {
        end();
        reject(error);
      };
      const onAbort = () => fail(stopReason(signal));
      const tell = () => {
        const position = queue.aheadOf(ticket) + 1;
        telling = setTimeout(tell, PLACE_EVERY_MS);
        queued?.({ position, estimateMs: rates.waitMs(wish.model, position) });
      };
      let telling = queued && setTimeout(tell, PLACE_AFTER_MS);
      const timer = setTimeout(() => {
        const message = `Every node for ${wish.model} stayed busy for ${waitMs} ms`;
        fail(new GfeError("no_slot", message, { retryAfterS: 5 }));
      }, waitMs);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  function entryOf(wish: Wish, priority: Priority, waiter: Waiter, pinned?: string) {
    const { model, consumerId } = wish;
    const owns = registry.offers(model).some(({ node }) => node.ownerId === consumerId);
    return {
      model,
      priority,
      consumer: consumerId,
      lane: laneOf(wish, owns, pinned),
      pinned,
      cost: estimatedCost(wish),
      waiter,
    };
  }

  /** How long it would probably wait, and by how much that is too long. */
  function predict({ model, consumerId }: Wish, { priority, waitMs }: Waiting) {
    const predictedMs = rates.waitMs(model, queue.ahead(model, priority, consumerId)) ?? 0;
    return { predictedMs, overMs: predictedMs - waitMs * PREDICTED_SHARE_MAX };
  }

  /** Whether to wait for one node first. Not where that might end in a refusal, which is due at once. */
  function worthWaiting(wish: Wish, waiting: Waiting): Patience | null {
    const found = patience(registry.offers(wish.model), wish, (nodeId) => patient.get(nodeId)?.size ?? 0);
    if (!found || waiting.waitMs <= found.waitMs) return null;
    return predict(wish, { ...waiting, waitMs: waiting.waitMs - found.waitMs }).overMs > 0 ? null : found;
  }

  /** Refuses what could not be served in the time that it may wait: before it is charged for anything. */
  function refuseHopeless(wish: Wish, waiting: Waiting): void {
    const { model } = wish;
    const { predictedMs, overMs } = predict(wish, waiting);
    if (overMs <= 0) return;
    throw new GfeError(
      "no_slot",
      `The wait for ${model} would be about ${Math.ceil(predictedMs / 1000)} s, too long for this request`,
      { retryAfterS: Math.min(RETRY_AFTER_S_MAX, Math.ceil(overMs / 1000)) },
    );
  }

  async function acquire(
    wish: Wish,
    waiting: Waiting,
    signal: AbortSignal,
    others: Elsewhere | undefined,
  ): Promise<FirstLease> {
    if (signal.aborted) throw stopReason(signal);
    const sinceMs = nowMs();
    const left = () => ({ ...waiting, waitMs: waiting.waitMs - (nowMs() - sinceMs) });
    const worth = worthWaiting(wish, waiting);
    const warm = worth && (await waitPatiently(wish, worth, waiting, signal));
    if (warm) return warm;
    const { model, consumerId: consumer } = wish;
    const inTurn = others?.isCrowded(model) ? others.acquire(wish, left(), signal) : null;
    if (inTurn) return inTurn;
    const result = take(wish);
    if ("release" in result) {
      const { priority } = waiting;
      return firstLease(result, queue.begin({ model, priority, consumer, cost: estimatedCost(wish) }));
    }
    if (result.type === "model_not_found" && isBackSoon(model)) throw awayError(wish);
    if (result.type !== "busy") throw toError(result, wish);
    const elsewhere = others?.acquire(wish, left(), signal);
    if (elsewhere) return elsewhere;
    refuseHopeless(wish, left());
    return wait(wish, left(), signal);
  }

  return {
    acquire: (wish, waiting, signal) => acquire(wish, waiting, signal, elsewhere),
    acquireHere: (wish, waiting, signal) => acquire(wish, waiting, signal, undefined),
    tryAcquire(wish) {
      const result = take(wish);
      return "release" in result ? result : null;
    },
    length: () => queue.length,
  };
}

const estimatedCost = (wish: Wish): number => costOf(wish.inputTokens, wish.outputTokens);
