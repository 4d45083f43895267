/** Asking the running agent of this state directory. */
import { readJson, readLines } from "../body.ts";
import { type Host, limitedSignal } from "../host.ts";
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

/** `GET /status`, or a POST that answers with it. Never rejects. */
export async function askAgent(host: AskHost, path = "/status", body?: object): Promise<Asked> {
  const { signal, release } = limitedSignal(host, CONTROL_LIMITS.askMs);
  try {
    const response = await host.http({
      url: `http://agent${path}`,
      socketPath: controlEndpoint(host),
      signal,
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
    });
    const answer = await readJson(response, CONTROL_LIMITS.answerBytes);
    if (response.status !== 200) {
      const { message } = (answer ?? {}) as { message?: unknown };
      return {
        type: "refused",
        message: typeof message === "string" ? message : `it answered ${response.status}`,
      };
    }
    const status = agentStatusSchema.safeParse(answer);
    if (status.success) return { type: "status", status: status.data };
    return { type: "refused", message: "it is of another version and cannot be read: restart it" };
  } catch (error) {
    return whyNot(error);
  } finally {
    release();
  }
}

/** What happened lately and what happens, until `signal` is aborted or the agent ends. Throws where it is not there. */
export async function* followAgent(host: AskHost, signal?: AbortSignal): AsyncGenerator<AgentRecord> {
  const response = await host.http({
    url: "http://agent/events",
    socketPath: controlEndpoint(host),
    ...(signal ? { signal } : {}),
  });
  const limits = { lineBytes: CONTROL_LIMITS.lineBytes, streamBytes: Number.MAX_SAFE_INTEGER };
  try {
    for await (const lines of readLines(response, limits)) for (const line of lines) yield* parse(line);
  } finally {
    response.cancel();
  }
}

function whyNot(error: unknown): Asked {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "string" && ABSENT.has(code)) return { type: "not_running" };
  if (code === "EACCES" || code === "EPERM")
    return { type: "refused", message: "the agent here is another user's" };
  return { type: "refused", message };
}
