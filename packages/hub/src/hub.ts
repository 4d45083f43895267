/** Wiring: configuration in, a running hub out. Nothing else in the hub knows all of it. */
import { randomBytes } from "node:crypto";
import { createServer as createNetServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createLedger, type Glance, glanceAtLedger } from "@gfe/ledger";
import { createSigner, generateKeyPair, type KeyPair, newId, type Signer } from "@gfe/protocol";
import { startTracing, type Tracer } from "@gfe/tracing";
import type { FastifyRequest } from "fastify";
import type pg from "pg";
import pino from "pino";
import { type Accounts, createAccounts, type Principal } from "./accounts/accounts.ts";
import { deleteExpired } from "./accounts/clean-up.ts";
import { type Background, startBackground } from "./background/background.ts";
import { createBilling, userAccount } from "./billing/billing.ts";
import { budgetOf, createBooks } from "./billing/books.ts";
import type { Config } from "./config.ts";
import { lastBackupS } from "./db/backup/last-backup.ts";
import { databaseClock } from "./db/clock.ts";
import { lockDataDir } from "./db/data-dir-lock.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./db/embedded-postgres.ts";
import { startHubWatch } from "./db/hub-watch.ts";
import { migrate } from "./db/migrate.ts";
import { createPool } from "./db/pool.ts";
import { makeDataDir } from "./db/postgres-binaries.ts";
import { joinFabric } from "./fabric/fabric.ts";
import { connectRedisBus } from "./fabric/redis-bus.ts";
import { registerAnthropic } from "./http/anthropic/routes.ts";
import { registerAuth } from "./http/auth-routes.ts";
import { registerBatchApi } from "./http/batch/batch.ts";
import { callerOf } from "./http/caller.ts";
import { LOOPBACK, limitConnections } from "./http/connection-limit.ts";
import { registerDownloads } from "./http/downloads/routes.ts";
import { deleteExpiredResults, registerForerunner } from "./http/forerunner.ts";
import { allow, sendRateHeaders } from "./http/inference/allowance.ts";
import { type InferenceDeps, registerInference } from "./http/inference/routes.ts";
import { prepareWhole } from "./http/inference/whole.ts";
import { registerOllama } from "./http/ollama/routes.ts";
import { registerOpenApi } from "./http/openapi.ts";
import { type Metrics, registerOps } from "./http/ops.ts";
import { createRateLimiter, limitedBy, usedGossip } from "./http/rate-limit.ts";
import { registerResponses } from "./http/responses/routes.ts";
import { createResponseStore, deleteExpiredResponses } from "./http/responses/store.ts";
import { registerRest } from "./http/rest/rest.ts";
import { createServer } from "./http/server.ts";
import { registerWeb } from "./http/web.ts";
import { createDeferred, deleteExpiredDeferred } from "./jobs/deferred/runner.ts";
import { recover } from "./jobs/deferred/store.ts";
import { getJob, jobTotals } from "./jobs/job-queries.ts";
import { createJobs } from "./jobs/jobs.ts";
import { createSlotQueue } from "./jobs/slot-queue.ts";
import { wishOf } from "./jobs/terms.ts";
import type { Payer } from "./jobs/types.ts";
import { kept, withoutRoom } from "./kept-files.ts";
import { leaveOthers } from "./leaving.ts";
import { expireHolds, resolveLeftovers } from "./leftovers.ts";
import { createLink } from "./link/link.ts";
import { createLive } from "./live/live.ts";
import { explain } from "./market/explain.ts";
import { createMatcher } from "./market/matcher.ts";
import { unmet } from "./market/needs.ts";
import { createRegistry, type Offer } from "./market/registry.ts";
import { createReturns } from "./market/returns.ts";
import { createTurnout } from "./market/turnout.ts";
import { flushTurnout, rollUpTurnout } from "./market/turnout-store.ts";
import { createPriceBook } from "./prices/price-book.ts";
import { createJobTracer } from "./tracing/job-trace.ts";
import { traceRequests } from "./tracing/request-trace.ts";
import { modelKey } from "./trust/attempt-facts.ts";
import { startCanaries } from "./trust/canary.ts";
import { createCanaryOnDemand } from "./trust/canary-on-demand.ts";
import { startFirstCredits } from "./trust/first-credit.ts";
import { createReputation, reputationGossip } from "./trust/reputation.ts";
import { deleteOldReputation } from "./trust/reputation-store.ts";
import { createDeliverer } from "./webhooks/deliver.ts";

