/**
 * A provider's day: 24 hours of virtual time with real agents, the hub's own rooms and the ledger, in which the network, the
 * engines, the hub, the machines, their clocks and their disks fail. At the end of each hour all is mended, and everything must be as it
 * was at the end of the first one. See docs/simulation.md.
 */
import { createLedger } from "@gfe/ledger";
import { createBooks } from "../../../hub/src/testing/hub-core.ts";
import { createRandom, type Random } from "../random.ts";
import { auditProblems } from "../world.ts";
import { Auditor, requestProblems } from "./auditor.ts";
import { call, type Plan, planOf } from "./caller.ts";
import { keyPairOf } from "./cast.ts";
import { Clock, installClock, START_MS, settled } from "./clock.ts";
import type { Database } from "./database.ts";
import { enterDay, HOUR_MS, MENDED_BY_MS } from "./day-faults.ts";
import { DayNode } from "./day-node.ts";
import { HubProcess } from "./hub-process.ts";
import { Network, Place } from "./network.ts";
import { Records } from "./records.ts";
import { drawFreshIds } from "./simulate.ts";
import { MODELS, type NodeSpec, type Stage } from "./stage.ts";

/** After the last fault of an hour, all that the engines have is offered and served by then. */
export const SERVES_AGAIN_WITHIN_MS = 16 * 60_000;
/** Requests of an hour, beside one for each model at its end. */
const REQUESTS = { min: 4, max: 16 };
const ANSWERED_WITHIN_MS = 60_000;
const AUDIT_EVERY_MS = 5 * 60_000;
/** A connection that ends so soon after may have lost what was sent on it. */
const LOST_WITHIN_MS = 60_000;
const CREDITS = 1_000_000_000_000n;
const NODES = 2;
const CONSUMERS = 3;
const LIMITS = {
  /** Of a joined agent with nothing to do: the next look at its engines, and the next heartbeat. */
  timers: 2,
  connections: 1,
  stateBytes: 3 * 1024 * 1024,
} as const;

export interface DayOptions {
  seed: number;
  hours?: number;
  database: Database;
  trace?: (line: string) => void;
}

export interface DayReport {
  seed: number;
  hours: number;
  steps: number;
  requests: number;
  receipts: number;
  digest: string;
  outcomes: Record<string, number>;
  happened: Record<string, number>;
  /** What was at the end of each hour. */
  atRest: string[];
  violations: string[];
  last: string[];
}

export async function simulateDay({ seed, hours = 24, database, trace }: DayOptions): Promise<DayReport> {
  const random = createRandom(seed);
  const ids = random.fork();
  const clock = new Clock();
  const uninstall = installClock(clock, () => ids.next());
  const broke: string[] = [];
  const onBroken = (error: unknown) =>
    void broke.push(`something threw: ${error instanceof Error ? error.stack : String(error)}`);
  // The runtime warns of emitters and signals whose listeners only grow.
  const onWarning = (warning: Error) => {
    if (warning.name === "MaxListenersExceededWarning") broke.push(`listeners leak: ${warning.stack}`);
  };
  process.on("unhandledRejection", onBroken).on("uncaughtException", onBroken).on("warning", onWarning);
  try {
    await database.reset();
    drawFreshIds(ids);
    const day = new Day({ random, clock, database, trace, broke });
    const report = await day.run(seed, hours);
    await day.close();
    return report;
  } finally {
    uninstall();
    process.off("unhandledRejection", onBroken).off("uncaughtException", onBroken).off("warning", onWarning);
  }
}

interface Setting {
  random: Random;
  clock: Clock;
  database: Database;
  trace: ((line: string) => void) | undefined;
  broke: string[];
}

class Day {
  readonly #setting: Setting;
  readonly #stage: Stage;
  readonly #auditor: Auditor;
  readonly #hub: HubProcess;
  readonly #nodes: DayNode[];
  readonly #callers: Place[];
  readonly #keys = Array.from({ length: CONSUMERS }, (_, i) => ({ user: `consumer${i}`, key: `key${i}` }));
  readonly #atRest: string[] = [];

