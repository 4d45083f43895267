/**
 * What a hub does with jobs, nodes and credits, wired as hub.ts wires it, on a database and a network that are given: for
 * simulations. Without accounts, dashboards and deferred work.
 */
import type { Server } from "node:http";
import type { Ledger } from "@gfe/ledger";
import { createSigner, type KeyPair } from "@gfe/protocol";
import type pg from "pg";
import pino from "pino";
import { createBilling } from "../billing/billing.ts";
import { createBooks } from "../billing/books.ts";
import { databaseClock } from "../db/clock.ts";
import { registerInference } from "../http/inference/routes.ts";
import { createServer } from "../http/server.ts";
import { createJobs, type JobLimits } from "../jobs/jobs.ts";
import { createSlotQueue } from "../jobs/slot-queue.ts";
import { wishOf } from "../jobs/terms.ts";
import type { Jobs, Payer } from "../jobs/types.ts";
import { expireHolds, resolveLeftovers } from "../leftovers.ts";
import { type AgentPrincipal, createLink } from "../link/link.ts";
import { explain } from "../market/explain.ts";
import { createMatcher } from "../market/matcher.ts";
import { createRegistry } from "../market/registry.ts";
import { createReturns } from "../market/returns.ts";
import { modelKey } from "../trust/attempt-facts.ts";
import { createReputation } from "../trust/reputation.ts";

export { createBooks } from "../billing/books.ts";
export { ownMigrations } from "../db/migrate.ts";
export type { JobLimits } from "../jobs/jobs.ts";
export type { JobSink, Jobs } from "../jobs/types.ts";

const EXPIRY_INTERVAL_MS = 5_000;

export interface HubCoreOptions {
  pool: pg.Pool;
  /** On the same pool. */
  ledger: Ledger;
  keys: KeyPair;
  hubId: string;
  random: () => number;
  limits: JobLimits;
  bounds: { total: number; perModel: number };
  feeBasisPoints: number;
  /** Whose agent token it is. */
  agentOf(token: string): AgentPrincipal;
  /** Who pays, by the request's `authorization`. */
  payerOf(authorization: string): Payer;
  /** Stands between jobs and what they are given. */
  wrapJobs?(jobs: Jobs): Jobs;
}

export interface HubCore {
  /** It never listens: connections are handed to it. */
  server: Server;
  /** What is not at rest, by name; all zero in a hub that has nothing to do. */
  busy(): Record<string, number>;
  /** Model names on offer. */
  models(): string[];
}

/** Resolves when it serves, its predecessor's leftovers resolved. */
export async function startHubCore(options: HubCoreOptions): Promise<HubCore> {
  const { pool, ledger, random } = options;
  const log = pino({ level: "silent" });
  const nowMs = await databaseClock(pool, log);
  const signer = await createSigner(options.keys);
  await createBooks(ledger);
  await resolveLeftovers({ pool, ledger, log }, options.hubId, "hub_restarted");

  const registry = createRegistry();
  const reputation = await createReputation({ pool, registry, nowMs, log, shared: false });
  const app = createServer({ log, bodyLimitBytes: 1024 * 1024, trustedProxies: [], https: false });
  const link = createLink({
    server: app.server,
    pool,
    registry,
    signer,
    prices: { load: async () => {}, priced: (_node, announced) => announced },
    onJoined() {},
    authenticate: async (token) => options.agentOf(token),
    trustedProxies: [],
    onRevoked() {},
    nowMs,
    onRefused() {},
    log,
  });
  const billing = createBilling({ ledger, now: nowMs, random, log });
  const matcher = createMatcher({
    random,
    nowMs,
    standingOf: ({ node, offer }) => reputation.standingOf(node.nodeId, modelKey(offer)),
  });
  const queue = createSlotQueue({
    ...{ registry, random, nowMs, bounds: options.bounds },
    choose: matcher.choose,
    patience: matcher.patience,
  });
  const isOffered = (model: string) => registry.offers(model).length > 0;
  const own = createJobs({
    returns: createReturns(registry),
    ...{ queue, billing, dispatcher: link, isOffered, nowMs },
    ...{ limits: options.limits, feeBasisPoints: options.feeBasisPoints, hubId: options.hubId },
    began: matcher.began,
    events: { changed() {}, ended() {}, attempted: reputation.attempted },
  });
  const jobs = options.wrapJobs?.(own) ?? own;
  registerInference(app, {
    jobs,
    payerOf: async ({ headers }) => options.payerOf(headers.authorization ?? ""),
    models: () => registry.models(),
    nodesOf: (model) => registry.offers(model).map(({ node }) => node),
    nowMs,
    explain: (job) => {
      const wish = wishOf(job, isOffered);
      return explain(registry.offers(wish.model), wish, random, matcher.state(wish));
    },
  });
  await app.ready();
  setInterval(() => {
    expireHolds({ pool, ledger }, options.hubId, billing.keeps, nowMs()).catch(() => {}); // and again
  }, EXPIRY_INTERVAL_MS);

  return {
    server: app.server,
    busy: () => ({
      "jobs that run": own.active(),
      "jobs that wait": queue.length(),
      "settlements that wait": billing.backlog(),
      "slots that are taken": [...registry.nodes()].reduce((sum, { running }) => sum + running, 0),
    }),
    models: () => [...registry.models()],
  };
}