export const HUB_VERSION = "0.1.0";
const EXPIRY_INTERVAL_MS = 5_000;
/** Between two looks at the books for /metrics. */
const GLANCE_INTERVAL_MS = 5 * 60_000;
const CLEAN_UP_S = 10 * 60;
const TURNOUT_INTERVAL_MS = 30_000;
/** Where `npm run build:agents` puts the agent's release. */
const BUILT_AGENTS = fileURLToPath(new URL("../../../dist/agents", import.meta.url));
/** How long a cancelled node has to send its receipt. */
const RECEIPT_MS = 2_000;

export interface Hub {
  url: string;
  port: number;
  /** Drains, then stops everything that was started. */
  stop(): Promise<void>;
  /** For a process that ends now: cuts the embedded database off, which loses nothing that was committed. */
  abandon(): void;
  /** Process id of the embedded database, where there is one. */
  databasePid(): number | undefined;
}

/** Starts a hub and resolves when it answers. Throws with words for its operator; nothing is left running then. */
export async function startHub(config: Config): Promise<Hub> {
  const log = pino({ level: config.logLevel, base: undefined, timestamp: pino.stdTimeFunctions.isoTime });
  const undo: (() => Promise<unknown> | unknown)[] = [];
  const stopAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    makeDataDir(config.dataDir);
    undo.push(lockDataDir(config.dataDir));
    let postgres: EmbeddedPostgres | null = null;
    if (config.databaseUrl === null) {
      postgres = await startEmbeddedPostgres({
        dataDir: config.dataDir,
        log: (message) => log.info(message),
      });
      undo.push(() => postgres?.stop());
    }
    const databaseUrl = config.databaseUrl ?? postgres!.url;
    const added = await migrateOnce(databaseUrl);
    const onLost = (error: Error) => log.warn({ error: error.message }, "a database connection was lost");
    const pool = createPool(databaseUrl, onLost, { serving: true });
    undo.push(() => pool.end());
    if (added.length > 0) log.info({ migrations: added.length }, "database migrated");
    const tracing = await startTracing(config.tracing, {
      ...{ name: "gfe-hub", version: HUB_VERSION },
      onLost: (error) => log.warn({ error }, "traces are lost: the collector does not take them"),
    });
    undo.push(() => tracing?.close());
    const serving = await serve(config, pool, log, tracing?.tracer);
    undo.push(serving.stop);
    return {
      url: serving.url,
      port: serving.port,
      stop: stopAll,
      abandon: () => postgres?.kill(),
      databasePid: () => postgres?.pid(),
    };
  } catch (error) {
    await stopAll();
    throw withoutRoom(error, config.dataDir);
  }
}

