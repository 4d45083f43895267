/** A simulated fleet: the hub's real registry and matching, on nodes that only take time. */
import {
  createMatcher,
  createRegistry,
  type Matcher,
  type Offer,
  PINNED_FIRST_MS,
  type Registry,
  type Standing,
  type Wish,
} from "../../../hub/src/testing/market.ts";
import type { Random } from "../random.ts";
import { Events } from "./events.ts";

export const MODEL = "m";
/** What an engine reads of a prompt in a second; with a warm cache it reads only what is new. */
const PREFILL_TOKENS_PER_S = 2_000;
/** Jobs that all nodes are too busy for are asked again after so long. */
const RETRY_MS = 50;

export interface SimNode {
  id: string;
  owner: string;
  /** Where it connects from. */
  block?: string;
  slots: number;
  /** Micro-credits per million tokens out, and a tenth of it in. */
  perMillionOutput: number;
  /** From the attempt's start to the first token, on an idle node with an empty prompt. */
  ttftMs: number;
  tokensPerS: number;
}

export interface SimJob {
  atMs: number;
  inputTokens: number;
  outputTokens: number;
  prefixes?: Wish["prefixes"];
  /** Called when it has ended, on the virtual clock. */
  ended?: (end: JobEnd) => void;
}

export interface JobEnd {
  node: SimNode;
  beganAtMs: number;
  durationMs: number;
  /** From arrival, waiting included. */
  ttftMs: number;
  costMicro: number;
}

/** Chooses as the hub does, or in a simpler way. */
export type Policy = "ours" | "random" | "cheapest" | "least_loaded";

export interface Fleet {
  readonly events: Events;
  readonly ends: JobEnd[];
  readonly nodes: Map<string, SimNode>;
  join(node: SimNode): void;
  arrive(job: SimJob): void;
}

export interface FleetOptions {
  policy: Policy;
  random: Random;
  standingOf?: (offer: Offer) => Standing;
  /** False: no conversation waits for the node that holds its cache; to see what that is good for. */
  patient?: boolean;
  onEnd?: (end: JobEnd) => void;
}

export function createFleet({ policy, random, standingOf, patient = true, onEnd }: FleetOptions): Fleet {
  const events = new Events();
  const registry: Registry = createRegistry();
  const nodes = new Map<string, SimNode>();
  const ends: JobEnd[] = [];
  /** Conversations whose cache a node holds. */
  const cached = new Map<string, Set<string>>();
  /** Those that found every node busy, in the order in which they did. */
  const retrying = new Set<SimJob>();
  const waitingFor = new Map<string, Set<SimJob>>();
  const matcher: Matcher = createMatcher({ random: random.next, nowMs: () => events.nowMs, standingOf });
  const choose = policy === "ours" ? matcher.choose : simplePolicy(policy, random);

  /** Waits for the node with the conversation's cache where the hub would. */
  function arrived(job: SimJob): void {
    const patience =
      policy === "ours" && patient
        ? matcher.patience(registry.offers(MODEL), wishOf(job), (id) => waitingFor.get(id)?.size ?? 0)
        : null;
    if (!patience) return tryStart(job, job.atMs);
    const { nodeId, waitMs } = patience;
    const waiting = waitingFor.get(nodeId) ?? new Set();
    waitingFor.set(nodeId, waiting.add(job));
    events.after(waitMs, () => waiting.delete(job) && tryStart(job, job.atMs));
  }

  /** A slot came free: whoever waits for this node alone goes first, as in the hub's queue. */
  function freed(nodeId: string): void {
    const waiting = waitingFor.get(nodeId);
    const [next] = waiting ?? [];
    const [oldest] = retrying;
    if (!next || (oldest && events.nowMs - oldest.atMs > PINNED_FIRST_MS)) return;
    waiting!.delete(next);
    const own = registry.offers(MODEL).filter(({ node }) => node.nodeId === nodeId);
    tryStart(next, next.atMs, own);
  }

  function tryStart(job: SimJob, arrivedAtMs: number, among?: readonly Offer[]): void {
    const result = choose(registry.offers(MODEL), wishOf(job), among);
    const release = result.type === "matched" ? registry.takeSlot(result.offer) : null;
    if (result.type !== "matched" || !release) {
      retrying.add(job);
      events.after(RETRY_MS, () => tryStart(job, arrivedAtMs));
      return;
    }
    retrying.delete(job);
    const { offer } = result;
    const node = nodes.get(offer.node.nodeId)!;
    const beganAtMs = events.nowMs;
    const end = matcher.began(offer, job.outputTokens);
    const ttftMs = firstTokenMs(node, job, offer.node.running);
    const durationMs = ttftMs + (job.outputTokens / node.tokensPerS) * 1000;
    events.after(durationMs, () => {
      release();
      freed(node.id);
      end({ ok: true, ttftMs, durationMs, outputTokens: job.outputTokens });
      const costMicro = priceOf(node, job);
      const finished = { node, beganAtMs, durationMs, ttftMs: beganAtMs + ttftMs - arrivedAtMs, costMicro };
      ends.push(finished);
      onEnd?.(finished);
      job.ended?.(finished);
    });
  }

  /** Prompts are read one after another, so that a node that is busy begins later. */
  function firstTokenMs(node: SimNode, job: SimJob, running: number): number {
    const known = cached.get(node.id) ?? new Set();
    cached.set(node.id, known);
    const warm = job.prefixes?.findLast(({ hash }) => known.has(hash))?.tokens ?? 0;
    for (const { hash } of job.prefixes ?? []) known.add(hash);
    const prefillMs = (Math.max(0, job.inputTokens - warm) / PREFILL_TOKENS_PER_S) * 1000;
    const noise = 0.8 + 0.4 * random.next();
    return (node.ttftMs * noise + prefillMs) * (1 + (running - 1) / node.slots);
  }

  return {
    events,
    ends,
    nodes,
    join(node) {
      nodes.set(node.id, node);
      registry.add(entryOf(node));
    },
    arrive: (job) => events.after(job.atMs - events.nowMs, () => arrived(job)),
  };
}

