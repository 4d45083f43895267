/** How the agent talks to an engine over HTTP: bounded inquiries, bounded streams, refusals in one shape. */
import type { AttemptFailure } from "@gfe/protocol";
import { BodyTooLarge, parseJson, readJson, readLines, readText } from "../body.ts";
import { type Host, type HttpResponse, limitedSignal } from "../host.ts";
import { ENGINE_LIMITS } from "../limits.ts";
import { EngineGone, type EngineOutcome, failed } from "./engine.ts";
import { faultOf } from "./faults.ts";

export type EngineHost = Pick<Host, "http" | "after">;

export interface EngineAddress {
  /** `http://127.0.0.1:11434`, no slash at its end. */
  baseUrl: string;
  /** Sent as a Bearer header where the engine asks for one. */
  apiKey?: string;
}

const headersOf = ({ apiKey }: EngineAddress): Record<string, string> =>
  apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };

/** One JSON answer. Null for any status but 200. Rejects with EngineGone where nothing listens, and where a key is wanted. */
export async function inquire(
  host: EngineHost,
  address: EngineAddress,
  path: string,
  options: { body?: object; signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<unknown> {
  const { signal, release } = limitedSignal(
    host,
    options.timeoutMs ?? ENGINE_LIMITS.inquiryMs,
    options.signal,
  );
  try {
    const response = await host.http({
      url: address.baseUrl + path,
      headers: headersOf(address),
      ...(options.body ? { method: "POST" as const, body: JSON.stringify(options.body) } : {}),
      signal,
    });
    if (response.status === 200) return await readJson(response, ENGINE_LIMITS.jsonBytes);
    response.cancel();
    if (response.status === 401 || response.status === 403)
      throw new Error(`${address.baseUrl} wants an API key: put it into GFE_ENGINE_KEY`);
    return null;
  } catch (error) {
    throw goneOr(error, address.baseUrl);
  } finally {
    release();
  }
}

function goneOr(error: unknown, label: string): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  return code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EHOSTUNREACH"
    ? new EngineGone(label, { cause: error })
    : error;
}

export interface Exchange {
  host: EngineHost;
  address: EngineAddress;
  path: string;
  body: object;
  signal: AbortSignal;
  /** What a traced engine goes on with. */
  traceparent: string | undefined;
}

const NO_FIRST_TOKEN = `the engine said nothing within ${ENGINE_LIMITS.firstTokenMs / 1000} s`;

/** Posts an attempt; a refusal comes back as its outcome. */
export async function post(exchange: Exchange): Promise<HttpResponse | EngineOutcome> {
  const { host, address, path, body, signal, traceparent } = exchange;
  // The connection lives on under this signal, so it is let go of with the attempt and not before.
  const connection = new AbortController();
  const onAbort = () => connection.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  let isHung = false;
  const patienceOver = host.after(ENGINE_LIMITS.firstTokenMs, () => {
    isHung = true;
    connection.abort(new Error(NO_FIRST_TOKEN));
  });
  let response: HttpResponse;
  try {
    response = await host.http({
      url: address.baseUrl + path,
      method: "POST",
      headers: { ...headersOf(address), ...(traceparent === undefined ? {} : { traceparent }) },
      body: JSON.stringify(body),
      signal: connection.signal,
    });
  } catch (error) {
    if (isHung) return failed("engine_error", NO_FIRST_TOKEN, null, "hung");
    throw goneOr(error, address.baseUrl);
  } finally {
    patienceOver();
  }
  if (response.status === 200) return response;
  const text = await readText(response, ENGINE_LIMITS.jsonBytes).catch(() => "");
  const told = parseJson(text);
  return refusal(response.status, errorText(told) ?? text, errorCode(told));
}

/** OpenAI's `{error: {code}}`. */
const errorCode = (body: unknown): unknown =>
  (body as { error?: { code?: unknown } | null } | null | undefined)?.error?.code;

export const isOutcome = (value: HttpResponse | EngineOutcome): value is EngineOutcome => "type" in value;

/**
 * Feeds each line to `onLine` until it answers with an outcome. Waits while the hub wants no more; gives up on an
 * engine that says nothing for too long. Rejects with the signal's reason when it is aborted.
 */
export async function readStream(
  host: EngineHost,
  response: HttpResponse,
  options: { signal: AbortSignal; ready(): Promise<void> | undefined },
  onLine: (line: string) => EngineOutcome | null,
): Promise<EngineOutcome> {
  const silence = createSilence(host, () => response.cancel());
  const broken = (why: string): EngineOutcome =>
    silence.over
      ? failed("engine_error", silence.over, null, "hung")
      : failed("engine_error", why, null, "crashed");
  let done = false;
  try {
    for await (const lines of readLines(response, ENGINE_LIMITS)) {
      silence.heard();
      for (const line of lines) {
        const outcome = onLine(line);
        if (!outcome) continue;
        done = outcome.type === "done";
        if (done) response.release();
        return outcome;
      }
      const wait = options.ready();
      if (wait) {
        silence.rest();
        await wait;
        silence.heard();
      }
    }
    options.signal.throwIfAborted();
    return broken("the engine broke off its answer");
  } catch (error) {
    options.signal.throwIfAborted();
    if (error instanceof BodyTooLarge) return failed("engine_error", error.message);
    return broken(error instanceof Error ? error.message : "the stream broke");
  } finally {
    silence.rest();
    if (!done) response.cancel();
  }
}

/** Looks this many times in each span that an engine may be silent: what is silent is noticed within a part of it. */
const LOOKS = 5;

/** A timer that is put off by noting that something was heard, not by making a new one for each token. */
function createSilence(host: EngineHost, onSilent: () => void) {
  let spoke = false;
  let silentLooks = 0;
  let callOff: (() => void) | null = null;
  const self = {
    /** What is said of it once it is over. */
    over: null as string | null,
    heard() {
      silentLooks = 0;
      if (!spoke) self.rest();
      spoke = true;
      callOff ??= look();
    },
    rest() {
      callOff?.();
      callOff = null;
    },
  };
  function look(): () => void {
    return host.after(spoke ? ENGINE_LIMITS.stallMs / LOOKS : ENGINE_LIMITS.firstTokenMs, () => {
      callOff = null;
      if (spoke && ++silentLooks <= LOOKS) {
        callOff = look();
        return;
      }
      self.over = spoke ? "the engine fell silent in the middle of its answer" : NO_FIRST_TOKEN;
      onSilent();
    });
  }
  callOff = look();
  return self;
}

/** The message in an error body of Ollama (`{error: "…"}`), OpenAI (`{error: {message}}`) or vLLM (`{message}`). */
export function errorText(body: unknown): string | undefined {
  if (typeof body !== "object" || body === null) return undefined;
  const { error, message } = body as { error?: unknown; message?: unknown };
  if (typeof error === "string") return error;
  if (typeof error === "object" && error !== null) {
    const inner = (error as { message?: unknown }).message;
    return typeof inner === "string" ? inner : JSON.stringify(error);
  }
  return typeof message === "string" ? message : undefined;
}

const TOO_LONG =
  /exceeds? the (available )?context|maximum context length|context length exceeded|context_length_exceeded|input length|too many tokens|prompt is too long|longer than the (maximum )?(model|context)/i;

/** An engine's refusal in the link's words; `code` is the engine's own. */
export function refusal(status: number, message: string, code?: unknown): EngineOutcome {
  const text = message.slice(0, ENGINE_LIMITS.errorTextLength) || `the engine answered ${status}`;
  if (TOO_LONG.test(message)) return failed("context_length_exceeded", text);
  return failed(codeOf(status), text, null, faultOf(status, message, code));
}

function codeOf(status: number): AttemptFailure {
  if (status === 400 || status === 413 || status === 422) return "engine_refused";
  if (status === 429 || status === 503) return "busy";
  if (status === 501) return "unsupported";
  return "engine_error";
}
