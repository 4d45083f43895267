/**
 * One try of a job on one node.
 *
 *   waiting ──first delta──► streaming ──done──► ended (done)
 *      │                        │──failed──────► ended (failed: nothing or a part was delivered)
 *      │                        └──node_lost───► ended (failed)
 *      ├── first token, stall or total time is up ──► cancelling ──receipt, failure or its bound──► ended (failed)
 *      ├── the hub stops ───────────────────────────► cancelling ──…──────────────────────────────► ended (failed)
 *      └── the caller went away ────────────────────► cancelling ──…──────────────────────────────► ended (cancelled)
 *
 * After `ended` nothing reaches the caller any more, whatever comes late or twice.
 */
import {
  type AttemptFailure,
  type AttemptStart,
  choiceDeltaSchema,
  type DeltaKind,
  deltaKind,
  type ErrorCode,
  embeddingsDeltaSchema,
  type FinishReason,
  GfeError,
  type SignedReceipt,
} from "@gfe/protocol";
import type { Delivered } from "../billing/bill.ts";
import type { AttemptHandle, Dispatcher } from "./dispatcher.ts";
import { stopReason } from "./stop.ts";
import type { FlowControl, JobSink } from "./types.ts";

export interface AttemptTimeouts {
  firstTokenMs: number;
  /** Silence between deltas. */
  stallMs: number;
  /** How long a cancelled node has to send its receipt. */
  receiptMs: number;
}

/** Bytes that one attempt may deliver; above it the attempt is cancelled as the engine's failure. */
export const ATTEMPT_BYTES_MAX = 64 * 1024 * 1024;

export interface AttemptEnd {
  state: "done" | "failed" | "cancelled";
  finish: FinishReason[];
  receipt: SignedReceipt | undefined;
  delivered: Delivered;
  /** Null when nothing came. */
  firstDeltaAtMs: number | null;
  error?: GfeError;
  /** Whether another node may do better. */
  retryable: boolean;
}

export interface AttemptOptions {
  dispatcher: Dispatcher;
  nodeId: string;
  start: Omit<AttemptStart, "type" | "channel">;
  sink: JobSink;
  signal: AbortSignal;
  flow: FlowControl | undefined;
  timeouts: AttemptTimeouts;
  /** When the whole job must have ended, on the clock of `nowMs`. */
  deadlineAtMs: number;
  nowMs: () => number;
}

const failureCode: Record<AttemptFailure | "node_lost", { code: ErrorCode; retryable: boolean }> = {
  engine_error: { code: "engine_failed", retryable: true },
  engine_refused: { code: "invalid_request", retryable: false },
  context_length_exceeded: { code: "context_length_exceeded", retryable: false },
  unsupported: { code: "unsupported_parameter", retryable: true },
  busy: { code: "no_slot", retryable: true },
  cancelled: { code: "engine_failed", retryable: true },
  draining: { code: "node_lost", retryable: true },
  timeout: { code: "stalled", retryable: true },
  node_lost: { code: "node_lost", retryable: true },
};

