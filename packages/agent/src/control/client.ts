/** Asking the running agent of this state directory. */
import { readJson, readLines } from "../body.ts";
import { type Host, type HttpResponse, limitedSignal } from "../host.ts";
import { CONTROL_LIMITS, controlEndpoint } from "./endpoint.ts";
import { parse } from "./journal.ts";
import type { AgentRecord } from "./records.ts";
import { type AgentStatus, agentStatusSchema } from "./status.ts";

export type AskHost = Pick<Host, "http" | "after" | "files" | "directories" | "platform">;

export type Asked =
  | { type: "status"; status: AgentStatus }
  | { type: "not_running" }
  | { type: "refused"; message: string };

const ABSENT = new Set(["ENOENT", "ECONNREFUSED", "ENOTSOCK"]);

type Answered = { type: "answer"; body: unknown } | Exclude<Asked, { type: "status" }>;

/** `GET /status`, or a POST that answers with it. Never rejects. */
export async function askAgent(host: AskHost, path = "/status", body?: object): Promise<Asked> {
  const answered = await requestAgent(host, path, body);
  if (answered.type !== "answer") return answered;
  const status = agentStatusSchema.safeParse(answered.body);
  if (status.success) return { type: "status", status: status.data };
  return { type: "refused", message: "it is of another version and cannot be read: restart it" };
}

/** A GET, or a POST where there is a body, and its answer as it comes. Never rejects. */
export async function requestAgent(
  host: AskHost,
  path: string,
  body?: object,
  timeoutMs: number = CONTROL_LIMITS.askMs,
): Promise<Answered> {
  const { signal, release } = limitedSignal(host, timeoutMs);
  try {
    const response = await host.http({
      url: `http://agent${path}`,
      socketPath: controlEndpoint(host),
      signal,
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
    });
    const answer = await readJson(response, CONTROL_LIMITS.answerBytes);
    if (response.status === 200) return { type: "answer", body: answer };
    const { message } = (answer ?? {}) as { message?: unknown };
    return {
      type: "refused",
      message: typeof message === "string" ? message : `it answered ${response.status}`,
    };
  } catch (error) {
    return whyNot(error);
  } finally {
    release();
  }
}

/** Resolves when it listens: what happened lately, then what happens, until the agent ends. Rejects where none answers. */
export async function followAgent(host: AskHost): Promise<AsyncIterable<AgentRecord>> {
  const response = await host.http({ url: "http://agent/events", socketPath: controlEndpoint(host) });
  return recordsIn(response);
}

async function* recordsIn(response: HttpResponse): AsyncGenerator<AgentRecord> {
  const limits = { lineBytes: CONTROL_LIMITS.lineBytes, streamBytes: Number.MAX_SAFE_INTEGER };
  try {
    for await (const lines of readLines(response, limits)) for (const line of lines) yield* parse(line);
  } finally {
    response.cancel();
  }
}

function whyNot(error: unknown): Exclude<Asked, { type: "status" }> {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "string" && ABSENT.has(code)) return { type: "not_running" };
  if (code === "EACCES" || code === "EPERM")
    return { type: "refused", message: "the agent here is another user's" };
  return { type: "refused", message };
}
