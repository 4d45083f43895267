/** A node that speaks the frames by hand and draws for each attempt what it does: now and then what is asked, mostly not. */
import { type AttemptStart, createSigner, LINK_LIMITS, type SignedReceipt } from "@gfe/protocol";
import { RogueAgent } from "../rogue-agent.ts";
import { Owner } from "./clock.ts";
import type { Place } from "./network.ts";
import { nextPiece, type Speech } from "./records.ts";
import { MODEL_DIGEST, type NodeSpec, type SimNode, type Stage } from "./stage.ts";

const LIES = {
  honest: 30,
  "claims too much": 8,
  "forges its receipt": 6,
  "signs another attempt's receipt": 5,
  "ends twice": 6,
  "speaks after its end": 5,
  "says more than asked": 4,
  "never ends": 3,
  "says nothing and claims": 5,
  "fails before it speaks": 5,
  "fails while it speaks": 5,
  "dies while it speaks": 4,
  "never begins": 4,
  "sends rubbish": 5,
  "ends others' attempts": 6,
  "does not stop": 4,
  "fails and claims": 4,
  "refuses as busy": 6,
} as const;

/** Between two pieces of an answer without an end. */
const ENDLESS_MS = 150;
const REJOIN_MS = { min: 20, max: 2_000 };

export class Rogue implements SimNode {
  readonly place: Place;
  readonly #stage: Stage;
  readonly #spec: NodeSpec;
  /** Attempts of all rogues: what a thief may try. */
  readonly #attempts: string[];
  readonly #cancelled = new Set<string>();
  #owner: Owner;
  #life = 0;

  constructor(stage: Stage, spec: NodeSpec, attempts: string[]) {
    this.#stage = stage;
    this.#spec = spec;
    this.#attempts = attempts;
    this.place = spec.place;
    this.#owner = new Owner(spec.name);
  }

  start(): void {
    const owner = new Owner(`${this.#spec.name}/${++this.#life}`);
    this.#owner = owner;
    this.#stage.clock.after(0, () => void this.#stay(), owner);
  }

  crash(quietly = false): void {
    if (!this.#owner.alive) return;
    if (!quietly) this.#stage.records.happen("a rogue was killed");
    this.#owner.alive = false;
    this.#stage.network.died(this.#owner);
  }

  async #stay(): Promise<void> {
    const { clock, records } = this.#stage;
    const { random } = this.#spec;
    for (;;) {
      const agent = await this.#join().catch(() => null);
      if (agent) {
        records.note(`joined as ${agent.nodeId}`);
        // Some say nothing for so long that they are taken for gone.
        const isSilent = random.chance(0.15);
        const beating = setInterval(() => {
          if (!isSilent) agent.send({ type: "heartbeat", sent_at_ms: clock.nowMs, running: 0 });
        }, LINK_LIMITS.heartbeatMs);
        const { code } = await agent.closed;
        clearInterval(beating);
        records.note(`closed with ${code}`);
      }
      await clock.sleep(random.int(REJOIN_MS.min, REJOIN_MS.max));
    }
  }

