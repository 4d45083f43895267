/** A typed client of the hub, for browsers and Node. Every answer is checked against the protocol's schemas. */
import {
  agentTokenSchema,
  apiKeySchema,
  type CreateDispute,
  type CreateKey,
  canaryReportSchema,
  deviceRequestSchema,
  disputeSchema,
  type JobState,
  jobSchema,
  ledgerEntrySchema,
  ledgerVerdictSchema,
  marketSnapshotSchema,
  meSchema,
  nodeReputationSchema,
  nodeSchema,
  nodeStandingSchema,
  type PricePlace,
  type PutPrice,
  priceListSchema,
  publicConfigSchema,
  type ReleaseManifest,
  releaseManifestSchema,
  setPriceSchema,
} from "@gfe/protocol";
import { z } from "zod";
import { createAuthCalls } from "./auth.ts";
import { type ChatAnswer, type ChatRequest, streamChat } from "./chat.ts";
import { providerStatsSchema } from "./earnings.ts";
import { SdkError } from "./errors.ts";
import { type ClientOptions, createCaller } from "./http.ts";
import { followLive, type LiveOptions } from "./live.ts";

export type SdkClient = ReturnType<typeof createClient>;

export interface PageQuery {
  /** The `next` of the page before. */
  before?: string;
  limit?: number;
}

export interface JobsQuery extends PageQuery {
  state?: JobState;
  role?: "consumer" | "provider";
}

export interface DisputesQuery extends PageQuery {
  role?: "consumer" | "provider";
}

/** Every call rejects with SdkError where the hub refuses or cannot be reached. */
export function createClient(options: ClientOptions = {}) {
  const { json, none, open } = createCaller(options);
  const next = z.string().nullable();

  return {
    ...createAuthCalls({ json, none }),

    config: () => json(publicConfigSchema, "/api/v1/config"),
    market: () => json(marketSnapshotSchema, "/api/v1/market"),
    /** The agent's programs that this hub has for download; null where it has none. */
    release: (): Promise<ReleaseManifest | null> =>
      json(releaseManifestSchema, "/download/manifest.json").catch((error: unknown) => {
        if (error instanceof SdkError && error.status === 404) return null;
        throw error;
      }),
    me: () => json(meSchema, "/api/v1/me"),

    keys: async () => (await json(z.object({ keys: z.array(apiKeySchema) }), "/api/v1/keys")).keys,
    /** The secret is told this once. */
    createKey: (body: CreateKey) =>
      json(z.object({ key: apiKeySchema, secret: z.string() }), "/api/v1/keys", { method: "POST", body }),
    revokeKey: (id: string) => none(at("/api/v1/keys", id), { method: "DELETE" }),

    agentTokens: async () =>
      (await json(z.object({ agent_tokens: z.array(agentTokenSchema) }), "/api/v1/agent-tokens"))
        .agent_tokens,
    /** The secret is told this once. */
    createAgentToken: (label: string) =>
      json(z.object({ agent_token: agentTokenSchema, secret: z.string() }), "/api/v1/agent-tokens", {
        method: "POST",
        body: { label },
      }),
    revokeAgentToken: (id: string) => none(at("/api/v1/agent-tokens", id), { method: "DELETE" }),

    deviceRequest: (userCode: string) => json(deviceRequestSchema, at("/api/v1/device", userCode)),
    decideDevice: (userCode: string, approve: boolean) =>
      none(at("/api/v1/device", userCode), { method: "POST", body: { approve } }),

    jobs: (query: JobsQuery = {}) =>
      json(z.object({ jobs: z.array(jobSchema), next }), "/api/v1/jobs", { query: { ...query } }),
    job: (id: string) => json(jobSchema, at("/api/v1/jobs", id)),
    /** Disputes a completed job of the caller's; see the protocol for when that may be. */
    dispute: async (id: string, body: CreateDispute) => {
      const path = `${at("/api/v1/jobs", id)}/dispute`;
      return (await json(z.object({ dispute: disputeSchema }), path, { method: "POST", body })).dispute;
    },
    disputes: (query: DisputesQuery = {}) =>
      json(z.object({ disputes: z.array(disputeSchema), next }), "/api/v1/disputes", { query: { ...query } }),
    nodes: async () => (await json(z.object({ nodes: z.array(nodeSchema) }), "/api/v1/nodes")).nodes,
    /** A node's score for each of its models, its parts, and what would raise it. Of any node, by anybody. */
    nodeReputation: (id: string) => json(nodeReputationSchema, `${at("/api/v1/nodes", id)}/reputation`),
    /** Why a node of the caller's gets requests, or does not. */
    nodeStanding: (id: string) => json(nodeStandingSchema, `${at("/api/v1/nodes", id)}/standing`),
    /** Sends a node of the caller's a test request, unpaid; resolves when it has ended, however it did. */
    askCanary: (id: string, model: string) =>
      json(canaryReportSchema, `${at("/api/v1/nodes", id)}/canary`, { method: "POST", body: { model } }),
    /** The prices that the caller set, and its models at the prices in force. */
    prices: () => json(priceListSchema, "/api/v1/prices"),
    /** Sets a whole price for a model, a node, both or, with neither, all that have no other. */
    setPrice: (body: PutPrice) => json(setPriceSchema, "/api/v1/prices", { method: "PUT", body }),
    unsetPrice: ({ node_id, model }: Partial<PricePlace> = {}) =>
      none("/api/v1/prices", {
        method: "DELETE",
        query: { node_id: node_id ?? undefined, model: model ?? undefined },
      }),
    /** What the caller earned as a provider, and spent. */
    providerStats: (days = 30) =>
      json(providerStatsSchema, "/api/computing/provider-stats/", { query: { days } }),

    ledger: (query: PageQuery = {}) =>
      json(z.object({ entries: z.array(ledgerEntrySchema), next }), "/api/v1/ledger", {
        query: { ...query },
      }),
    /** For operators. */
    verifyLedger: () => json(ledgerVerdictSchema, "/api/v1/ledger/verify"),

    /** Streams a chat and resolves with the whole answer; see streamChat for how it can end. */
    chat: (request: ChatRequest): Promise<ChatAnswer> =>
      streamChat((body, signal) => open("/v1/chat/completions", { method: "POST", body, signal }), request),

    /** Follows live events until the signal aborts. */
    live: (options: LiveOptions): Promise<void> =>
      followLive((lastEventId, signal) => {
        const headers: Record<string, string> = { accept: "text/event-stream" };
        if (lastEventId !== undefined) headers["last-event-id"] = lastEventId;
        return open("/api/v1/live", { signal, headers });
      }, options),
  };
}

const at = (path: string, id: string): string => `${path}/${encodeURIComponent(id)}`;
