/** What an agent asks its hub over HTTP, by its agent token. */
import { z } from "zod";
import { readJson } from "./body.ts";
import { type Host, limitedSignal } from "./host.ts";

const API_LIMITS = { bodyBytes: 256 * 1024, requestMs: 10_000 } as const;

export interface HubAnswer {
  status: number;
  body: unknown;
  /** The hub's clock by its `date` header, in seconds' steps; null where it told none. */
  dateMs: number | null;
  tookMs: number;
}

export interface HubCall {
  host: Pick<Host, "http" | "after" | "nowMs">;
  origin: string;
  token?: string | undefined;
}

export interface HubQuestion {
  method?: "GET" | "POST" | "DELETE";
  body?: object;
  timeoutMs?: number;
}

/** Rejects where no answer came. */
export async function askHub(
  { host, origin, token }: HubCall,
  path: string,
  { method = "GET", body, timeoutMs = API_LIMITS.requestMs }: HubQuestion = {},
): Promise<HubAnswer> {
  const { signal, release } = limitedSignal(host, timeoutMs);
  const startedMs = host.nowMs();
  try {
    const response = await host.http({
      url: origin + path,
      method,
      signal,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
    });
    const date = Date.parse(response.header("date") ?? "");
    return {
      status: response.status,
      body: await readJson(response, API_LIMITS.bodyBytes),
      dateMs: Number.isNaN(date) ? null : date,
      tookMs: host.nowMs() - startedMs,
    };
  } finally {
    release();
  }
}

const problemSchema = z.object({ detail: z.string().optional(), title: z.string().optional() });

/** Why the hub refused, in its own words. */
export function problemOf({ status, body }: HubAnswer): string {
  const problem = problemSchema.safeParse(body).data;
  return problem?.detail ?? problem?.title ?? `it answered ${status}`;
}