async function serve(
  config: Config,
  pool: pg.Pool,
  log: pino.Logger,
  tracer: Tracer | undefined,
): Promise<{ url: string; port: number; stop(): Promise<void> }> {
  const nowMs = await databaseClock(pool, log);
  const random = Math.random;
  const port = config.port === 0 ? await freePort(config.host) : config.port;
  const localUrl = `http://${config.host.includes(":") ? `[${config.host}]` : config.host}:${port}`;
  const baseUrl = config.publicUrl ?? localUrl;

  const signer = await hubSigner(config);
  const hubId = await kept(join(config.dataDir, "hub-id"), () => newId("hub"));
  const ledger = createLedger({ pool });
  const books = await createBooks(ledger);
  await resolveLeftovers({ pool, ledger, log }, hubId, "hub_restarted");
  // An embedded database is this hub's alone.
  const watch = config.databaseUrl
    ? await startHubWatch({
        ...{ pool, hubId, log, lostMs: config.hubLostMs },
        async onDead(id) {
          await resolveLeftovers({ pool, ledger, log }, id, "hub_lost");
          await recover(pool, id, []);
        },
      })
    : null;

  const grantSignup = async (userId: string) => {
    await books.grantSignup(userId, config.signupCreditsMicro);
    await accounts.signupGranted(userId);
  };
  const newSecret = () => randomBytes(32).toString("base64url");
  const accounts: Accounts = createAccounts({
    pool,
    baseUrl,
    secret: config.secret ?? (await kept(join(config.dataDir, "secret"), newSecret)),
    trustedOrigins: [
      ...new Set([
        new URL(baseUrl).origin,
        `http://localhost:${port}`,
        `http://127.0.0.1:${port}`,
        ...config.trustedOrigins,
      ]),
    ],
    loginsMax: config.loginsMax,
    oauth: config.oauth,
    onUserCreated: grantSignup,
    nowMs,
    log: (level, message) => log[level === "error" ? "error" : level === "warn" ? "warn" : "debug"](message),
  });
  for (const userId of await accounts.pendingSignups()) await grantSignup(userId);

  const shared = config.redisUrl !== null;
  const registry = createRegistry();
  const reputation = await createReputation({ pool, registry, nowMs, log, shared });
  const live = createLive(registry, await jobTotals(pool), ({ node, offer }) => {
    const { newcomer, score } = reputation.standingOf(node.nodeId, modelKey(offer));
    return newcomer ? null : score;
  });
  const app = createServer({
    log,
    bodyLimitBytes: config.bodyLimitBytes,
    trustedProxies: config.trustedProxies,
    https: baseUrl.startsWith("https:"),
  });
  const connections = limitConnections(app.server, {
    perAddress: config.connectionsPerAddress,
    exempt: [...config.trustedProxies, ...LOOPBACK],
  });
  let metrics: Metrics | null = null;
  const prices = createPriceBook({ pool, registry, log });
  const link = createLink({
    server: app.server,
    pool,
    registry,
    signer,
    prices,
    onJoined: connections.release,
    authenticate: async (token) => {
      const { userId, id } = await accounts.agentTokens.authenticate(token);
      return { userId, tokenId: id };
    },
    trustedProxies: config.trustedProxies,
    onRevoked: (listener) => accounts.agentTokens.onRevoked(listener),
    nowMs,
    onRefused: (code) => metrics?.frameRefused(code),
    log,
  });
  const limiter = createRateLimiter(nowMs, { shared });
  const bus = config.redisUrl && (await connectRedisBus({ url: config.redisUrl, self: newId("peer"), log }));
  const fabric = bus
    ? joinFabric({
        ...{ bus, registry, local: link, nowMs },
        gossip: [
          { ...usedGossip, take: limiter.take, learn: limiter.learn },
          { ...reputationGossip, take: reputation.take, learn: reputation.learn },
        ],
        onJob: tellOwners,
        onCounts({ started, completed, tokens }) {
          live.tokens(tokens);
          live.add({ total: started, completed, tokens });
        },
      })
    : null;
  const dispatcher = fabric?.dispatcher ?? link;
  const billing = createBilling({ ledger, now: nowMs, random, log });
  const isOffered = (model: string) => registry.offers(model).length > 0;
  const standingOf = ({ node, offer }: Offer) => reputation.standingOf(node.nodeId, modelKey(offer));
  const turnout = createTurnout(random);
  const matcher = createMatcher({ random, nowMs, standingOf, turnout });
  const bounds = { total: config.queueMax, perModel: config.queueModelMax };
  const queue = createSlotQueue({
    registry,
    bounds,
    random,
    nowMs,
    choose: matcher.choose,
    patience: matcher.patience,
    elsewhere: fabric?.turns,
  });
  fabric?.turns.attach(queue);
  const jobs = createJobs({
    queue,
    billing,
    dispatcher,
    isOffered,
    began: matcher.began,
    returns: createReturns(registry),
    tracer: createJobTracer(tracer),
    lost: watch?.lost,
    limits: {
      queueWaitMs: config.queueWaitMs,
      batchWaitMs: config.queueBatchWaitMs,
      firstTokenMs: config.firstTokenTimeoutMs,
      stallMs: config.stallTimeoutMs,
      totalMs: config.totalTimeoutMs,
      receiptMs: RECEIPT_MS,
    },
    feeBasisPoints: config.feeBasisPoints,
    hubId,
    nowMs,
    events: {
      changed: ({ jobId, consumerId, providerIds, state }) => {
        if (state === "running") {
          live.add({ total: 1, completed: 0, tokens: 0 });
          fabric?.news.jobStarted();
        }
        const owners = [...new Set([consumerId, ...providerIds])];
        void tellOwners(jobId, owners);
        fabric?.news.jobChanged(jobId, owners);
      },
      ended: (outcome, kind) => {
        live.tokens(outcome.usage.output_tokens);
        const completed = outcome.state === "completed";
        live.add({ total: 0, completed: completed ? 1 : 0, tokens: outcome.usage.output_tokens });
        fabric?.news.jobEnded(completed, outcome.usage.output_tokens);
        metrics?.jobEnded(kind, outcome.state, outcome.ttftMs, outcome.usage.output_tokens);
      },
      attempted: reputation.attempted,
    },
  });
  const webhooks = { allowPrivate: config.webhookAllowPrivate };
  const deliverer = createDeliverer({ pool, nowMs: Date.now, random, log, ...webhooks });
  const deferred = createDeferred({
    ...{ pool, jobs, hubId, nowMs, log },
    prepare: prepareWhole,
    onEnded: deliverer.nudge,
  });
  const stopCanaries = startCanaries({
    registry,
    dispatcher: link,
    reputation,
    intervalMs: config.canaryIntervalS * 1000,
    nowMs,
    random,
  });
  const firstCredits = startFirstCredits({
    ...{ pool, registry, dispatcher: link, nowMs, random, log },
    // Who is not verified earns nothing by it.
    amountMicro: config.canaryIntervalS === 0 ? 0n : config.firstCreditMicro,
    budgetMicro: config.firstCreditBudgetMicro,
    pay: books.grantFirstCredit,
  });
  const askCanary = createCanaryOnDemand({
    ...{ registry, dispatcher, nowMs, random },
    unmet: (offer, wish) => unmet(offer, wish, standingOf(offer)),
  });
  /** What those of its owners see who look on here. */
  async function tellOwners(jobId: string, owners: readonly string[]): Promise<void> {
    try {
      for (const userId of owners) {
        if (!live.hasReaders(userId)) continue;
        const owned = await getJob(pool, jobId, userId);
        const balance = await books.balance(userId);
        if (owned && owned !== "forbidden") live.publish({ type: "job", job: owned.job }, userId);
        live.publish(
          { type: "balance", available_micro: `${balance.available}`, held_micro: `${balance.held}` },
          userId,
        );
      }
    } catch (error) {
      log.debug({ error: String(error) }, "a live event was dropped");
    }
  }

  let draining = false;
  let background: Background | null = null;
  let glance: (Glance & { atS: number }) | null = null;
  // A connection that is kept alive would lead its next request here, too.
  app.server.prependListener("request", (_request, response) => {
    if (draining) response.shouldKeepAlive = false;
  });
  await registerOpenApi(app, HUB_VERSION);
  metrics = registerOps(app, {
    pool,
    draining: () => draining,
    gauges: {
      nodes: link.connected,
      running: jobs.active,
      queued: queue.length,
      settlementBacklog: billing.backlog,
      peers: () => fabric?.peers() ?? 0,
      lastBackupS: () => lastBackupS(config.dataDir),
    },
    background: () => background?.state() ?? [],
    models: () => registry.models(),
    ledger: () => glance,
  });
  registerAuth(app, accounts, baseUrl);
  const limits = {
    requestsPerMinute: config.rateRequestsPerMinute,
    tokensPerMinute: config.rateTokensPerMinute,
  };
  const inferencePayer = async (request: FastifyRequest) => {
    const principal = await accounts.authenticate(callerOf(request), "inference");
    const subjects = limitedBy(principal, limits);
    if (subjects.length > 0) allow(request, limiter.allowanceOf(subjects));
    return payerOf(principal);
  };
  await app.register(async (scope) => {
    sendRateHeaders(scope);
    traceRequests(scope, tracer);
    const inference: InferenceDeps = {
      jobs,
      payerOf: inferencePayer,
      explain: (job) => {
        const wish = wishOf(job, isOffered);
        return explain(registry.offers(wish.model), wish, random, matcher.state(wish));
      },
      models: () => registry.models(),
      nodesOf: (model) => registry.offers(model).map(({ node }) => node),
      nowMs,
    };
    registerInference(scope, inference);
    registerResponses(scope, {
      ...inference,
      store: createResponseStore(pool, config.responseHours),
    });
    registerAnthropic(scope, inference);
    registerOllama(scope, inference);
    registerBatchApi(scope, { payerOf: inferencePayer, pool, deferred });
    registerRest(scope, {
      ...{ payerOf: inferencePayer, deferred, webhooks, nowMs, askCanary, turnout },
      waiting: queue.length,
      accounts,
      books,
      pool,
      registry,
      live,
      reputation,
      prices,
      publicConfig: {
        version: HUB_VERSION,
        hub_key: signer.publicKey,
        sign_in_with: Object.keys(config.oauth) as ("google" | "github" | "microsoft")[],
        signup_credits_micro: config.signupCreditsMicro.toString(),
        fee_percent: config.feeBasisPoints / 100,
      },
    });
    registerForerunner(scope, {
      authenticate: (request, required) => accounts.authenticate(callerOf(request), required),
      payerOf: inferencePayer,
      jobs,
      books,
      pool,
      registry,
      live,
      logError: (error) => log.error({ error: String(error) }, "a submitted job broke"),
    });
  });
  registerDownloads(app, { directory: config.downloadsDir ?? BUILT_AGENTS, hubUrl: baseUrl });
  await registerWeb(app);

  const look = async () => {
    glance = { ...(await glanceAtLedger(pool)), atS: Math.floor(Date.now() / 1000) };
  };
  const glancing = every(GLANCE_INTERVAL_MS, look, log);
  look().catch((error: unknown) => log.warn({ error: String(error) }, "the books could not be looked at"));
  const expiring = every(
    EXPIRY_INTERVAL_MS,
    () => expireHolds({ pool, ledger }, hubId, billing.keeps, nowMs()),
    log,
  );
  const counting = every(TURNOUT_INTERVAL_MS, () => flushTurnout(pool, turnout), log);
  await fabric?.settled();
  await app.listen({ host: config.host, port });
  log.info({ url: localUrl }, "hub listening");
  deferred.start();
  deliverer.start();
  background = startBackground({
    ...{ pool, log },
    works: [
      { name: "old-sign-ins", everyS: CLEAN_UP_S, run: () => deleteExpired(pool) },
      { name: "old-results", everyS: CLEAN_UP_S, run: () => deleteExpiredResults(pool) },
      { name: "old-deferred-jobs", everyS: CLEAN_UP_S, run: () => deleteExpiredDeferred(pool) },
      { name: "old-responses", everyS: CLEAN_UP_S, run: () => deleteExpiredResponses(pool) },
      { name: "old-reputation", everyS: CLEAN_UP_S, run: () => deleteOldReputation(pool) },
      { name: "old-turnout", everyS: CLEAN_UP_S, run: () => rollUpTurnout(pool) },
      { name: "first-credits", everyS: CLEAN_UP_S, run: firstCredits.makeUp },
    ],
  });

  return {
    url: baseUrl,
    port,
    async stop() {
      draining = true;
      clearInterval(expiring);
      clearInterval(glancing);
      clearInterval(counting);
      const stopping = deferred.stop();
      const atRest = background?.stop();
      stopCanaries();
      firstCredits.stop();
      const leaving = {
        ...{ drainMs: config.drainMs, noticeMs: config.drainNoticeMs, leave: link.leave },
        ...{ running: jobs.active, agents: link.connected },
      };
      const graceMs = fabric && fabric.peers() > 0 ? await leaveOthers(leaving) : config.drainMs;
      await Promise.all([jobs.drain(graceMs), fabric?.drain(graceMs)]);
      await stopping.idle();
      await Promise.all([deliverer.stop(), atRest]);
      live.close();
      await link.close();
      await fabric?.close();
      await reputation.close();
      await app.close();
      await flushTurnout(pool, turnout).catch((error: unknown) =>
        log.warn({ error: String(error) }, "the last counts of matching are lost"),
      );
      await ledger.flush();
      await watch?.stop();
      await Promise.all([accounts.close(), prices.close()]);
    },
  };
}

