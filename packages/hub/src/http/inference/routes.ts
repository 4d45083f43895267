/**
 * /v1 in OpenAI's dialect: chat completions, completions, embeddings, models. Thin: check the body, find the payer,
 * hand over to jobs/, write the answer in the shape that was asked for.
 */
import type { ServerResponse } from "node:http";
import { GfeError, toOpenAiError } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { JobOutcome, JobRequest, Jobs, Payer } from "../../jobs/types.ts";
import type { NodeEntry } from "../../market/registry.ts";
import { parseBody } from "../parse.ts";
import { type AnswerHead, Gatherer } from "./answer.ts";
import { chatRequest, completionRequest, embeddingsRequest } from "./requests.ts";
import { chatBodySchema, completionBodySchema, embeddingsBodySchema } from "./schemas.ts";
import { AnswerStream } from "./stream.ts";

export interface InferenceDeps {
  jobs: Jobs;
  /** Who pays for this call. Throws GfeError (401, 403). */
  payerOf(request: FastifyRequest): Promise<Payer>;
  /** The models on offer now. */
  models(): Iterable<string>;
  nodesOf(model: string): readonly NodeEntry[];
  nowMs: () => number;
}

export function registerInference(app: FastifyInstance, deps: InferenceDeps): void {
  const tags = ["inference"];

  app.post(
    "/v1/chat/completions",
    { schema: { tags, summary: "Chat, streamed or whole" } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const body = parseBody(chatBodySchema, request.body);
      const job = chatRequest(body, payer);
      const shape = {
        type: "chat",
        stream: body.stream === true,
        includeUsage: body.stream_options?.include_usage === true,
      } as const;
      return answer(deps, request, reply, job, shape);
    },
  );

  app.post(
    "/v1/completions",
    { schema: { tags, summary: "Completion of a prompt" } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const body = parseBody(completionBodySchema, request.body);
      const job = completionRequest(body, payer);
      const shape = {
        type: "completion",
        stream: body.stream === true,
        includeUsage: body.stream_options?.include_usage === true,
      } as const;
      return answer(deps, request, reply, job, shape);
    },
  );

  app.post("/v1/embeddings", { schema: { tags, summary: "Embeddings of texts" } }, async (request, reply) => {
    const payer = await deps.payerOf(request);
    const body = parseBody(embeddingsBodySchema, request.body);
    const gathered = new Gatherer();
    const outcome = await deps.jobs.run(
      embeddingsRequest(body, payer),
      gathered,
      hangUpSignal(request.raw.socket, reply.raw),
    );
    if (outcome.error) throw outcome.error;
    reply.header("x-gfe-job", outcome.jobId).header("x-gfe-provider", outcome.nodeId ?? "");
    return gathered.embeddingsAnswer(body.model, body.encoding_format ?? "float", outcome);
  });

  app.get("/v1/models", { schema: { tags, summary: "Models on offer" } }, async () => ({
    object: "list",
    data: [...deps.models()].sort().map((model) => modelWire(model, deps.nodesOf(model))),
  }));

  app.get("/v1/models/*", { schema: { tags, summary: "One model" } }, async (request) => {
    const model = (request.params as { "*": string })["*"];
    const nodes = deps.nodesOf(model);
    if (nodes.length === 0)
      throw new GfeError("model_not_found", `No node offers the model ${JSON.stringify(model)}`, {
        param: "model",
      });
    return modelWire(model, nodes);
  });
}

interface Shape {
  type: "chat" | "completion";
  stream: boolean;
  includeUsage: boolean;
}

async function answer(
  deps: InferenceDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  job: JobRequest,
  shape: Shape,
): Promise<unknown> {
  const created = Math.floor(deps.nowMs() / 1000);
  const signal = hangUpSignal(request.raw.socket, reply.raw);
  if (shape.stream) return streamAnswer(deps, request, reply, job, shape, signal);
  const gathered = new Gatherer();
  const outcome = await deps.jobs.run(job, gathered, signal);
  if (outcome.error) throw outcome.error;
  const head: AnswerHead = { id: answerId(shape.type, request.id), created, model: job.model };
  reply.header("x-gfe-job", outcome.jobId).header("x-gfe-provider", outcome.nodeId ?? "");
  reply.header("x-gfe-cost", outcome.costMicro.toString());
  return shape.type === "chat"
    ? gathered.chatAnswer(head, outcome)
    : gathered.completionAnswer(head, outcome);
}

async function streamAnswer(
  deps: InferenceDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  job: JobRequest,
  shape: Shape,
  signal: AbortSignal,
): Promise<void> {
  const stream = new AnswerStream({
    response: reply.raw,
    head: {
      id: answerId(shape.type, request.id),
      created: Math.floor(deps.nowMs() / 1000),
      model: job.model,
    },
    shape: shape.type,
    includeUsage: shape.includeUsage,
    headers: { "x-request-id": request.id },
  });
  reply.hijack();
  let outcome: JobOutcome | undefined;
  let error: GfeError | undefined;
  try {
    outcome = await deps.jobs.run(job, stream, signal, stream);
    error = outcome.error;
  } catch (cause) {
    error = cause instanceof GfeError ? cause : new GfeError("internal", undefined, { cause });
    if (error.code === "internal")
      request.log.error({ error: cause instanceof Error ? cause.stack : String(cause) }, "job broke");
  }
  if (signal.aborted) return stream.abandon();
  if (!error) return stream.finish(outcome!);
  if (stream.headersSent) return stream.fail(error, outcome);
  stream.abandon();
  sendError(reply.raw, error, request.id);
}

function sendError(response: ServerResponse, error: GfeError, requestId: string): void {
  const body = JSON.stringify(toOpenAiError(error));
  response.writeHead(error.status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": requestId,
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

function answerId(type: Shape["type"], requestId: string): string {
  return `${type === "chat" ? "chatcmpl" : "cmpl"}-${requestId.replace(/^req_/, "")}`;
}

function modelWire(model: string, nodes: readonly NodeEntry[]) {
  const offers = nodes.flatMap((node) => node.announcement.models.filter((offer) => offer.model === model));
  return {
    id: model,
    object: "model",
    created: Math.floor(Math.min(...nodes.map((node) => node.connectedAt.getTime())) / 1000),
    owned_by: "gpu-for-everyone",
    x_gfe: {
      nodes: nodes.length,
      context_length: Math.max(...offers.map((offer) => offer.context_length)),
      capabilities: [...new Set(offers.flatMap((offer) => offer.capabilities))].sort(),
      scripted: offers.every((offer) => offer.engine === "scripted"),
    },
  };
}