const wishOf = ({ inputTokens, outputTokens, prefixes }: SimJob): Wish => ({
  model: MODEL,
  consumerId: "consumer",
  needs: ["chat"],
  contextTokensMin: inputTokens,
  inputTokens,
  outputTokens,
  excluded: new Set(),
  prefixes,
});

export const priceOf = ({ perMillionOutput }: SimNode, { inputTokens, outputTokens }: SimJob): number =>
  (perMillionOutput * outputTokens + (perMillionOutput / 10) * inputTokens) / 1e6;

function entryOf({ id, owner, block, slots, perMillionOutput }: SimNode) {
  return {
    nodeId: id,
    ownerId: owner,
    agentVersion: "0",
    ...(block === undefined ? {} : { addressBlock: block }),
    announcement: {
      name: id,
      gpus: [],
      slots,
      models: [
        {
          model: MODEL,
          context_length: 32_768,
          capabilities: ["chat" as const],
          slots,
          price: {
            per_request: "0",
            per_million_input: String(Math.round(perMillionOutput / 10)),
            per_million_output: String(perMillionOutput),
          },
          engine: "scripted" as const,
        },
      ],
    },
    running: 0,
    runningByModel: new Map<string, number>(),
    draining: false,
    connectedAt: new Date(0),
  };
}

/** What the policy is compared with. */
function simplePolicy(policy: Exclude<Policy, "ours">, random: Random): Matcher["choose"] {
  return (offers) => {
    let chosen: Offer | null = null;
    let least = Number.POSITIVE_INFINITY;
    let equals = 0;
    for (const offer of offers) {
      const { node } = offer;
      if (node.running >= node.announcement.slots) continue;
      const value =
        policy === "random"
          ? 0
          : policy === "cheapest"
            ? Number(offer.offer.price.per_million_output)
            : node.running / node.announcement.slots;
      if (value < least) {
        [chosen, least, equals] = [offer, value, 1];
      } else if (value === least && random.next() * ++equals < 1) chosen = offer;
    }
    return chosen ? { type: "matched", offer: chosen } : { type: "busy" };
  };
}
