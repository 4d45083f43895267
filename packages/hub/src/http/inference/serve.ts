/**
 * From a job to the caller's connection, whatever the dialect: run it, stop it when the caller hangs up, and end with
 * an answer or with an error in the dialect's shape. A dialect makes the JobRequest and a StreamedAnswer, or writes
 * the gathered whole.
 */
import type { ServerResponse } from "node:http";
import { GfeError } from "@gfe/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { JobOutcome, JobRequest, JobSink, Jobs } from "../../jobs/types.ts";
import { withSpan } from "../../tracing/request-trace.ts";
import { ANSWER_HEADERS } from "../security-headers.ts";
import { rateHeaders, takeTokens } from "./allowance.ts";
import { Gatherer } from "./answer.ts";
import { withPriority } from "./priority.ts";
import type { StreamWriter } from "./stream-writer.ts";

/** A job's answer in pieces, in one dialect. */
export interface StreamedAnswer extends JobSink {
  readonly writer: StreamWriter;
  /** The end of a completed job. Must not reject. */
  finish(outcome: JobOutcome): void | Promise<void>;
  /** The end of a broken one, after its headers went. */
  fail(error: GfeError, outcome?: JobOutcome): void;
}

/** An error's body before the headers went. */
export type ErrorBody = (error: GfeError) => object;

/** Runs a job and streams its answer; resolves when the last byte was handed over. Never rejects. */
export async function serveStream(
  jobs: Jobs,
  request: FastifyRequest,
  reply: FastifyReply,
  job: JobRequest,
  answer: StreamedAnswer,
  errorBody: ErrorBody,
): Promise<void> {
  const signal = hangUpSignal(request.raw.socket, reply.raw);
  const { writer } = answer;
  reply.hijack();
  let outcome: JobOutcome | undefined;
  let error: GfeError | undefined;
  try {
    outcome = await runLimited(request, job, (limited) => {
      for (const [name, value] of Object.entries(rateHeaders(request))) writer.setHeader(name, value);
      return jobs.run(limited, answer, signal, writer);
    });
    error = outcome.error;
  } catch (cause) {
    error = cause instanceof GfeError ? cause : new GfeError("internal", undefined, { cause });
    if (error.code === "internal")
      request.log.error({ error: cause instanceof Error ? cause.stack : String(cause) }, "job broke");
  }
  if (signal.aborted) return writer.abandon();
  if (!error) return answer.finish(outcome!);
  if (writer.headersSent) return answer.fail(error, outcome);
  writer.abandon();
  sendError(reply.raw, error, request, errorBody);
}

/**
 * Runs a job and gathers its answer; names job, node, the most that it could cost and what it did cost in the headers.
 * Throws what broke it.
 */
export async function serveWhole(
  jobs: Jobs,
  request: FastifyRequest,
  reply: FastifyReply,
  job: JobRequest,
): Promise<{ gathered: Gatherer; outcome: JobOutcome }> {
  const gathered = new Gatherer();
  const signal = hangUpSignal(request.raw.socket, reply.raw);
  const outcome = await runLimited(request, job, (limited) => jobs.run(limited, gathered, signal));
  if (outcome.error) throw outcome.error;
  reply.header("x-gfe-job", outcome.jobId).header("x-gfe-provider", outcome.nodeId ?? "");
  reply.header("x-gfe-quote", outcome.quote.capMicro.toString());
  reply.header("x-gfe-cost", outcome.costMicro.toString());
  return { gathered, outcome };
}

/** With the priority that the header asks for, and within what the rate limits leave. */
async function runLimited(
  request: FastifyRequest,
  job: JobRequest,
  run: (job: JobRequest) => Promise<JobOutcome>,
): Promise<JobOutcome> {
  const prioritised = withPriority(job, request);
  const ended = takeTokens(request, prioritised);
  let outcome: JobOutcome | undefined;
  try {
    outcome = await run(withSpan(prioritised, request));
    return outcome;
  } finally {
    ended(outcome);
  }
}

function sendError(
  response: ServerResponse,
  error: GfeError,
  request: FastifyRequest,
  errorBody: ErrorBody,
): void {
  const body = JSON.stringify(errorBody(error));
  response.writeHead(error.status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": request.id,
    ...ANSWER_HEADERS,
    ...rateHeaders(request),
    ...(error.retryAfterS === undefined ? {} : { "retry-after": String(error.retryAfterS) }),
  });
  response.end(body);
}

/** Aborts when the caller's connection closes before the answer was written. */
function hangUpSignal(socket: { destroyed: boolean }, response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  if (socket.destroyed) controller.abort();
  else response.once("close", () => response.writableFinished || controller.abort());
  return controller.signal;
}
