/**
 * Who is served next where slots are short: pure bookkeeping, without timers, nodes or a clock of its own.
 *
 * Per model there is a tier for each priority. Across tiers: deficit round robin in weighted tokens, with SHARES for
 * one round. A tier may overdraw its round by one job and pays it back in the next ones, so that big jobs need no
 * bigger rounds. A tier whose next waiter has waited long gets more in each round, up to the share of the tier above
 * it (ageing), so that batch work goes on beside any amount of interactive work. Within a tier: tier.ts.
 *
 * Every operation is O(log n) in waiters; choosing also looks at the heads of a tier's lanes.
 */
import type { Priority } from "../types.ts";
import { type Share, type Ticket, Tier } from "./tier.ts";

export const PRIORITIES: readonly Priority[] = ["interactive", "standard", "batch"];
/** Weighted tokens that a tier may be served in one round while all have waiters. */
export const SHARES: Record<Priority, number> = { interactive: 8192, standard: 2048, batch: 512 };
/** After so long a wait a tier's share has doubled, after twice that tripled, …. */
export const AGEING_MS = 60_000;
/** An output token costs a node about as much as two of the input's (Sheng et al.). */
export const TOKEN_WEIGHTS = { input: 1, output: 2 } as const;

/** Weighted tokens. */
export const costOf = (inputTokens: number, outputTokens: number): number =>
  Math.max(1, TOKEN_WEIGHTS.input * inputTokens + TOKEN_WEIGHTS.output * outputTokens);

export interface Entry<W> {
  model: string;
  priority: Priority;
  consumer: string;
  /** Waiters with the same lane ask the same of a node. */
  lane: string;
  /** The node whose slots alone it waits for; its lane is then of that node too. */
  pinned?: string | undefined;
  /** Weighted tokens, estimated. */
  cost: number;
  /** A consumer's weight against others', 1 unless said otherwise. */
  weight?: number;
  waiter: W;
}

/** What a consumer was charged when its job began; to be corrected when it ends. */
export interface Charge<W> {
  readonly model: string;
  readonly priority: Priority;
  readonly share: Share<W>;
  readonly cost: number;
  readonly weight: number;
}

/** Full: nobody may wait. Crowded: this consumer has as many waiting as there is room left. */
export type Full = "full" | "model_full" | "crowded";

export interface Bounds {
  total: number;
  perModel: number;
}

interface ModelQueue<W> {
  readonly tiers: Record<Priority, Tier<W>>;
  length: number;
  running: number;
}

export class FairQueue<W> {
  readonly #bounds: Bounds;
  readonly #models = new Map<string, ModelQueue<W>>();
  readonly #waitingOf = new Map<string, number>();
  #length = 0;
  #arrivals = 0;

  constructor(bounds: Bounds) {
    this.#bounds = bounds;
  }

  get length(): number {
    return this.#length;
  }

  lengthOf(model: string): number {
    return this.#models.get(model)?.length ?? 0;
  }

  /** Why one more waiter would be too many, or null. A flood leaves as much room as it takes. */
  full(model: string, consumer: string): Full | null {
    const room = this.#bounds.total - this.#length;
    const modelRoom = this.#bounds.perModel - this.lengthOf(model);
    if (room <= 0) return "full";
    if (modelRoom <= 0) return "model_full";
    const own = this.#waitingOf.get(consumer) ?? 0;
    return own >= Math.min(room, modelRoom) ? "crowded" : null;
  }

