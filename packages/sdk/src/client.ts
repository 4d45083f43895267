/** A typed client of the hub, for browsers and Node. Every answer is checked against the protocol's schemas. */
import {
  agentTokenSchema,
  apiKeySchema,
  type CreateKey,
  deviceRequestSchema,
  type JobState,
  jobSchema,
  ledgerEntrySchema,
  ledgerVerdictSchema,
  marketSnapshotSchema,
  meSchema,
  nodeSchema,
  publicConfigSchema,
} from "@gfe/protocol";
import { z } from "zod";
import { type ChatAnswer, type ChatRequest, readChat } from "./chat.ts";
import { SdkError, toSdkError } from "./errors.ts";
import { followLive, type LiveOptions } from "./live.ts";

export interface ClientOptions {
  /** The hub's address; empty for the page's own. */
  baseUrl?: string;
  /** An API key or a session token; a browser's cookie otherwise. */
  apiKey?: string;
  fetch?: typeof fetch;
}

interface Call {
  method?: string;
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

export type SdkClient = ReturnType<typeof createClient>;

export function createClient({ baseUrl = "", apiKey, fetch: send = fetch }: ClientOptions = {}) {
  async function call(
    path: string,
    { method = "GET", body, query = {}, signal, headers = {} }: Call = {},
  ): Promise<Response> {
    const search = new URLSearchParams(
      Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
    );
    const response = await send(`${baseUrl}${path}${search.size > 0 ? `?${search}` : ""}`, {
      method,
      credentials: "same-origin",
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    }).catch((cause: unknown) => {
      if (signal?.aborted) throw cause;
      throw new SdkError("unreachable", "The hub cannot be reached", { cause });
    });
    if (!response.ok) throw await toSdkError(response);
    return response;
  }

  async function json<Schema extends z.ZodType>(
    schema: Schema,
    path: string,
    options?: Call,
  ): Promise<z.infer<Schema>> {
    const parsed = schema.safeParse(await (await call(path, options)).json());
    if (!parsed.success)
      throw new SdkError("unexpected_answer", `The hub's answer to ${path} is not what this client knows`, {
        cause: parsed.error,
      });
    return parsed.data;
  }

  const none = async (path: string, options: Call): Promise<void> => void (await call(path, options));
  const next = z.string().nullable();

  return {
    config: () => json(publicConfigSchema, "/api/v1/config"),
    market: () => json(marketSnapshotSchema, "/api/v1/market"),
    me: () => json(meSchema, "/api/v1/me"),

    signUp: (fields: { email: string; password: string; name: string }) =>
      none("/api/auth/sign-up/email", { method: "POST", body: fields }),
    signIn: (fields: { email: string; password: string }) =>
      none("/api/auth/sign-in/email", { method: "POST", body: fields }),
    signOut: () => none("/api/auth/sign-out", { method: "POST", body: {} }),
    /** The address to send the browser to. */
    signInWith: async (provider: "google" | "github" | "microsoft", callbackURL: string) =>
      (
        await json(z.object({ url: z.url() }), "/api/auth/sign-in/social", {
          method: "POST",
          body: { provider, callbackURL, disableRedirect: true },
        })
      ).url,

    keys: async () => (await json(z.object({ keys: z.array(apiKeySchema) }), "/api/v1/keys")).keys,
    createKey: (fields: CreateKey) =>
      json(z.object({ key: apiKeySchema, secret: z.string() }), "/api/v1/keys", {
        method: "POST",
        body: fields,
      }),
    revokeKey: (id: string) => none(`/api/v1/keys/${encodeURIComponent(id)}`, { method: "DELETE" }),

    agentTokens: async () =>
      (await json(z.object({ agent_tokens: z.array(agentTokenSchema) }), "/api/v1/agent-tokens"))
        .agent_tokens,
    createAgentToken: (label: string) =>
      json(z.object({ agent_token: agentTokenSchema, secret: z.string() }), "/api/v1/agent-tokens", {
        method: "POST",
        body: { label },
      }),
    revokeAgentToken: (id: string) =>
      none(`/api/v1/agent-tokens/${encodeURIComponent(id)}`, { method: "DELETE" }),

    deviceRequest: (userCode: string) =>
      json(deviceRequestSchema, `/api/v1/device/${encodeURIComponent(userCode)}`),
    decideDevice: (userCode: string, approve: boolean) =>
      none(`/api/v1/device/${encodeURIComponent(userCode)}`, { method: "POST", body: { approve } }),

    jobs: (
      query: { state?: JobState; role?: "consumer" | "provider"; before?: string; limit?: number } = {},
    ) => json(z.object({ jobs: z.array(jobSchema), next }), "/api/v1/jobs", { query }),
    job: (id: string) => json(jobSchema, `/api/v1/jobs/${encodeURIComponent(id)}`),
    ledger: (query: { before?: string; limit?: number } = {}) =>
      json(z.object({ entries: z.array(ledgerEntrySchema), next }), "/api/v1/ledger", { query }),
    verifyLedger: () => json(ledgerVerdictSchema, "/api/v1/ledger/verify"),
    nodes: async () => (await json(z.object({ nodes: z.array(nodeSchema) }), "/api/v1/nodes")).nodes,

    /** Streams a chat; resolves with the whole answer. Throws SdkError where it breaks. */
    async chat({
      model,
      messages,
      maxTokens,
      temperature,
      signal,
      onDelta,
    }: ChatRequest): Promise<ChatAnswer> {
      const body = {
        model,
        messages,
        max_tokens: maxTokens,
        temperature,
        stream: true,
        stream_options: { include_usage: true },
      };
      const response = await call("/v1/chat/completions", { method: "POST", body, signal });
      return readChat(response.body!, onDelta);
    },

    /** Follows live events until the signal aborts. */
    live: (options: LiveOptions): Promise<void> =>
      followLive(
        (lastEventId, signal) =>
          call("/api/v1/live", { signal, headers: lastEventId ? { "last-event-id": lastEventId } : {} }),
        options,
      ),
  };
}
