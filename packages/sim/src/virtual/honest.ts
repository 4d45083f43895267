/** A node with the real agent, on an engine that has its bad moments. */
import {
  createMemoryFiles,
  delay,
  dialNodeSocket,
  type Engine,
  EngineGone,
  type EngineOutcome,
  type EngineUsage,
  type Host,
  startAgent,
} from "@gfe/agent";
import { createSigner } from "@gfe/protocol";
import type { Random } from "../random.ts";
import { Owner } from "./clock.ts";
import type { Place } from "./network.ts";
import { nextPiece } from "./records.ts";
import { MODEL_DIGEST, type NodeSpec, type SimNode, type Stage } from "./stage.ts";

const MOMENTS = {
  good: 70,
  "refuses the request": 2,
  "fails at once": 5,
  "breaks off": 6,
  "falls silent": 4,
  "never begins": 3,
  "counts too much": 4,
  "counts nothing": 3,
  "is gone": 2,
  "does not stop": 2,
} as const;
/** Characters of a piece of which a few fill every buffer on the way. */
const LARGE = 16_000;
const RESTART_MS = 1_000;

export class HonestNode implements SimNode {
  readonly #stage: Stage;
  readonly #spec: NodeSpec;
  readonly place: Place;
  readonly #random: Random;
  #owner: Owner;
  #life = 0;

  constructor(stage: Stage, spec: NodeSpec) {
    this.#stage = stage;
    this.#spec = spec;
    this.place = spec.place;
    this.#random = spec.random;
    this.#owner = new Owner(spec.name);
  }

  start(): void {
    const owner = new Owner(`${this.#spec.name}/${++this.#life}`);
    this.#owner = owner;
    this.#stage.clock.after(0, () => void this.#run(), owner);
  }

  crash(quietly = false): void {
    if (!this.#owner.alive) return;
    if (!quietly) this.#stage.records.happen("an agent was killed");
    this.#owner.alive = false;
    this.#stage.network.died(this.#owner);
  }

  async #run(): Promise<void> {
    const { records } = this.#stage;
    const { keys, slots, token, price, name } = this.#spec;
    try {
      const agent = await startAgent({
        host: this.#host(),
        hubUrl: "http://127.0.0.1",
        token,
        engines: [this.#engine()],
        gpus: [],
        slots,
        name,
        prices: { default: price },
        signer: await createSigner(keys),
        onEvent: (event) => {
          if (event.type === "attempt.started") records.note(`starts ${event.attempt}`);
          if (event.type === "attempt.ended")
            records.note(`ended ${event.attempt} ${event.failure ?? "done"}`);
          if (event.type === "joined") records.note(`joined as ${event.nodeId}`);
          if (event.type === "disconnected") records.note(`disconnected: ${event.reason}`);
        },
      });
      await agent.done;
    } catch (error) {
      records.note(`agent ended: ${String(error)}`);
    }
    // As a service manager does with a program that ended.
    await this.#stage.clock.sleep(RESTART_MS);
    this.start();
  }

  #host(): Host {
    const { clock, network } = this.#stage;
    const { place, random } = this.#spec;
    return {
      platform: "linux",
      runtime: { name: "simulation", version: "1.0.0", least: "1.0.0" },
      hostName: this.#spec.name,
      env: {},
      directories: { config: "/config", state: "/state" },
      files: createMemoryFiles(),
      log: { info() {}, warn() {} },
      http: () => Promise.reject(new Error("there is nothing")),
      dial: (url, options, events) =>
        dialNodeSocket(url, { ...options, connect: () => network.connect(place) }, events),
      run: async () => ({ type: "absent" }),
      serve: () => Promise.reject(new Error("there is nobody")),
      terminal: null,
      processId: 1,
      spawn: () => {
        throw new Error("nothing is started here");
      },
      helper: () => null,
      nowMs: () => clock.nowMs,
      after: (ms, callback) => clock.after(Math.max(1, ms), callback),
      soon: (callback) => void clock.after(0, callback),
      random: () => random.next(),
    };
  }

  #engine(): Engine {
    const { clock, records } = this.#stage;
    const { model, slots, name, provider, price } = this.#spec;
    const random = this.#random;
    const host: Pick<Host, "after"> = { after: (ms, run) => clock.after(ms, run) };
    const paceMs = random.int(1, 60);
    let goneUntilMs = 0;
    return {
      kind: "scripted",
      label: "virtual",
      async models() {
        if (clock.nowMs < goneUntilMs) throw new EngineGone("virtual");
        return [
          {
            ...{ name: model, slots, digest: MODEL_DIGEST, contextLength: 8192 },
            capabilities: ["chat", "completion", "continuation"],
          },
        ];
      },
      async run(attempt, sink, signal): Promise<EngineOutcome> {
        if (clock.nowMs < goneUntilMs) throw new EngineGone("virtual");
        const moment = random.weighted(MOMENTS);
        if (moment !== "good") records.happen(`an engine ${moment}`);
        const asked = Number(attempt.body.max_tokens ?? 16) - (attempt.prefix?.tokens ?? 0);
        const count = Math.max(1, Math.min(asked, random.int(1, 30)));
        const padding = random.chance(0.06) ? LARGE : random.int(0, 3);
        await delay(host, random.int(1, 300), signal);
        if (moment === "refuses the request") return failure("engine_refused");
        if (moment === "fails at once") return failure("engine_error");
        if (moment === "never begins") return silent(signal);
        if (moment === "is gone") {
          goneUntilMs = clock.nowMs + random.int(100, 20_000);
          throw new EngineGone("virtual");
        }
        const speech = records.speech({
          ...{ name, provider, price, body: attempt.body },
          isHonest: moment !== "counts too much",
        });
        const breaks =
          moment === "breaks off" || moment === "falls silent" ? random.int(0, count - 1) : count;
        for (let said = 0; said < breaks; said++) {
          if (said > 0) await delay(host, paceMs, moment === "does not stop" ? undefined : signal);
          sink.text(nextPiece(speech, padding));
          await sink.ready();
        }
        const usage = { inputTokens: 20, outputTokens: breaks };
        if (moment === "falls silent") return silent(signal);
        if (moment === "breaks off") return failure("engine_error", usage);
        const told = {
          inputTokens: random.int(20, 9_000_000),
          outputTokens: breaks * random.int(2, 1_000_000),
        };
        return {
          type: "done",
          finish: ["stop"],
          usage: moment === "counts too much" ? told : moment === "counts nothing" ? null : usage,
        };
      },
    };
  }
}

const failure = (
  code: "engine_error" | "engine_refused",
  usage: EngineUsage | null = null,
): EngineOutcome => ({
  ...{ type: "failed", code, usage },
  message: "as the seed says",
});

const silent = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