  push(entry: Entry<W>, nowMs: number): Ticket<W> | Full {
    const full = this.full(entry.model, entry.consumer);
    if (full) return full;
    const { model, priority, consumer, lane, pinned, cost, weight = 1, waiter } = entry;
    const links = { own: 0, flow: null, previous: null, next: null };
    const ticket: Ticket<W> = {
      ...{ model, priority, consumer, lane, pinned, cost, weight, waiter, sinceMs: nowMs },
      ...{ arrival: this.#arrivals++, ...links },
    };
    const queue = this.#queueOf(model);
    queue.tiers[priority].add(ticket);
    queue.length++;
    this.#length++;
    this.#waitingOf.set(consumer, (this.#waitingOf.get(consumer) ?? 0) + 1);
    return ticket;
  }

  /** Takes a waiter out; false where it was served or removed before. */
  remove(ticket: Ticket<W>): boolean {
    if (ticket.flow === null) return false;
    const queue = this.#models.get(ticket.model)!;
    queue.tiers[ticket.priority].remove(ticket);
    queue.length--;
    this.#length--;
    const left = this.#waitingOf.get(ticket.consumer)! - 1;
    if (left > 0) this.#waitingOf.set(ticket.consumer, left);
    else this.#waitingOf.delete(ticket.consumer);
    this.#forgetIfIdle(ticket.model, queue);
    return true;
  }

  /**
   * Takes the next waiter for whom `fits` is true out and charges it; null where it is true for none looked at. `nodeId`:
   * whose slot it is.
   */
  next(
    model: string,
    fits: (waiter: W) => boolean,
    nowMs: number,
    nodeId?: string,
  ): { ticket: Ticket<W>; charge: Charge<W> } | null {
    const queue = this.#models.get(model);
    if (!queue || queue.length === 0) return null;
    for (const { tier, rounds } of this.#inTurn(queue, nowMs)) {
      const ticket = tier.find(fits, nodeId, nowMs);
      if (!ticket) continue;
      if (rounds > 0) this.#replenish(queue, rounds, nowMs);
      tier.credit -= ticket.cost;
      // Charged first: a consumer that leaves with its last waiter would be forgotten in between.
      const charge = this.begin(ticket);
      this.remove(ticket);
      return { ticket, charge };
    }
    return null;
  }

  /** Charges a job that found a slot without waiting. */
  begin({
    model,
    priority,
    consumer,
    cost,
    weight = 1,
  }: Pick<Entry<W>, "model" | "priority" | "consumer" | "cost" | "weight">): Charge<W> {
    const queue = this.#queueOf(model);
    queue.running++;
    const share = queue.tiers[priority].charge(consumer, cost, weight);
    return { model, priority, share, cost, weight };
  }

  /** The end of a job: `cost` is what it really took. Once for each charge. */
  end({ model, priority, share, cost: estimate, weight }: Charge<W>, cost: number): void {
    const queue = this.#models.get(model)!;
    queue.running--;
    queue.tiers[priority].correct(share, cost - estimate, weight);
    this.#forgetIfIdle(model, queue);
  }

  /** About how many will be served before one more waiter of this consumer would be. */
  ahead(model: string, priority: Priority, consumer: string): number {
    const queue = this.#models.get(model);
    if (!queue) return 0;
    const tier = queue.tiers[priority];
    const own = tier.shares.get(consumer)?.waiting ?? 0;
    return withOtherTiers(queue, priority, tier.ahead(own > 0, own));
  }

  /** The same for one who waits already: 0 is the next to be served. */
  aheadOf({ model, priority, flow, own }: Ticket<W>): number {
    const queue = this.#models.get(model);
    if (!queue || !flow) return 0;
    const { left, waiting } = flow.share;
    const before = Math.min(Math.max(0, own - left), waiting - 1);
    const tier = queue.tiers[priority];
    return withOtherTiers(queue, priority, Math.min(tier.length - 1, tier.ahead(true, before)));
  }

  /** The tiers with waiters, in the order in which they may be served, with the rounds that must begin before. */
  #inTurn(queue: ModelQueue<W>, nowMs: number): { tier: Tier<W>; rounds: number }[] {
    const turns: { tier: Tier<W>; rounds: number }[] = [];
    for (const priority of PRIORITIES) {
      const tier = queue.tiers[priority];
      if (tier.length === 0) continue;
      const rounds = tier.credit > 0 ? 0 : Math.floor(-tier.credit / shareOf(tier, priority, nowMs)) + 1;
      turns.push({ tier, rounds });
    }
    return turns.length === 1 ? turns : turns.sort((a, b) => a.rounds - b.rounds);
  }

  #replenish(queue: ModelQueue<W>, rounds: number, nowMs: number): void {
    for (const priority of PRIORITIES) {
      const tier = queue.tiers[priority];
      const share = shareOf(tier, priority, nowMs);
      tier.credit = Math.min(share, tier.credit + rounds * share);
    }
  }

  #queueOf(model: string): ModelQueue<W> {
    let queue = this.#models.get(model);
    if (!queue) {
      const tiers = { interactive: new Tier<W>(), standard: new Tier<W>(), batch: new Tier<W>() };
      queue = { tiers, length: 0, running: 0 };
      this.#models.set(model, queue);
    }
    return queue;
  }

  /** Nobody waits and nothing runs: the busy time is over, and with it everybody's debts. */
  #forgetIfIdle(model: string, queue: ModelQueue<W>): void {
    if (queue.length === 0 && queue.running === 0) this.#models.delete(model);
  }
}

/** A tier's share of a round, with its age; never more than the tier above has by itself. */
function shareOf<W>(tier: Tier<W>, priority: Priority, nowMs: number): number {
  const base = SHARES[priority];
  if (priority === "interactive" || tier.length === 0) return base;
  const above = priority === "batch" ? SHARES.standard : SHARES.interactive;
  return Math.min(above, base * (1 + Math.max(0, nowMs - tier.nextSinceMs()) / AGEING_MS));
}

/** Adds to those ahead in its own tier what other tiers' shares allow meanwhile: who is above goes first, who is below last. */
function withOtherTiers<W>(queue: ModelQueue<W>, priority: Priority, inTier: number): number {
  let ahead = inTier;
  for (const other of PRIORITIES) {
    if (other === priority) continue;
    const rounds = (inTier + 1) * (SHARES[other] / SHARES[priority]);
    ahead += Math.min(queue.tiers[other].length, Math.floor(rounds));
  }
  return ahead;
}