  async #join(): Promise<RogueAgent> {
    const { token, name, model, price, slots, keys, place } = this.#spec;
    return RogueAgent.join({
      ...{ hubUrl: "http://127.0.0.1", token, name, model, price, slots, digest: MODEL_DIGEST },
      capabilities: ["continuation"],
      signer: await createSigner(keys),
      connect: () => this.#stage.network.connect(place),
      onStart: (start, agent) => {
        this.#attempts.push(start.attempt);
        void this.#serve(start, agent).catch(() => {}); // its socket was closed under it
      },
      onFrame: (frame) => {
        if (frame.type === "attempt.cancel") this.#cancelled.add(frame.attempt);
      },
    });
  }

  async #serve(start: AttemptStart, agent: RogueAgent): Promise<void> {
    const { records, clock } = this.#stage;
    const { random, name, provider, price } = this.#spec;
    const lie = random.weighted(LIES);
    if (lie !== "honest") records.happen(`a rogue ${lie}`);
    const asked = Number(start.body.max_tokens ?? 16);
    const words = random.int(1, Math.max(1, Math.min(asked, 20)));
    const claim = random.int(words, words * 100_000);
    await clock.sleep(random.int(0, 200));
    switch (lie) {
      case "fails before it speaks":
        return agent.fail(start);
      case "refuses as busy":
        return agent.fail(start, "busy");
      case "says nothing and claims":
        return agent.done(start, claim, 9_000_000);
      case "never begins":
        return;
      case "sends rubbish":
        this.#rubbish(agent);
        break;
      case "ends others' attempts":
        await this.#steal(agent);
        break;
    }
    const speech = records.speech({ name, provider, price, body: start.body, isHonest: false });
    const isDeaf = lie === "does not stop" || lie === "never ends";
    const count =
      lie === "never ends" ? Number.POSITIVE_INFINITY : lie === "says more than asked" ? asked * 2 : words;
    const saidAll = await this.#say(
      start,
      agent,
      speech,
      count,
      isDeaf,
      lie === "never ends" ? ENDLESS_MS : random.int(0, 40),
    );
    if (!saidAll) {
      const receipt = random.chance(0.7) ? { receipt: await agent.receipt(start.attempt, claim) } : {};
      const code = "cancelled" as const;
      return agent.send({ type: "attempt.failed", attempt: start.attempt, code, message: "", ...receipt });
    }
    switch (lie) {
      case "fails while it speaks":
        return agent.fail(start);
      case "fails and claims": {
        const receipt = await agent.receipt(start.attempt, claim, 9_000_000);
        const code = "engine_error" as const;
        return agent.send({ type: "attempt.failed", attempt: start.attempt, code, message: "", receipt });
      }
      case "dies while it speaks":
        return agent.die();
      case "claims too much":
        return agent.done(start, claim, random.int(1, 9_000_000));
      case "forges its receipt":
        return this.#end(start, agent, tampered(await agent.receipt(start.attempt, words)));
      case "signs another attempt's receipt":
        return this.#end(start, agent, await agent.receipt(random.pick(this.#attempts), claim));
      case "ends twice":
        await agent.done(start, words);
        await clock.sleep(random.int(0, 30));
        if (random.chance(0.5)) agent.fail(start);
        return agent.done(start, claim);
      case "speaks after its end":
        await agent.done(start, words);
        await clock.sleep(random.int(0, 30));
        return agent.text(start.channel, nextPiece(speech));
      default:
        return agent.done(start, words, 5);
    }
  }

  /** False where it was cancelled meanwhile, and minds. */
  async #say(
    start: AttemptStart,
    agent: RogueAgent,
    speech: Speech,
    count: number,
    isDeaf: boolean,
    paceMs: number,
  ): Promise<boolean> {
    let open = true;
    void agent.closed.then(() => {
      open = false;
    });
    for (let word = 0; word < count; word++) {
      if (word > 0) await this.#stage.clock.sleep(paceMs);
      if (!open) return true;
      if (this.#cancelled.has(start.attempt) && !isDeaf) return false;
      // Who says what nobody asked for goes on for a while after it was told to stop.
      if (this.#cancelled.has(start.attempt) && word > 2 * Number(start.body.max_tokens ?? 16)) return true;
      agent.text(start.channel, nextPiece(speech));
    }
    return true;
  }

  #end(start: AttemptStart, agent: RogueAgent, receipt: SignedReceipt): void {
    agent.send({ type: "attempt.done", attempt: start.attempt, finish: ["stop"], receipt });
  }

  /** Sometimes enough of it to be thrown out. */
  #rubbish(agent: RogueAgent): void {
    const { random } = this.#spec;
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
    const attempt = this.#spec.random.pick(this.#attempts.slice(-20));
    const receipt = await agent.receipt(attempt, 1_000_000, 1_000_000);
    agent.send({ type: "attempt.done", attempt, finish: ["stop"], receipt });
  }
}

function tampered(signed: SignedReceipt): SignedReceipt {
  const usage = { ...signed.receipt.usage, output_tokens: signed.receipt.usage.output_tokens + 1000 };
  return { ...signed, receipt: { ...signed.receipt, usage } };
}
