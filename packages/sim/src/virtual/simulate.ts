/**
 * The whole hub, its ledger on PostgreSQL and its nodes in one process, on a virtual clock and a network that the seed
 * draws. One event after another; the same seed gives the same events. See docs/simulation.md.
 */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { createLedger } from "@gfe/ledger";
import { type KeyPair, newId, type PriceWire, toBase64Url } from "@gfe/protocol";
import {
  createBooks,
  type HubCore,
  type JobSink,
  type Jobs,
  startHubCore,
} from "../../../hub/src/testing/hub-core.ts";
import { createRandom, type Random } from "../random.ts";
import { auditProblems } from "../world.ts";
import { Auditor, requestProblems } from "./auditor.ts";
import { call, type Plan, planOf } from "./caller.ts";
import { enterChaos } from "./chaos.ts";
import { Clock, installClock, Owner, START_MS } from "./clock.ts";
import type { Database, DatabaseFaults } from "./database.ts";
import { HonestNode } from "./honest.ts";
import { Network, Place } from "./network.ts";
import { type Plant, plantInJobs, plantInLedger } from "./plants.ts";
import { Records } from "./records.ts";
import { Rogue } from "./rogue.ts";
import { MODELS, type NodeSpec, type SimNode, type Stage } from "./stage.ts";

const CONSUMERS = 5;
const CREDIT = 1_000_000;
/** What may still run when the last request was answered: settlements that wait, nodes that are slow to stop. */
const IDLE_WITHIN_MS = 120_000;
/** After the last request that is entered, each must have its end by then. */
const ANSWERED_WITHIN_MS = 300_000;
/** A hold is given back by then, whoever forgot it. */
const EXPIRED_WITHIN_MS = 15 * 60_000;
const STEPS_MAX = 2_000_000;

export interface SimulateOptions {
  seed: number;
  jobs: number;
  database: Database;
  trace?: (line: string) => void;
  plant?: Plant;
}

export interface Report {
  seed: number;
  jobs: number;
  steps: number;
  /** Steps after which the ledger was audited. */
  audits: number;
  virtualMs: number;
  /** Of the log of events. */
  digest: string;
  outcomes: Record<string, number>;
  happened: Record<string, number>;
  states: Record<string, number>;
  violations: string[];
  /** The last lines of the log, where something is wrong. */
  last: string[];
}

export async function simulate({ seed, jobs, database, trace, plant }: SimulateOptions): Promise<Report> {
  const random = createRandom(seed);
  const ids = random.fork();
  const clock = new Clock();
  const uninstall = installClock(clock, () => ids.next());
  const broke: string[] = [];
  const onBroken = (error: unknown) =>
    void broke.push(`something threw: ${error instanceof Error ? error.stack : String(error)}`);
  process.on("unhandledRejection", onBroken);
  process.on("uncaughtException", onBroken);
  try {
    await database.reset();
    drawFreshIds(ids);
    const simulation = new Simulation({ random, clock, database, plant, trace });
    return await simulation.run(seed, jobs, broke);
  } finally {
    uninstall();
    process.off("unhandledRejection", onBroken);
    process.off("uncaughtException", onBroken);
  }
}

/** Ids are drawn from a store that outlives a run: used up, so that each run begins with its own. */
function drawFreshIds(ids: Random): void {
  let drawn = 0;
  const { next } = ids;
  ids.next = () => {
    drawn++;
    return next();
  };
  while (drawn === 0) newId("spent");
  ids.next = next;
}

interface Setting {
  random: Random;
  clock: Clock;
  database: Database;
  plant: Plant | undefined;
  trace: ((line: string) => void) | undefined;
}

class Simulation {
  readonly #setting: Setting;
  readonly #stage: Stage;
  readonly #auditor: Auditor;
  readonly #faults: DatabaseFaults = { refused: 0, unanswered: 0, away: false };
  readonly #nodes: SimNode[] = [];
  #hub: { owner: Owner; core: HubCore | null } = { owner: new Owner("hub"), core: null };
  #audits = 0;

  constructor(setting: Setting) {
    const { clock, random, database, trace } = setting;
    this.#setting = setting;
    const records = new Records(clock, trace);
    this.#stage = { clock, records, network: new Network(clock, random.fork()) };
    this.#auditor = new Auditor(database.admin, records);
  }