/** Runs to its end; never rejects. */
export function runAttempt(options: AttemptOptions): Promise<AttemptEnd> {
  const { dispatcher, nodeId, start, sink, signal, flow, timeouts, nowMs } = options;
  const decodeText = new TextDecoder();
  const decodeReasoning = new TextDecoder();
  const delivered: Delivered = { bytes: 0, deltas: 0, vectors: 0 };
  let firstDeltaAtMs: number | null = null;
  let cancelled: { state: "failed" | "cancelled"; error: GfeError } | null = null;
  let ended = false;
  let handle: AttemptHandle | null = null;
  let silence: NodeJS.Timeout | undefined;

  return new Promise((resolve) => {
    const end = (
      outcome: Pick<AttemptEnd, "state" | "finish" | "receipt" | "retryable"> & { error?: GfeError },
    ) => {
      if (ended) return;
      ended = true;
      clearTimeout(silence);
      clearTimeout(total);
      signal.removeEventListener("abort", onAbort);
      handle?.forget();
      resolve({ ...outcome, delivered, firstDeltaAtMs });
    };

    /** Tells the node to stop and waits a bounded while for its receipt. */
    const cancel = (state: "failed" | "cancelled", error: GfeError) => {
      if (ended || cancelled) return;
      cancelled = { state, error };
      clearTimeout(silence);
      handle?.cancel(error.code);
      silence = setTimeout(
        () => end({ state, error, finish: [], receipt: undefined, retryable: state === "failed" }),
        timeouts.receiptMs,
      );
    };
    const stopped = () => {
      const error = stopReason(signal);
      return { state: error.code === "cancelled" ? "cancelled" : "failed", error } as const;
    };
    const onAbort = () => {
      const { state, error } = stopped();
      cancel(state, error);
    };
    const onSilence = () =>
      cancel("failed", new GfeError(firstDeltaAtMs === null ? "first_token_timeout" : "stalled"));

    const total = setTimeout(
      () => cancel("failed", new GfeError("total_timeout")),
      Math.max(0, options.deadlineAtMs - nowMs()),
    );
    silence = setTimeout(onSilence, timeouts.firstTokenMs);
    if (signal.aborted) {
      end({ ...stopped(), finish: [], receipt: undefined, retryable: false });
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });

    handle = dispatcher.start(nodeId, start, {
      delta(kind, payload) {
        if (ended || cancelled) return;
        if (firstDeltaAtMs === null) {
          firstDeltaAtMs = nowMs();
          clearTimeout(silence);
          silence = setTimeout(onSilence, timeouts.stallMs);
        } else silence!.refresh();
        const problem = relay(kind, payload, sink, delivered, decodeText, decodeReasoning);
        if (problem !== null) cancel("failed", new GfeError("engine_failed", problem));
      },
      done(finish, receipt) {
        if (cancelled) end({ ...cancelled, finish: [], receipt, retryable: false });
        else end({ state: "done", finish, receipt, retryable: false });
      },
      failed(failure, message, receipt) {
        if (cancelled)
          return end({ ...cancelled, finish: [], receipt, retryable: cancelled.state === "failed" });
        const { code, retryable } = failureCode[failure];
        end({
          state: "failed",
          error: new GfeError(code, publicMessage(code, message), paramNamed(code, message, start.body)),
          finish: [],
          receipt,
          retryable,
        });
      },
    });
    if (!handle) {
      const error = new GfeError("node_lost");
      end({ state: "failed", error, finish: [], receipt: undefined, retryable: true });
    } else flow?.attach(handle);
  });
}

/** An engine's own words help its caller only where the request was at fault. */
function publicMessage(code: ErrorCode, message: string): string | undefined {
  return code === "invalid_request" || code === "context_length_exceeded" || code === "unsupported_parameter"
    ? message
    : undefined;
}

/** The parameter that an engine can't honour, which its words begin with. */
function paramNamed(code: ErrorCode, message: string, body: Record<string, unknown>): { param?: string } {
  const param = code === "unsupported_parameter" ? /^(\w+):/.exec(message)?.[1] : undefined;
  return param !== undefined && Object.hasOwn(body, param) ? { param } : {};
}

/** Passes one delta on and counts it. Returns what is wrong with it, if anything. */
function relay(
  kind: DeltaKind,
  payload: Uint8Array,
  sink: JobSink,
  delivered: Delivered,
  decodeText: TextDecoder,
  decodeReasoning: TextDecoder,
): string | null {
  if (delivered.bytes + payload.byteLength > ATTEMPT_BYTES_MAX) return "The answer is larger than the limit";
  switch (kind) {
    case deltaKind.text:
    case deltaKind.reasoning: {
      delivered.bytes += payload.byteLength;
      delivered.deltas++;
      const isText = kind === deltaKind.text;
      const text = (isText ? decodeText : decodeReasoning).decode(payload, { stream: true });
      if (text !== "") isText ? sink.text(text) : sink.reasoning(text);
      return null;
    }
    case deltaKind.choice: {
      const delta = choiceDeltaSchema.safeParse(parseJson(payload));
      if (!delta.success) return "The node sent a malformed delta";
      const { content = "", reasoning = "", tool_calls: calls = [] } = delta.data;
      const spoken =
        content +
        reasoning +
        calls.map((call) => `${call.function?.name ?? ""}${call.function?.arguments ?? ""}`).join("");
      delivered.bytes += Buffer.byteLength(spoken);
      delivered.deltas++;
      sink.choice(delta.data);
      return null;
    }
    case deltaKind.embeddings: {
      const delta = embeddingsDeltaSchema.safeParse(parseJson(payload));
      if (!delta.success) return "The node sent malformed embeddings";
      delivered.vectors += delta.data.vectors.length;
      sink.embeddings(delta.data);
      return null;
    }
  }
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
}
