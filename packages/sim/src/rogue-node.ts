/**
 * A node of the simulation that speaks the frames by hand. For each attempt it draws what it does: mostly what an
 * honest node would, else a fault or a lie. It comes back after each loss of its connection, as the same node.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type AttemptStart,
  createSigner,
  generateKeyPair,
  LINK_LIMITS,
  type PriceWire,
  type SignedReceipt,
  type Signer,
} from "@gfe/protocol";
import { SIM_DIGEST } from "./honest-node.ts";
import type { Random } from "./random.ts";
import { RogueAgent } from "./rogue-agent.ts";

/** How often a rogue does what, by weight. */
const BEHAVIOURS = {
  honest: 50,
  "claims too much": 6,
  "signs badly": 4,
  "ends twice": 5,
  "speaks after its end": 4,
  "says more than asked": 4,
  "says nothing": 3,
  "fails before it speaks": 6,
  "fails while it speaks": 5,
  "dies while it speaks": 4,
  "never starts": 3,
  stalls: 3,
  "sends rubbish": 4,
  "ends another's attempt": 4,
  "never stops when cancelled": 2,
} as const;
export type Behaviour = keyof typeof BEHAVIOURS;

const REJOIN_MS = { min: 5, max: 150 };
const PACE_MS_MAX = 6;
const JOIN_TRIES_MAX = 50;

export interface RogueNodeOptions {
  hubUrl: string;
  token: string;
  name: string;
  model: string;
  price: PriceWire;
  slots: number;
  random: Random;
  /** Attempts of all nodes, oldest first: what a thief may try. */
  attempts: string[];
  /** Bytes that a node said in an attempt. */
  said: Map<string, number>;
  onBehaviour(behaviour: Behaviour): void;
}

export interface SimNode {
  /** Cuts its connection; it rejoins by itself. */
  bounce(): Promise<void>;
  stop(): Promise<void>;
}

export class RogueNode implements SimNode {
  readonly #options: RogueNodeOptions;
  readonly #signer: Signer;
  #agent: RogueAgent | null = null;
  #stopping = false;
  #loop: Promise<void> = Promise.resolve();
  readonly #cancelled = new Set<string>();

  private constructor(options: RogueNodeOptions, signer: Signer) {
    this.#options = options;
    this.#signer = signer;
  }

  static async join(options: RogueNodeOptions): Promise<RogueNode> {
    const node = new RogueNode(options, await createSigner(await generateKeyPair()));
    await node.#join();
    node.#loop = node.#stay();
    return node;
  }

  async bounce(): Promise<void> {
    this.#agent?.die();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#agent?.leave();
    await this.#loop;
  }