  async run(seed: number, jobs: number, broke: string[]): Promise<Report> {
    const { clock, random } = this.#setting;
    const { records } = this.#stage;
    const consumers = Array.from({ length: CONSUMERS }, (_, i) => ({ user: `consumer${i}`, key: `key${i}` }));
    const specs = this.#nodeSpecs(random.fork());
    await this.#openAccounts(
      [...consumers.map(({ user }) => user), ...specs.map(({ provider }) => provider)],
      random.fork(),
    );
    this.#makeHubStarter(random.fork());
    this.#startHub(1);
    const attempts: string[] = [];
    for (const spec of specs) {
      const node = spec.name.startsWith("rogue")
        ? new Rogue(this.#stage, spec, attempts)
        : new HonestNode(this.#stage, spec);
      this.#nodes.push(node);
      node.start();
    }
    const spanMs = random.int(5_000, 60_000);
    const callers = Array.from({ length: 3 }, (_, i) => new Place(`street${i}`, latencyOf(random)));
    const planner = random.fork();
    const plans = Array.from({ length: jobs }, () =>
      planOf(planner, 1_000 + planner.int(0, spanMs), consumers, MODELS),
    );
    for (const plan of plans) this.#enter(plan, planner.pick(callers));
    enterChaos(
      {
        ...this.#stage,
        random: random.fork(),
        nodes: this.#nodes,
        places: [...callers, ...this.#nodes.map(({ place }) => place)],
        faults: this.#faults,
        crashHub: () => this.#crashHub(),
      },
      random.chance(0.1) ? 0 : random.int(1, 14),
      spanMs,
    );
    const violations = await this.#play(spanMs, broke);
    if (violations.length === 0) violations.push(...(await this.#atTheEnd()));
    for (const violation of violations) records.note(`VIOLATION ${violation}`);
    return {
      ...{ seed, jobs, violations, steps: clock.steps, audits: this.#audits },
      virtualMs: Math.round(clock.nowMs - START_MS),
      digest: records.digest(),
      outcomes: counted(records.requests.map(({ answer }) => answer?.outcome ?? "none")),
      happened: Object.fromEntries([...records.happened].sort()),
      states: counted([...this.#auditor.jobs.values()].map(({ state }) => state)),
      last: violations.length > 0 ? records.last() : [],
    };
  }

  /** Until all is over, or something is wrong. */
  async #play(spanMs: number, broke: string[]): Promise<string[]> {
    const { clock } = this.#setting;
    const { records } = this.#stage;
    const answered = () => records.requests.every(({ answer }) => answer !== null);
    const idle = () =>
      answered() && Object.values(this.#hub.core?.busy() ?? { starting: 1 }).every((count) => count === 0);
    const openUntil = START_MS + spanMs + ANSWERED_WITHIN_MS;
    const wrong =
      (await this.#stepUntil(answered, openUntil, broke)) ??
      (await this.#stepUntil(idle, clock.nowMs + IDLE_WITHIN_MS, broke));
    if (wrong) return wrong;
    if (!answered() || !idle()) return [];
    for (const node of this.#nodes) node.crash(true);
    return (
      (await this.#stepUntil(
        () => this.#auditor.openHolds() === 0,
        clock.nowMs + EXPIRED_WITHIN_MS,
        broke,
      )) ?? []
    );
  }

  /** Null where it came to be, or the time is over. */
  async #stepUntil(isSo: () => boolean, untilMs: number, broke: string[]): Promise<string[] | null> {
    const { clock, database } = this.#setting;
    for (; !isSo(); ) {
      if (clock.steps > STEPS_MAX) return [`it goes on for more than ${STEPS_MAX} steps`];
      if (!(await clock.step(untilMs))) return null;
      if (broke.length > 0) return broke;
      if (database.takeWrites() === 0) continue;
      this.#audits++;
      const problems = await this.#auditor.check();
      if (problems.length > 0) return problems;
    }
    return null;
  }

  async #atTheEnd(): Promise<string[]> {
    const { admin } = this.#setting.database;
    const problems = this.#stage.records.requests.flatMap((request) =>
      requestProblems(request, this.#auditor.jobs),
    );
    for (const [what, count] of Object.entries(this.#hub.core?.busy() ?? { "a hub that starts": 1 }))
      if (count !== 0) problems.push(`at the end there are ${count} ${what}`);
    if (this.#auditor.openHolds() > 0)
      problems.push(`${this.#auditor.openHolds()} holds are open after they expired`);
    problems.push(...(await auditProblems(admin, createLedger({ pool: admin }))));
    return problems;
  }

  #enter(plan: Plan, place: Place): void {
    const { records } = this.#stage;
    const record = {
      n: records.requests.length,
      consumer: plan.consumer,
      whole: !plan.stream,
      inputTokensMax: plan.promptLength + 200,
      outputTokensMax: plan.maxTokens,
      jobIds: new Set<string>(),
      ...{ relayed: "", speeches: [], answer: null },
    };
    records.requests.push(record);
    call(this.#stage, place, plan, record);
  }

  #makeHubStarter(random: Random): void {
    const { clock, database, plant } = this.#setting;
    const { network, records } = this.#stage;
    const keys = keyPairOf(random);
    const limits = {
      queueWaitMs: random.int(1_000, 10_000),
      batchWaitMs: 20_000,
      firstTokenMs: random.int(1_000, 4_000),
      stallMs: random.int(1_000, 4_000),
      totalMs: random.int(5_000, 30_000),
      receiptMs: 2_000,
    };
    const latencyMs = { min: 0.1, max: random.pick([1, 10, 300]) };
    const small = random.chance(0.2) ? { total: 6, perModel: 4 } : { total: 1_000, perModel: 500 };
    this.#startHub = (life) => {
      const owner = new Owner(`hub/${life}`);
      this.#hub = { owner, core: null };
      clock.after(
        0,
        () => {
          records.note("starts");
          startHubCore({
            pool: database.pool({ clock, random: random.fork(), latencyMs, faults: this.#faults }),
            ...{ keys, limits, hubId: "hub_1", nowMs: () => clock.nowMs, random: random.fork().next },
            bounds: small,
            feeBasisPoints: 700,
            agentOf: (token) => ({ userId: token.replace("token-", ""), tokenId: token }),
            payerOf: (authorization) => this.#payerOf(authorization),
            wrapLedger: (ledger) => plantInLedger(plant, ledger),
            wrapJobs: (own) => this.#watched(plantInJobs(plant, own)),
          }).then(
            (core) => {
              records.note("serves");
              this.#hub.core = core;
              network.listen(owner, (end) => core.server.emit("connection", end));
            },
            (error: unknown) => {
              records.note(`could not start: ${String(error)}`);
              owner.alive = false;
              clock.after(1_000, () => this.#startHub(life + 1), new Owner("supervisor"));
            },
          );
        },
        owner,
      );
    };
    this.#downMs = () => random.int(10, 2_500);
    this.#lives = 1;
  }

  #startHub: (life: number) => void = () => {};
  #downMs: () => number = () => 0;
  #lives = 0;

  #crashHub(): void {
    const { owner, core } = this.#hub;
    if (!owner.alive || !core) return;
    owner.alive = false;
    this.#stage.network.died(owner);
    this.#lives += 100;
    const life = this.#lives;
    this.#setting.clock.after(this.#downMs(), () => this.#startHub(life), new Owner("supervisor"));
  }

  #payerOf(authorization: string) {
    const n = authorization.replace("Bearer key", "");
    return {
      userId: `consumer${n}`,
      account: `user:consumer${n}`,
      keyId: `key${n}`,
      ...(n === "1" ? { budgetAccount: "key:key1" } : {}),
    };
  }

  /** The same jobs, and on the record what they hand to their callers. */
  #watched(jobs: Jobs): Jobs {
    const { records } = this.#stage;
    const { owner } = this.#hub;
    return {
      ...jobs,
      run(request, sink, signal, flow) {
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
        return jobs.run(request, watched, signal, flow).then((outcome) => {
          records.note(`${outcome.jobId} ${outcome.state} ${outcome.error?.code ?? ""} ${outcome.costMicro}`);
          return outcome;
        });
      },
    };
  }

  #nodeSpecs(random: Random): NodeSpec[] {
    const honest = random.int(1, 5);
    const rogues = random.int(0, 3);
    return Array.from({ length: honest + rogues }, (_, i) => {
      const name = i < honest ? `agent${i}` : `rogue${i}`;
      return {
        name,
        provider: `provider${i}`,
        token: `token-provider${i}`,
        model: MODELS[i % MODELS.length]!,
        price: priceOf(random),
        slots: random.int(1, 4),
        place: new Place(name, latencyOf(random)),
        keys: keyPairOf(random),
        random: random.fork(),
      };
    });
  }

  async #openAccounts(users: readonly string[], random: Random): Promise<void> {
    const { admin } = this.#setting.database;
    const books = await createBooks(createLedger({ pool: admin }));
    for (const [index, user] of users.entries()) {
      const most = index === 0 ? 20 : 2_000;
      const credits = user.startsWith("consumer") ? random.int(0, most * CREDIT) : 0;
      await books.grantSignup(user, BigInt(credits));
    }
    await books.setBudget("key1", BigInt(random.int(1, 300 * CREDIT)));
  }
}

function latencyOf(random: Random): { min: number; max: number } {
  const min = random.pick([0.2, 5, 60]);
  return { min, max: min * random.pick([1.1, 3, 20]) };
}

/** From free to dear, and odd enough that every rounding shows. */
function priceOf(random: Random): PriceWire {
  return {
    per_request: String(random.chance(0.5) ? 0 : random.int(1, 3_000_001)),
    per_million_input: String(random.chance(0.5) ? 0 : random.int(1, 7_777_777_777)),
    per_million_output: String(random.chance(0.1) ? 0 : random.int(1, 333_333_333_333)),
    ...(random.chance(0.3) ? { minimum: String(random.int(1, 2_000_000)) } : {}),
  };
}

/** What PKCS#8 puts before the 32 bytes of an Ed25519 key. */
const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

function keyPairOf(random: Random): KeyPair {
  const secret = Uint8Array.from({ length: 32 }, () => random.int(0, 255));
  const pkcs8 = Buffer.concat([PKCS8_HEAD, secret]);
  const { x } = createPublicKey(createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })).export({
    format: "jwk",
  });
  return { publicKey: x!, privateKey: toBase64Url(pkcs8) };
}

const counted = (names: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
};
