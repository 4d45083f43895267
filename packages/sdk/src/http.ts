/** One call to the hub: credentials, a time limit, errors as SdkError, answers checked by schema. */
import type { z } from "zod";
import { SdkError, toSdkError } from "./errors.ts";

/** For a whole answer; streams end on their own terms. */
export const CALL_TIMEOUT_MS = 30_000;

export interface ClientOptions {
  /** The hub's address; empty for the page's own. */
  baseUrl?: string;
  /** An API key or a session token; a browser's cookie otherwise. */
  apiKey?: string;
  fetch?: typeof fetch;
}

export interface Call {
  method?: string;
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

export interface Caller {
  /** A response whose status is 2xx and whose body is still to be read. Rejects with the signal's reason if aborted. */
  open(path: string, call?: Call): Promise<Response>;
  json<Schema extends z.ZodType>(schema: Schema, path: string, call?: Call): Promise<z.infer<Schema>>;
  /** For answers without a body worth reading. */
  none(path: string, call?: Call): Promise<void>;
}

export function createCaller({ baseUrl = "", apiKey, fetch: send = fetch }: ClientOptions): Caller {
  const root = baseUrl.replace(/\/+$/, "");

  async function open(path: string, call: Call = {}): Promise<Response> {
    const { method = "GET", body, query = {}, signal, headers } = call;
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) search.set(name, String(value));
    const response = await send(`${root}${path}${search.size > 0 ? `?${search}` : ""}`, {
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
      if (signal?.aborted) throw signal.reason;
      throw new SdkError("unreachable", "The hub cannot be reached", { cause });
    });
    if (!response.ok) throw await toSdkError(response);
    return response;
  }

  /** Opens and reads within the time limit. */
  async function read<Result>(path: string, call: Call, take: (response: Response) => Promise<Result>) {
    const timeout = AbortSignal.timeout(CALL_TIMEOUT_MS);
    try {
      const signal = call.signal ? AbortSignal.any([call.signal, timeout]) : timeout;
      return await take(await open(path, { ...call, signal }));
    } catch (error) {
      if (timeout.aborted && !call.signal?.aborted)
        throw new SdkError("timeout", "The hub did not answer in time", { cause: error });
      throw error;
    }
  }

  return {
    open,
    json: (schema, path, call = {}) =>
      read(path, call, async (response) => {
        const body: unknown = await response.json().catch((cause: unknown) => {
          if (cause instanceof SyntaxError) return undefined;
          throw cause;
        });
        const parsed = schema.safeParse(body);
        if (parsed.success) return parsed.data;
        const message = `The hub's answer to ${path} is not what this client knows`;
        throw new SdkError("unexpected_answer", message, { status: response.status, cause: parsed.error });
      }),
    none: (path, call = {}) => read(path, call, async (response) => void (await response.body?.cancel())),
  };
}
