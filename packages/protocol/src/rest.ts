/**
 * Our own REST under /api/v1: the shapes that hub, SDK and dashboard share. Money is micro-credits as decimal
 * strings, times are ISO 8601 in UTC. Errors are problem+json (errors.ts).
 */
import { z } from "zod";
import { gpuSchema, modelOfferSchema, priceCapSchema, priceSchema } from "./offer.ts";
import { printable } from "./text.ts";
import { usageSchema } from "./usage.ts";

const micro = z.string().regex(/^-?\d+$/);
const time = z.iso.datetime();
/** What somebody calls a key or token of theirs. */
export const labelSchema = z.string().trim().pipe(printable(80));

export const jobStateSchema = z.enum(["queued", "running", "completed", "failed", "cancelled"]);
export type JobState = z.infer<typeof jobStateSchema>;

/** GET /api/v1/me */
export const meSchema = z.object({
  user: z.object({
    id: z.string(),
    email: z.string(),
    name: z.string(),
    role: z.enum(["consumer", "operator"]),
    created_at: time,
  }),
  balance: z.object({ posted_micro: micro, held_micro: micro, available_micro: micro }),
});
export type Me = z.infer<typeof meSchema>;

export const keyScopeSchema = z.enum(["inference", "read", "manage"]);
export type KeyScope = z.infer<typeof keyScopeSchema>;

/** GET /api/v1/keys → {keys}; POST → {key, secret}; DELETE /api/v1/keys/:id → 204 */
export const apiKeySchema = z.object({
  id: z.string(),
  label: z.string(),
  prefix: z.string(),
  scopes: z.array(keyScopeSchema),
  budget_micro: micro.nullable(),
  spent_micro: micro,
  /** The most that it pays: offers above it are not matched. */
  max_price: priceCapSchema.nullable(),
  /** Inference requests, beside what its account may make. */
  requests_per_minute: z.int().nullable(),
  expires_at: time.nullable(),
  last_used_at: time.nullable(),
  revoked_at: time.nullable(),
  created_at: time,
});
export type ApiKey = z.infer<typeof apiKeySchema>;
export const createKeySchema = z.object({
  label: labelSchema,
  scopes: z.array(keyScopeSchema).min(1).max(10).default(["inference", "read"]),
  budget_micro: z
    .string()
    .regex(/^\d{1,18}$/)
    .nullable()
    .default(null),
  max_price: priceCapSchema.nullable().default(null),
  requests_per_minute: z.int().min(1).max(1_000_000).nullable().default(null),
  expires_at: time.nullable().default(null),
});
export type CreateKey = z.input<typeof createKeySchema>;

/** GET /api/v1/agent-tokens → {agent_tokens}; POST {label} → {agent_token, secret}; DELETE /:id → 204 */
export const agentTokenSchema = z.object({
  id: z.string(),
  label: z.string(),
  prefix: z.string(),
  last_used_at: time.nullable(),
  revoked_at: time.nullable(),
  created_at: time,
});
export type AgentToken = z.infer<typeof agentTokenSchema>;
export const createAgentTokenSchema = z.object({ label: labelSchema });

/** GET /api/v1/agent-tokens/self?node_key, by the agent token itself; DELETE revokes it → 204 */
export const agentSelfSchema = z.object({
  id: z.string(),
  label: z.string(),
  created_at: time,
  /** The account's node with this key; null where none was asked for, or none is. */
  node_id: z.string().nullable().default(null),
});
/** GET /api/v1/nodes/:id/earnings?since, by the owner or by an agent token of its; DELETE /api/v1/nodes/:id → 204 */
export const nodeEarningsSchema = z.object({
  /** After fees, of this node alone, since midnight UTC. */
  today_micro: micro,
  jobs_today: z.number(),
  /** Of the last 60 minutes. */
  hour_micro: micro,
  /** Since the moment that was asked for, 7 days ago at most. */
  since_micro: micro,
  /** What the account has to spend. */
  available_micro: micro,
  /** Requests that wait for a slot at this hub, for all models. */
  waiting: z.number(),
});

/** GET /api/v1/device/:userCode → what is asking; POST /api/v1/device/:userCode {approve: boolean} → 204 */
export const deviceRequestSchema = z.object({
  user_code: z.string(),
  client: z.string(),
  /** As the machine says of itself, which it may make up. */
  host_name: z.string(),
  gpu: z.string().nullable(),
  /** Where it asked from, as the hub saw it; null where that is not known. */
  address: z.string().nullable(),
  state: z.enum(["pending", "approved", "denied", "expired"]),
  expires_at: time,
});
export type DeviceRequest = z.infer<typeof deviceRequestSchema>;

export const prioritySchema = z.enum(["interactive", "standard", "batch"]);

/** What a job was promised at matching: later changes of a price do not touch it. Micro-credits. */
export const quoteSchema = z.object({
  per_request: micro,
  per_million_input: micro,
  per_million_cached_input: micro,
  per_million_output: micro,
  minimum: micro,
  discount_percent: z.number(),
  input_tokens_max: z.number(),
  output_tokens_max: z.number(),
  /** The most that the job can cost: what is held. */
  cap_micro: micro,
});
export type QuoteWire = z.infer<typeof quoteSchema>;

/**
 * GET /api/v1/jobs?limit&before&state&role=consumer|provider → {jobs, next}, with what was submitted (deferred.ts) and no
 * job has answered; GET /api/v1/jobs/:id → Job
 */
