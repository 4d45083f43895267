/**
 * The whole hub, its ledger on PostgreSQL and its nodes in one process, on a virtual clock and a network that the seed
 * draws. One event after another; the same seed gives the same events. See docs/simulation.md.
 */
import { createLedger } from "@gfe/ledger";
import { newId } from "@gfe/protocol";
import { createBooks } from "../../../hub/src/testing/hub-core.ts";
import { createRandom, type Random } from "../random.ts";
import { auditProblems } from "../world.ts";
import { Auditor, requestProblems } from "./auditor.ts";
import { call, type Plan, planOf } from "./caller.ts";
import { latencyOf, nodeSpecs } from "./cast.ts";
import { enterChaos } from "./chaos.ts";
import { Clock, installClock, START_MS, settled } from "./clock.ts";
import type { Database, DatabaseFaults } from "./database.ts";
import { HonestNode } from "./honest.ts";
import { BUDGET_KEY, HubProcess } from "./hub-process.ts";
import { Network, Place } from "./network.ts";
import type { Plant } from "./plants.ts";
import { Records } from "./records.ts";
import { Rogue } from "./rogue.ts";
import { MODELS, type SimNode, type Stage } from "./stage.ts";

const CONSUMERS = 5;
const CREDIT = 1_000_000;
/** What may still run when the last request was answered: holds that may turn up late are looked for that long. */
const IDLE_WITHIN_MS = 180_000;
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
    const report = await simulation.run(seed, jobs, broke);
    await simulation.close();
    return report;
  } finally {
    uninstall();
    process.off("unhandledRejection", onBroken);
    process.off("uncaughtException", onBroken);
  }
}

/** Ids are drawn from a store that outlives a run: used up, so that each run begins with its own. */
export function drawFreshIds(ids: Random): void {
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
  readonly #hub: HubProcess;
  #audits = 0;

  constructor(setting: Setting) {
    const { clock, random, database, trace } = setting;
    this.#setting = setting;
    const records = new Records(clock, trace);
    this.#stage = { clock, records, network: new Network(clock, random.fork()) };
    this.#auditor = new Auditor(database.admin, records);
    const { plant } = setting;
    this.#hub = new HubProcess({
      stage: this.#stage,
      database,
      faults: this.#faults,
      random: random.fork(),
      plant,
    });
  }

  /** Nothing happens any more. */
  async close(): Promise<void> {
    this.#stage.network.close();
    await settled();
  }

  async run(seed: number, jobs: number, broke: string[]): Promise<Report> {
    const { clock, random } = this.#setting;
    const { records } = this.#stage;
    const consumers = Array.from({ length: CONSUMERS }, (_, i) => ({ user: `consumer${i}`, key: `key${i}` }));
    const specs = nodeSpecs(random.fork());
    await this.#openAccounts(
      [...consumers.map(({ user }) => user), ...specs.map(({ provider }) => provider)],
      random.fork(),
    );
    this.#hub.start();
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
        crashHub: () => this.#hub.crash(),
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
    const idle = () => answered() && Object.values(this.#hub.busy()).every((count) => count === 0);
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
    for (const [what, count] of Object.entries(this.#hub.busy()))
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

  async #openAccounts(users: readonly string[], random: Random): Promise<void> {
    const { admin } = this.#setting.database;
    const books = await createBooks(createLedger({ pool: admin }));
    for (const [index, user] of users.entries()) {
      const most = index === 0 ? 20 : 2_000;
      const credits = user.startsWith("consumer") ? random.int(0, most * CREDIT) : 0;
      await books.grantSignup(user, BigInt(credits));
    }
    await books.setBudget(BUDGET_KEY, BigInt(random.int(1, 300 * CREDIT)));
  }
}

const counted = (names: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
};