function payerOf({ userId, keyId, hasBudget, maxPrice }: Principal): Payer {
  return {
    userId,
    account: userAccount(userId),
    ...(keyId === undefined ? {} : { keyId }),
    ...(hasBudget && keyId !== undefined ? { budgetAccount: budgetOf(keyId) } : {}),
    ...(maxPrice === null ? {} : { maxPrice }),
  };
}

/** On a pool of its own: a migration may take as long as it needs. */
async function migrateOnce(databaseUrl: string): Promise<string[]> {
  const pool = createPool(databaseUrl, () => {});
  return migrate(pool).finally(() => pool.end());
}

function every(ms: number, step: () => Promise<unknown>, log: pino.Logger): NodeJS.Timeout {
  let running = false;
  return setInterval(() => {
    if (running) return;
    running = true;
    void step()
      .catch((error: unknown) =>
        log.warn({ error: String(error) }, "background work failed and will be tried again"),
      )
      .finally(() => {
        running = false;
      });
  }, ms).unref();
}

async function hubSigner({ dataDir, hubKey }: Config): Promise<Signer> {
  const made = async () => JSON.stringify(await generateKeyPair());
  const pair = hubKey ?? (await kept(join(dataDir, "hub-key.json"), made));
  return createSigner(JSON.parse(pair) as KeyPair);
}

/** better-auth must know its address before it listens. */
function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createNetServer();
    probe.once("error", reject);
    probe.listen(0, host, () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
