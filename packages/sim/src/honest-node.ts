/** A node of the simulation that is a real agent on a scripted engine. Its engine has its bad moments; the agent has none. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Agent, Script, ScriptedFailure } from "@gfe/agent";
import { createSigner, generateKeyPair, type PriceWire, type Signer } from "@gfe/protocol";
import { joinScripted } from "./agents.ts";
import type { Random } from "./random.ts";
import type { SimNode } from "./rogue-node.ts";

const MOMENTS = { good: 80, refuses: 5, breaks: 5, hangs: 3, lies: 4, "is mute": 3 } as const;
/** What each of them says, a piece a token, no piece like another: so that a repeated or lost one shows. */
export const STORY = Array.from({ length: 20 }, (_, at) => `word-${at} `);
/** Of every node, the rogue ones too: else a name meant some of them alone, and nobody went on with another's answer. */
export const SIM_DIGEST = `sha256:${"5".repeat(64)}`;
const AWAY_MS = { min: 5, max: 150 };

export interface HonestNodeOptions {
  hubUrl: string;
  token: string;
  name: string;
  model: string;
  price: PriceWire;
  slots: number;
  random: Random;
  onBehaviour(behaviour: string): void;
}

export class HonestNode implements SimNode {
  readonly #options: HonestNodeOptions;
  readonly #signer: Signer;
  readonly #script: Script;
  #agent: Agent | null = null;
  #stopping = false;

  private constructor(options: HonestNodeOptions, signer: Signer) {
    const { random, model, slots, onBehaviour } = options;
    this.#options = options;
    this.#signer = signer;
    this.#script = {
      models: [{ name: model, slots, digest: SIM_DIGEST }],
      text: STORY,
      paceMs: random.int(0, 4),
      failure: () => {
        const moment = random.weighted(MOMENTS);
        onBehaviour(moment === "good" ? "an agent's engine is well" : `an agent's engine ${moment}`);
        return failureOf(moment, random);
      },
    };
  }

  static async join(options: HonestNodeOptions): Promise<HonestNode> {
    const node = new HonestNode(options, await createSigner(await generateKeyPair()));
    await node.#join();
    return node;
  }

  /** Leaves without a drain, and comes back after a while. */
  async bounce(): Promise<void> {
    const agent = this.#agent;
    if (!agent) return; // it is away already
    this.#agent = null;
    await agent.stop();
    await sleep(this.#options.random.int(AWAY_MS.min, AWAY_MS.max));
    if (!this.#stopping) await this.#join();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#agent?.stop();
  }

  async #join(): Promise<void> {
    const { hubUrl, token, name, price, slots } = this.#options;
    const prices = { default: price };
    this.#agent = await joinScripted(this.#script, {
      ...{ hubUrl, token, name, prices, slots, signer: this.#signer },
    });
  }
}

function failureOf(moment: keyof typeof MOMENTS, random: Random): ScriptedFailure | undefined {
  switch (moment) {
    case "good":
      return undefined;
    case "refuses":
      return { type: "refuse", code: random.pick(["engine_error", "busy", "unsupported"]), message: "no" };
    case "breaks":
      return { type: "break", afterDeltas: random.int(0, 10) };
    case "hangs":
      return { type: "hang", afterDeltas: random.int(0, 10) };
    case "lies":
      return { type: "lie", usage: { inputTokens: 1_000_000, outputTokens: 1_000_000 } };
    case "is mute":
      return { type: "mute" };
  }
}
