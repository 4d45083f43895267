/** /healthz, /readyz and /metrics. No label names a key, a user or a prompt. */
import { type ErrorCode, GfeError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const READY_TIMEOUT_MS = 2_000;
/** Models that have a row of their own among the requests that found no provider; the others share one. */
const MODEL_LABELS_MAX = 100;
/** What a caller hears for want of a provider. */
const UNSERVED = new Set<ErrorCode | "other">(["model_away", "model_not_found", "no_slot"]);
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export interface Metrics {
  jobEnded(kind: string, state: string, ttftMs: number | null, outputTokens: number): void;
  frameRefused(code: string): void;
}

export interface OpsDeps {
  pool: pg.Pool;
  draining(): boolean;
  gauges: {
    nodes(): number;
    running(): number;
    queued(): number;
    settlementBacklog(): number;
    peers(): number;
    lastBackupS(): number;
  };
  /** What one hub does for all, as it went at this one. */
  background(): readonly { work: string; lastSuccessS: number; failures: number }[];
  /** Names of models that are offered now. */
  models(): Iterable<string>;
  /** The books at their last glance; null before the first. */
  ledger(): { imbalanceMicro: bigint; overdrawn: number; overdueHolds: number; atS: number } | null;
}

export function registerOps(app: FastifyInstance, deps: OpsDeps): Metrics {
  const { pool, draining, gauges, background, models, ledger } = deps;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "gfe_" });
  const registers = [registry];
  const requests = new Histogram({
    name: "gfe_http_request_seconds",
    help: "Requests by route and status",
    labelNames: ["method", "route", "status"],
    buckets: SECONDS,
    registers,
  });
  const jobs = new Counter({
    name: "gfe_jobs_total",
    help: "Ended jobs",
    labelNames: ["kind", "state"],
    registers,
  });
  const ttft = new Histogram({
    name: "gfe_time_to_first_token_seconds",
    help: "From request to first token",
    buckets: SECONDS,
    registers,
  });
  const tokens = new Counter({ name: "gfe_output_tokens_total", help: "Output tokens billed", registers });
  const refused = new Counter({
    name: "gfe_agent_frames_refused_total",
    help: "Frames of agents that were refused",
    labelNames: ["code"],
    registers,
  });
  const errors = new Counter({
    name: "gfe_request_errors_total",
    help: "Requests that ended with an error, by its code",
    labelNames: ["code"],
    registers,
  });
  const unserved = new Counter({
    name: "gfe_requests_unserved_total",
    help: "Requests that found no provider, by model where it is or was offered, else other",
    labelNames: ["model"],
    registers,
  });
  const known = new Set<string>();
  /** Looked at when asked: a name that strangers make up gets no row. */
  const learnModels = () => {
    for (const model of models()) if (known.size < MODEL_LABELS_MAX) known.add(model);
  };
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge("gfe_nodes_online", "Connected nodes", gauges.nodes);
  gauge("gfe_jobs_running", "Jobs between hold and settlement", gauges.running);
  gauge("gfe_jobs_queued", "Jobs waiting for a slot", gauges.queued);
  gauge("gfe_peers", "Other hubs within reach", gauges.peers);
  gauge("gfe_settlements_waiting", "Settlements not yet durable", gauges.settlementBacklog);
  gauge("gfe_database_connections", "Connections of this hub's pool", () => pool.totalCount);
  gauge("gfe_database_connections_idle", "Those of them that are free", () => pool.idleCount);
  gauge("gfe_database_waiting", "Who waits for a connection", () => pool.waitingCount);
  gauge("gfe_ledger_imbalance_micro", "The sum of all balances, which is zero", () =>
    Number(ledger()?.imbalanceMicro ?? 0),
  );
  gauge(
    "gfe_ledger_overdrawn_accounts",
    "Consumers below zero or holding more than they have",
    () => ledger()?.overdrawn ?? 0,
  );
  gauge("gfe_ledger_overdue_holds", "Holds open long after their expiry", () => ledger()?.overdueHolds ?? 0);
  gauge(
    "gfe_ledger_checked_timestamp_seconds",
    "When the books were last looked at; 0 for never",
    () => ledger()?.atS ?? 0,
  );
  gauge(
    "gfe_last_backup_timestamp_seconds",
    "When the last backup from this data directory was made; 0 for never",
    gauges.lastBackupS,
  );
  new Gauge({
    name: "gfe_background_last_success_timestamp_seconds",
    help: "When this hub last did a work that one hub does for all; 0 for never: look at the latest of all hubs",
    labelNames: ["work"],
    registers,
    collect() {
      for (const { work, lastSuccessS } of background()) this.set({ work }, lastSuccessS);
    },
  });
  new Counter({
    name: "gfe_background_failures_total",
    help: "Times that such a work failed at this hub or was cut off",
    labelNames: ["work"],
    registers,
    collect() {
      this.reset();
      for (const { work, failures } of background()) this.inc({ work }, failures);
    },
  });

  app.addHook("onResponse", async (request, reply) => {
    requests.observe(
      { method: request.method, route: request.routeOptions.url ?? "none", status: String(reply.statusCode) },
      reply.elapsedTime / 1000,
    );
  });

  app.addHook("onError", async (request, _reply, error: Error) => {
    const code = error instanceof GfeError ? error.code : "other";
    errors.inc({ code });
    if (!UNSERVED.has(code)) return;
    learnModels();
    const model = (request.body as { model?: unknown } | null | undefined)?.model;
    unserved.inc({ model: typeof model === "string" && known.has(model) ? model : "other" });
  });

  const tags = ["operations"];
  app.get("/healthz", { schema: { tags, summary: "The process is alive" } }, async () => ({ status: "ok" }));
  app.get("/readyz", { schema: { tags, summary: "The hub takes work" } }, async (_request, reply) => {
    if (draining()) return reply.status(503).send({ status: "draining" });
    const ready = await Promise.race([
      pool.query("SELECT 1").then(
        () => true,
        () => false,
      ),
      new Promise<false>((resolve) => setTimeout(resolve, READY_TIMEOUT_MS, false).unref()),
    ]);
    return reply.status(ready ? 200 : 503).send({ status: ready ? "ready" : "database unreachable" });
  });
  app.get("/metrics", { schema: { tags, summary: "For Prometheus" } }, async (_request, reply) => {
    learnModels();
    reply.header("content-type", registry.contentType);
    return registry.metrics();
  });

  return {
    jobEnded(kind, state, ttftMs, outputTokens) {
      jobs.inc({ kind, state });
      if (ttftMs !== null) ttft.observe(ttftMs / 1000);
      tokens.inc(outputTokens);
    },
    frameRefused: (code) => refused.inc({ code }),
  };
}