  constructor(setting: Setting) {
    const { clock, random, database, trace } = setting;
    this.#setting = setting;
    const records = new Records(clock, trace);
    this.#stage = { clock, records, network: new Network(clock, random.fork()) };
    this.#auditor = new Auditor(database.admin, records);
    const faults = { refused: 0, unanswered: 0, away: false };
    this.#hub = new HubProcess({
      ...{ stage: this.#stage, database, faults },
      random: random.fork(),
      plant: undefined,
    });
    this.#nodes = Array.from(
      { length: NODES },
      (_, i) => new DayNode(this.#stage, specOf(random, i), random.fork()),
    );
    this.#callers = Array.from({ length: 2 }, (_, i) => new Place(`street${i}`, { min: 10, max: 20 }));
  }

  async close(): Promise<void> {
    this.#stage.network.close();
    await settled();
  }

  async run(seed: number, hours: number): Promise<DayReport> {
    const { clock, random, database } = this.#setting;
    const { records } = this.#stage;
    const books = await createBooks(createLedger({ pool: database.admin }));
    for (const { user } of this.#keys) await books.grantSignup(user, CREDITS);
    for (const { spec } of this.#nodes) await books.grantSignup(spec.provider, 0n);
    await books.setBudget("key1", CREDITS);
    this.#hub.start();
    for (const node of this.#nodes) node.start();
    const planner = random.fork();
    for (let hour = 0; hour < hours; hour++)
      for (let left = planner.int(REQUESTS.min, REQUESTS.max); left > 0; left--) {
        const atMs = hour * HOUR_MS + planner.int(1_000, MENDED_BY_MS);
        this.#enter(planOf(planner, atMs, this.#keys, MODELS), planner.pick(this.#callers));
      }
    enterDay(
      {
        stage: this.#stage,
        random: random.fork(),
        nodes: this.#nodes,
        callers: this.#callers,
        hub: this.#hub,
      },
      hours,
    );
    const violations: string[] = [];
    for (let hour = 0; hour < hours && violations.length === 0; hour++)
      violations.push(...(await this.#hour(hour)).map((problem) => `hour ${hour + 1}: ${problem}`));
    if (violations.length === 0) violations.push(...(await this.#atTheEnd()));
    for (const violation of violations) records.note(`VIOLATION ${violation}`);
    return {
      ...{ seed, hours, violations, steps: clock.steps, requests: records.requests.length },
      receipts: this.#nodes.reduce((sum, { signed }) => sum + signed, 0),
      digest: records.digest(),
      outcomes: counted(records.requests.map(({ answer }) => answer?.outcome ?? "none")),
      happened: Object.fromEntries([...records.happened].sort()),
      atRest: this.#atRest,
      last: violations.length > 0 ? records.last() : [],
    };
  }

  /** One hour with its faults, and what is wrong at its end. */
  async #hour(hour: number): Promise<string[]> {
    const { requests } = this.#stage.records;
    const fromMs = START_MS + hour * HOUR_MS;
    const wrong = await this.#until(fromMs + MENDED_BY_MS + SERVES_AGAIN_WITHIN_MS);
    if (wrong.length > 0) return wrong;
    const problems = this.#notOffered();
    const first = requests.length;
    const random = this.#setting.random.fork();
    for (const model of MODELS) {
      const plan = planOf(random, 0, this.#keys, [model]);
      this.#enter({ ...plan, model, hangUpMs: null, readEveryMs: null }, this.#callers[0]!);
    }
    problems.push(...(await this.#until(this.#setting.clock.nowMs + ANSWERED_WITHIN_MS)));
    for (const { answer, n } of requests.slice(first))
      if (answer?.outcome !== "completed")
        problems.push(`request ${n}, with all mended, ended as ${answer?.outcome}`);
    problems.push(...(await this.#notAtRest()), ...(await this.#receiptProblems()));
    problems.push(...(await this.#until(fromMs + HOUR_MS)));
    return problems;
  }

  async #until(untilMs: number): Promise<string[]> {
    const { clock, broke, database } = this.#setting;
    let auditedMs = clock.nowMs;
    while (await clock.step(untilMs)) {
      if (broke.length > 0) return broke;
      if (clock.nowMs - auditedMs < AUDIT_EVERY_MS || database.takeWrites() === 0) continue;
      auditedMs = clock.nowMs;
      const problems = await this.#auditor.check();
      if (problems.length > 0) return problems;
    }
    clock.nowMs = untilMs;
    return this.#auditor.check();
  }

  #awake(): DayNode[] {
    return this.#nodes.filter(({ machine }) => !machine.isAsleep);
  }

  #notOffered(): string[] {
    const problems: string[] = [];
    for (const { agent, isJoined, spec } of this.#awake()) {
      const names = agent?.offers.map(({ model }) => model).sort();
      if (!isJoined) problems.push(`${spec.name} has not joined`);
      if (names?.join() !== [...MODELS].sort().join())
        problems.push(`${spec.name} offers ${names?.join() || "nothing"}`);
      for (const { model, reason } of agent?.withdrawals ?? [])
        problems.push(`${spec.name} keeps ${model} back: ${reason}`);
    }
    const offered = this.#hub.models().sort().join();
    if (offered !== [...MODELS].sort().join()) problems.push(`the hub knows of ${offered || "no model"}`);
    return problems;
  }

  async #notAtRest(): Promise<string[]> {
    const problems: string[] = [];
    const { network } = this.#stage;
    for (const { agent, engines, machine, spec, place } of this.#awake()) {
      const counts = {
        timers: machine.timers,
        connections: network.openOf(place),
        stateBytes: await machine.bytesIn("/state"),
      };
      for (const [what, most] of Object.entries(LIMITS))
        if (counts[what as keyof typeof counts] > most)
          problems.push(
            `${spec.name} at rest has ${counts[what as keyof typeof counts]} ${what}, ${most} at most`,
          );
      if (agent?.running !== 0) problems.push(`${spec.name} runs ${agent?.running} attempts`);
      const busy = engines.reduce((sum, { running }) => sum + running, 0);
      if (busy > 0)
        problems.push(`${busy} requests run in engines of ${spec.name} and nobody waits for them`);
      this.#atRest.push(`${spec.name}: ${counts.timers} timers, ${counts.connections} connections`);
    }
    for (const [what, count] of Object.entries(this.#hub.busy()))
      if (count !== 0) problems.push(`with nothing to do there are ${count} ${what}`);
    return problems;
  }

  /** Each attempt that is done has its receipt, and each receipt that was sent on a connection that held was kept. */
  async #receiptProblems(): Promise<string[]> {
    const { rows } = await this.#setting.database.admin.query<{
      id: string;
      state: string;
      receipt: unknown;
    }>("SELECT id, state, receipt FROM attempts");
    const kept = new Map(rows.map((row) => [row.id, row]));
    const problems = rows
      .filter(({ state, receipt }) => state === "completed" && !receipt)
      .map(({ id }) => `${id} is done without a receipt`);
    for (const { told, lostAtMs, spec } of this.#nodes)
      for (const { attempt, atMs, failure } of told.splice(0)) {
        const isLost = lostAtMs.some((lostMs) => lostMs >= atMs && lostMs - atMs < LOST_WITHIN_MS);
        if (failure !== null || isLost) continue;
        if (!kept.get(attempt)?.receipt) problems.push(`the receipt of ${attempt} by ${spec.name} is lost`);
      }
    return problems;
  }

  async #atTheEnd(): Promise<string[]> {
    const { admin } = this.#setting.database;
    return [
      ...this.#stage.records.requests.flatMap((request) => requestProblems(request, this.#auditor.jobs)),
      ...this.#nodes.flatMap(({ faults, spec }) => faults.map((fault) => `${spec.name} gave up: ${fault}`)),
      ...(this.#auditor.openHolds() > 0 ? [`${this.#auditor.openHolds()} holds are open`] : []),
      ...(await auditProblems(admin, createLedger({ pool: admin }))),
    ];
  }

  #enter(plan: Plan, place: Place): void {
    const { records } = this.#stage;
    const record = {
      ...{ n: records.requests.length, consumer: plan.consumer, whole: !plan.stream },
      ...{ inputTokensMax: plan.promptLength + 200, outputTokensMax: plan.maxTokens },
      ...{ jobIds: new Set<string>(), relayed: "", speeches: [], answer: null },
    };
    records.requests.push(record);
    call(this.#stage, place, plan, record);
  }
}

function specOf(random: Random, i: number): NodeSpec {
  const name = `agent${i}`;
  return {
    ...{ name, provider: `provider${i}`, token: `token-provider${i}`, model: MODELS[0], slots: 4 },
    price: { per_request: "10", per_million_input: "1000000", per_million_output: "3000000" },
    place: new Place(name, { min: 10, max: 20 }),
    keys: keyPairOf(random),
    random: random.fork(),
  };
}

const counted = (names: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
};
