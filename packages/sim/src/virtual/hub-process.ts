/** The hub as a program that is killed and started again, and what it hands to its callers on the record. */
import { createLedger } from "@gfe/ledger";
import {
  type HubCore,
  type JobLimits,
  type JobSink,
  type Jobs,
  startHubCore,
} from "../../../hub/src/testing/hub-core.ts";
import type { Random } from "../random.ts";
import { keyPairOf } from "./cast.ts";
import { Owner } from "./clock.ts";
import type { Database, DatabaseFaults } from "./database.ts";
import { type Plant, plantInJobs, plantInLedger } from "./plants.ts";
import type { Stage } from "./stage.ts";

const FEE_BASIS_POINTS = 700;
/** Between a start that failed and the next. */
const START_AGAIN_MS = 1_000;
const DOWN_MS = { min: 10, max: 2_500 };

export interface HubProcessOptions {
  stage: Stage;
  database: Database;
  faults: DatabaseFaults;
  random: Random;
  plant: Plant | undefined;
}

export class HubProcess {
  readonly #options: HubProcessOptions;
  readonly #keys;
  readonly #limits: JobLimits;
  readonly #bounds: { total: number; perModel: number };
  readonly #latencyMs: { min: number; max: number };
  /** Who starts it again. */
  readonly #supervisor = new Owner("supervisor");
  #owner = new Owner("hub");
  #core: HubCore | null = null;
  #lives = 0;

  constructor(options: HubProcessOptions) {
    const { random } = options;
    this.#options = options;
    this.#keys = keyPairOf(random);
    this.#limits = {
      queueWaitMs: random.int(1_000, 10_000),
      batchWaitMs: 20_000,
      firstTokenMs: random.int(1_000, 4_000),
      stallMs: random.int(1_000, 4_000),
      totalMs: random.int(5_000, 30_000),
      receiptMs: 2_000,
    };
    this.#latencyMs = { min: 0.1, max: random.pick([1, 10, 300]) };
    this.#bounds = random.chance(0.2) ? { total: 6, perModel: 4 } : { total: 1_000, perModel: 500 };
  }

  /** What is not at rest. */
  busy(): Record<string, number> {
    return this.#core?.busy() ?? { "hubs that start": 1 };
  }

  /** What is offered to consumers now; nothing while it is down. */
  models(): string[] {
    return this.#core?.models() ?? [];
  }

  start(): void {
    const { clock, records } = this.#options.stage;
    const owner = new Owner(`hub/${++this.#lives}`);
    this.#owner = owner;
    this.#core = null;
    clock.after(
      0,
      () => {
        records.note("starts");
        this.#serve(owner).catch((error: unknown) => {
          records.note(`could not start: ${String(error)}`);
          owner.alive = false;
          clock.after(START_AGAIN_MS, () => this.start(), this.#supervisor);
        });
      },
      owner,
    );
  }

  /** As if its process were killed; it is started again after a while, drawn unless given. */
  crash(downMs?: number): void {
    if (!this.#owner.alive || !this.#core) return;
    const { random, stage } = this.#options;
    this.#owner.alive = false;
    this.#core = null;
    stage.network.died(this.#owner);
    const drawnMs = random.int(DOWN_MS.min, DOWN_MS.max);
    stage.clock.after(downMs ?? drawnMs, () => this.start(), this.#supervisor);
  }

  async #serve(owner: Owner): Promise<void> {
    const { stage, database, faults, random, plant } = this.#options;
    const { clock, network, records } = stage;
    const pool = database.pool({ clock, random: random.fork(), latencyMs: this.#latencyMs, faults });
    const core = await startHubCore({
      pool,
      ledger: plantInLedger(plant, createLedger({ pool })),
      ...{ keys: this.#keys, limits: this.#limits, bounds: this.#bounds, hubId: "hub_1" },
      random: random.fork().next,
      feeBasisPoints: FEE_BASIS_POINTS,
      agentOf: (token) => ({ userId: token.replace("token-", ""), tokenId: token }),
      payerOf,
      wrapJobs: (own) => this.#watched(plantInJobs(plant, own), owner),
    });
    records.note("serves");
    this.#core = core;
    network.listen(owner, (end) => core.server.emit("connection", end));
  }

  /** The same jobs, and on the record what they hand to their callers. */
  #watched(jobs: Jobs, owner: Owner): Jobs {
    const { records } = this.#options.stage;
    return {
      ...jobs,
      async run(request, sink, signal, flow) {
        const record = records.requestOf(request.body);
        const watched: JobSink = {
          queued: (place) => sink.queued?.(place),
          started(info) {
            record.jobIds.add(info.jobId);
            // Who takes the whole only gets nothing of what was begun before.
            if (record.whole) record.relayed = "";
            records.note(`${info.jobId} of request ${record.n} on ${info.nodeName}`);
            sink.started?.(info);
          },
          text(text) {
            if (owner.alive) record.relayed += text;
            sink.text(text);
          },
          reasoning: (text) => sink.reasoning(text),
          choice: (delta) => sink.choice(delta),
          embeddings: (delta) => sink.embeddings(delta),
        };
        const outcome = await jobs.run(request, watched, signal, flow);
        records.note(`${outcome.jobId} ${outcome.state} ${outcome.error?.code ?? ""} ${outcome.costMicro}`);
        return outcome;
      },
    };
  }
}

/** The first consumer but one spends through a key with a budget. */
export const BUDGET_KEY = "key1";

function payerOf(authorization: string) {
  const keyId = authorization.replace("Bearer ", "");
  const userId = keyId.replace("key", "consumer");
  return {
    ...{ userId, keyId, account: `user:${userId}` },
    ...(keyId === BUDGET_KEY ? { budgetAccount: `key:${keyId}` } : {}),
  };
}