  async #join(): Promise<void> {
    const { hubUrl, token, name, model, price, slots } = this.#options;
    this.#agent = await RogueAgent.join({
      ...{ hubUrl, token, name, model, price, slots, signer: this.#signer, digest: SIM_DIGEST },
      onStart: (start, agent) => {
        this.#options.attempts.push(start.attempt);
        this.#options.said.set(start.attempt, 0);
        void this.#serve(start, agent).catch(() => {}); // its socket was closed under it
      },
      onFrame: (frame) => {
        if (frame.type === "attempt.cancel") this.#cancelled.add(frame.attempt);
      },
    });
  }

  async #stay(): Promise<void> {
    const { random } = this.#options;
    while (!this.#stopping) {
      await this.#agent!.closed;
      for (let tries = 1; !this.#stopping; tries++) {
        await sleep(random.int(REJOIN_MS.min, REJOIN_MS.max));
        const joined = await this.#join().then(
          () => true,
          (error: unknown) => {
            if (tries >= JOIN_TRIES_MAX) throw error;
            return false;
          },
        );
        if (joined) break;
      }
    }
    this.#agent?.die();
  }

  async #serve(start: AttemptStart, agent: RogueAgent): Promise<void> {
    const { random, onBehaviour } = this.#options;
    const behaviour = random.weighted(BEHAVIOURS);
    onBehaviour(behaviour);
    const asked = Number(start.body.max_tokens ?? 16);
    const words = random.int(1, Math.max(1, asked));
    const paceMs = random.chance(0.5) ? 0 : random.int(1, PACE_MS_MAX);
    const say = (count: number) => this.#say(start, agent, count, paceMs);
    switch (behaviour) {
      case "fails before it speaks":
        return agent.fail(start, random.pick(["engine_error", "busy"]));
      case "never starts":
        return this.#untilCancelled(start, agent, 0);
      case "says nothing":
        return agent.done(start, words, 5);
      case "sends rubbish":
        this.#rubbish(agent);
        break;
      case "ends another's attempt":
        await this.#steal(agent);
        break;
    }
    const saidAll = await say(behaviour === "says more than asked" ? asked * 2 : words);
    if (!saidAll && behaviour !== "never stops when cancelled") {
      const receipt = random.chance(0.7) ? { receipt: await agent.receipt(start.attempt, words) } : {};
      agent.send({
        type: "attempt.failed",
        attempt: start.attempt,
        code: "cancelled",
        message: "",
        ...receipt,
      });
      return;
    }
    switch (behaviour) {
      case "fails while it speaks":
        return agent.fail(start);
      case "dies while it speaks":
        return agent.die();
      case "stalls":
        return this.#untilCancelled(start, agent, words);
      case "claims too much":
        return agent.done(start, words * 1000, 1_000_000);
      case "signs badly":
        return this.#end(start, agent, tampered(await agent.receipt(start.attempt, words)));
      case "ends twice":
        await agent.done(start, words);
        if (random.chance(0.5)) agent.fail(start);
        return agent.done(start, words + 1);
      case "speaks after its end":
        await agent.done(start, words);
        return agent.text(start.channel, "late");
      default:
        return agent.done(start, words);
    }
  }

  /** False where it was cancelled meanwhile. */
  async #say(start: AttemptStart, agent: RogueAgent, count: number, paceMs: number): Promise<boolean> {
    if (start.kind === "embedding") {
      const inputs = start.body.input as string[];
      agent.vectors(
        start.channel,
        inputs.map(() => "AACAPw=="),
      );
      return true;
    }
    for (let word = 0; word < count; word++) {
      if (paceMs > 0) await sleep(paceMs);
      if (this.#cancelled.has(start.attempt)) return false;
      const text = this.#options.random.pick(["w", "word ", "größer ", "一 "]);
      this.#options.said.set(start.attempt, this.#options.said.get(start.attempt)! + Buffer.byteLength(text));
      agent.text(start.channel, text);
    }
    return true;
  }

  #end(start: AttemptStart, agent: RogueAgent, receipt: SignedReceipt): void {
    agent.send({ type: "attempt.done", attempt: start.attempt, finish: ["stop"], receipt });
  }

  async #untilCancelled(start: AttemptStart, agent: RogueAgent, words: number): Promise<void> {
    await agent.frame((frame) => frame.type === "attempt.cancel" && frame.attempt === start.attempt);
    const receipt = await agent.receipt(start.attempt, words);
    agent.send({ type: "attempt.failed", attempt: start.attempt, code: "cancelled", message: "", receipt });
  }

  /** Sometimes enough of it to be thrown out. */
  #rubbish(agent: RogueAgent): void {
    const { random } = this.#options;
    const count = random.chance(0.2) ? LINK_LIMITS.malformedFrames : random.int(1, 3);
    for (let i = 0; i < count; i++)
      agent.raw(
        random.pick<string | Uint8Array>([
          "not json",
          '{"type":"attempt.done"}',
          '{"type":"announce","announcement":{"name":5}}',
          new Uint8Array([9, 9]),
          new Uint8Array([1, 255, 255, 255, 255, 0, 0, 0, 9]),
        ]),
      );
  }

  async #steal(agent: RogueAgent): Promise<void> {
    const { random, attempts } = this.#options;
    const attempt = random.pick(attempts.slice(-20));
    agent.send({
      type: "attempt.done",
      attempt,
      finish: ["stop"],
      receipt: await agent.receipt(attempt, 1_000_000, 1_000_000),
    });
  }
}

function tampered(signed: SignedReceipt): SignedReceipt {
  const usage = { ...signed.receipt.usage, output_tokens: signed.receipt.usage.output_tokens + 1000 };
  return { ...signed, receipt: { ...signed.receipt, usage } };
}
