/** Jobs of this hub that wait at the home. */
import { GfeError } from "@gfe/protocol";
import type { FirstLease, SlotQueue, Waiting } from "../../jobs/slot-queue.ts";
import { stopReason } from "../../jobs/stop.ts";
import type { Place } from "../../jobs/types.ts";
import type { Wish } from "../../market/match.ts";
import type { NodeEntry, Offer, Registry } from "../../market/registry.ts";
import type { Peers } from "../peers.ts";
import type { Home } from "./home.ts";
import { errorFromWire, placeSchema, refuseSchema, turnSchema, wishToWire } from "./wire.ts";

/** An answer of the home that is so much later than the wait itself will not come. */
const ANSWER_MARGIN_MS = 2_000;
/** Times that one wait begins anew: its home was lost, or another hub was quicker to take the slot. */
const TRIES_MAX = 16;

const NOTHING = { input_tokens: 0, output_tokens: 0 };

export interface Asking {
  acquire(wish: Wish, waiting: Waiting, signal: AbortSignal): Promise<FirstLease>;
  /** A slot of another hub's node that a job here has in its turn: once for each. */
  reservation(node: NodeEntry, model: string): number | undefined;
}

export interface AskingOptions {
  peers: Peers;
  registry: Registry;
  home: Home;
  nowMs: () => number;
  queue(): SlotQueue | null;
}

interface Question {
  home: string;
  queued: ((place: Place) => void) | undefined;
  turn(nodeId: string, model: string): void;
  refuse(error: GfeError): void;
  /** The home is lost. */
  lose(): void;
}

export function createAsking({ peers, registry, home, nowMs, queue }: AskingOptions): Asking {
  const questions = new Map<number, Question>();
  /** By node and model: what jobs here were given and have not started on yet. One is as good as another. */
  const reserved = new Map<string, Set<number>>();
  let lastId = 0;

  /** Null where it is to be asked again. */
  function ask(at: string, wish: Wish, waiting: Waiting, signal: AbortSignal): Promise<FirstLease | null> {
    const { priority, waitMs, queued } = waiting;
    const id = ++lastId;
    const leave = () => peers.send(at, { t: "over", id, served: NOTHING });
    return new Promise((resolve, reject) => {
      const end = () => {
        questions.delete(id);
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = () => {
        end();
        leave();
        reject(stopReason(signal));
      };
      const lose = () => {
        end();
        leave();
        resolve(null);
      };
      const timer = setTimeout(lose, waitMs + ANSWER_MARGIN_MS);
      signal.addEventListener("abort", onAbort, { once: true });
      questions.set(id, {
        ...{ home: at, queued, lose },
        turn(nodeId, model) {
          end();
          const lease = leaseOf(at, id, wish, nodeId, model);
          if (!lease) leave();
          resolve(lease);
        },
        refuse(error) {
          end();
          reject(error);
        },
      });
      const wire = wishToWire(wish, registry.offers(wish.model));
      peers.send(at, { t: "ask", id, wish: wire, priority, waitMs });
    });
  }

  /** Null where the slot is of no use: its node is gone or too dear, or another job here was quicker. */
  function leaseOf(at: string, id: number, wish: Wish, nodeId: string, model: string): FirstLease | null {
    const offer = registry
      .offers(wish.model)
      .find((one) => one.node.nodeId === nodeId && one.offer.model === model);
    if (!offer || wish.allows?.(nodeId) === false || wish.affordable?.(offer) === false) return null;
    const release = offer.node.hub === undefined ? registry.takeSlot(offer) : reserve(offer, id);
    if (!release) return null;
    let isOver = false;
    return {
      ...{ offer, release },
      handOver: () => release,
      served(served) {
        if (!isOver) peers.send(at, { t: "over", id, served });
        isOver = true;
      },
    };
  }

  const keyOf = (node: NodeEntry, model: string) => `${node.nodeId} ${model}`;

  function reserve({ node, offer }: Offer, id: number): () => void {
    const key = keyOf(node, offer.model);
    reserved.set(key, (reserved.get(key) ?? new Set()).add(id));
    return () => unreserve(key, id);
  }

  function unreserve(key: string, id: number): void {
    const ids = reserved.get(key);
    ids?.delete(id);
    if (ids?.size === 0) reserved.delete(key);
  }

  peers.on("place", (peer, message) => {
    const told = placeSchema.safeParse(message).data;
    const question = told && questions.get(told.id);
    if (question?.home === peer)
      question.queued?.({ position: told!.position, estimateMs: told!.estimateMs });
  });
  peers.on("turn", (peer, message) => {
    const told = turnSchema.safeParse(message).data;
    const question = told && questions.get(told.id);
    if (question?.home === peer) question.turn(told!.node, told!.model);
    // Whose caller left has said so; the slot is given back when that arrives.
  });
  peers.on("refuse", (peer, message) => {
    const told = refuseSchema.safeParse(message).data;
    const question = told && questions.get(told.id);
    if (question?.home === peer) question.refuse(errorFromWire(told!));
  });
  home.onLost((peer) => {
    for (const question of [...questions.values()]) if (question.home === peer) question.lose();
  });

  return {
    async acquire(wish, waiting, signal) {
      const sinceMs = nowMs();
      for (let tries = 0; tries < TRIES_MAX; tries++) {
        const left = { ...waiting, waitMs: waiting.waitMs - (nowMs() - sinceMs) };
        if (left.waitMs <= 0) break;
        if (home.isHere()) return queue()!.acquireHere(wish, left, signal);
        const lease = await ask(home.id(), wish, left, signal);
        if (lease) return lease;
      }
      throw new GfeError("no_slot", `Every node for ${wish.model} stayed busy`, { retryAfterS: 5 });
    },
    reservation(node, model) {
      const key = keyOf(node, model);
      const [id] = reserved.get(key) ?? [];
      if (id !== undefined) unreserve(key, id);
      return id;
    },
  };
}