export const jobSchema = z.object({
  id: z.string(),
  state: jobStateSchema,
  kind: z.enum(["chat", "completion", "embedding"]),
  model: z.string(),
  node_id: z.string().nullable(),
  node_name: z.string().nullable(),
  usage: usageSchema.nullable(),
  held_micro: micro,
  cost_micro: micro,
  fee_micro: micro,
  quote: quoteSchema.nullable(),
  priority: prioritySchema,
  /** Of a submitted one that waits: its place among the caller's own submitted jobs, from 1. */
  position: z.int().optional(),
  /** How long it waited for a slot; null where that was not kept. */
  queued_ms: z.number().nullable(),
  ttft_ms: z.number().nullable(),
  duration_ms: z.number().nullable(),
  error_code: z.string().nullable(),
  created_at: time,
  ended_at: time.nullable(),
});
export type Job = z.infer<typeof jobSchema>;

/** GET /api/v1/ledger?limit&before → {entries, next} of the caller's account, newest first */
export const ledgerEntrySchema = z.object({
  id: z.string(),
  amount_micro: micro,
  counterparty: z.string(),
  code: z.string(),
  reference: z.string().nullable(),
  created_at: time,
});
export type LedgerEntry = z.infer<typeof ledgerEntrySchema>;

/** GET /api/v1/nodes → {nodes}: the caller's own; public ones are in the market snapshot */
export const nodeSchema = z.object({
  id: z.string(),
  name: z.string(),
  online: z.boolean(),
  draining: z.boolean(),
  /** Why its agent pauses: "battery", "schedule" …; absent where it does not, or does not say. */
  paused_for: z.string().optional(),
  gpus: z.array(gpuSchema),
  slots: z.number(),
  running: z.number(),
  models: z.array(modelOfferSchema),
  /** The lowest of its models' scores, 0 … 100; with its parts at /api/v1/nodes/:id/reputation. */
  reputation: z.number().optional(),
  agent_version: z.string().nullable(),
  first_seen_at: time,
  last_seen_at: time,
});
export type NodeView = z.infer<typeof nodeSchema>;

/** GET /api/v1/nodes/:id/reputation (public). Formulas and terms: the hub's trust/score.ts. */
export const nodeReputationSchema = z.object({
  node_id: z.string(),
  formula: z.string(),
  models: z.array(
    z.object({
      /** The digest where the model has one, else its name. */
      model: z.string(),
      /** Names under which the node offers it now. */
      names: z.array(z.string()),
      /** 0 … 100. */
      score: z.number(),
      newcomer: z.boolean(),
      parts: z.array(
        z.object({
          name: z.enum(["success", "uptime", "speed", "disputes", "audits"]),
          /** 0 … 1. */
          value: z.number(),
          /** In the sum; 1 of what multiplies the sum. */
          weight: z.number(),
          multiplies: z.boolean(),
          evidence: z.string(),
        }),
      ),
      /** What went wrong, by weight after decay. */
      reasons: z.array(z.object({ reason: z.string(), words: z.string(), weight: z.number() })),
      raise: z.array(z.string()),
      /** Events of the last 7 days. */
      recent: z.array(z.object({ kind: z.string(), reason: z.string().nullable(), count: z.number() })),
    }),
  ),
});
export type NodeReputation = z.infer<typeof nodeReputationSchema>;

/** GET /api/v1/market → MarketSnapshot (public) */
export const marketModelSchema = z.object({
  model: z.string(),
  nodes: z.number(),
  providers: z.number(),
  slots: z.number(),
  free_slots: z.number(),
  context_length_max: z.number(),
  capabilities: z.array(z.string()),
  quantisations: z.array(z.string()),
  /** True where every offer runs on a scripted engine: shown as such. */
  scripted: z.boolean(),
  price_from: priceSchema,
  /** The highest score of its nodes for it, 0 … 100; null where all are newcomers. */
  reputation: z.number().nullable(),
});
export type MarketModel = z.infer<typeof marketModelSchema>;

export const liveStatsSchema = z.object({
  nodes_online: z.number(),
  models: z.number(),
  slots: z.number(),
  running: z.number(),
  jobs_total: z.number(),
  jobs_completed: z.number(),
  tokens_total: z.number(),
  tokens_per_second: z.number(),
});
export type LiveStats = z.infer<typeof liveStatsSchema>;
export const marketSnapshotSchema = z.object({ stats: liveStatsSchema, models: z.array(marketModelSchema) });
export type MarketSnapshot = z.infer<typeof marketSnapshotSchema>;

/**
 * GET /api/v1/live: one SSE stream. `event: snapshot` first (or replay after `Last-Event-ID`), then deltas, each with
 * an `id:`. A signed-in caller also gets its own `job`, `balance` and `node` events.
 */
export const liveEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("snapshot"), market: marketSnapshotSchema, balance_micro: micro.nullable() }),
  z.object({ type: z.literal("stats"), stats: liveStatsSchema }),
  z.object({ type: z.literal("models"), models: z.array(marketModelSchema) }),
  z.object({ type: z.literal("job"), job: jobSchema }),
  z.object({ type: z.literal("balance"), available_micro: micro, held_micro: micro }),
  z.object({ type: z.literal("node"), node: nodeSchema }),
]);
export type LiveEvent = z.infer<typeof liveEventSchema>;

/** GET /api/v1/ledger/verify (operators) */
export const ledgerVerdictSchema = z.object({
  ok: z.boolean(),
  checks: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string() })),
});
export type LedgerVerdict = z.infer<typeof ledgerVerdictSchema>;

/** GET /api/v1/config (public): what the sign-in page and CLI need to know. */
export const publicConfigSchema = z.object({
  version: z.string(),
  hub_key: z.string(),
  sign_in_with: z.array(z.enum(["google", "github", "microsoft"])),
  signup_credits_micro: micro,
  fee_percent: z.number(),
});
export type PublicConfig = z.infer<typeof publicConfigSchema>;
