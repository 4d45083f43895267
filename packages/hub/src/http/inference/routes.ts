/**
 * /v1 in OpenAI's dialect: chat completions, completions, embeddings, models. Thin: check the body, find the payer,
 * hand over to jobs/, write the answer in the shape that was asked for.
 */
import { GfeError, toOpenAiError } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { JobRequest, Jobs, Payer } from "../../jobs/types.ts";
import type { Explanation } from "../../market/explain.ts";
import { type NodeEntry, offeredAs } from "../../market/registry.ts";
import { anthropicModel, anthropicModels, asksForAnthropic } from "../anthropic/models.ts";
import { parseBody } from "../parse.ts";
import type { AnswerHead } from "./answer.ts";
import { chatRequest, completionRequest, embeddingsRequest } from "./requests.ts";
import { chatBodySchema, completionBodySchema, embeddingsBodySchema } from "./schemas.ts";
import { serveStream, serveWhole } from "./serve.ts";
import { AnswerStream } from "./stream.ts";

export interface InferenceDeps {
  jobs: Jobs;
  /** Who pays for this call. Throws GfeError (401, 403). */
  payerOf(request: FastifyRequest): Promise<Payer>;
  /** The models on offer now. */
  models(): Iterable<string>;
  nodesOf(model: string): readonly NodeEntry[];
  nowMs: () => number;
  /** Which nodes a job would be matched with and why; runs nothing. */
  explain(job: JobRequest): Explanation;
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
      if (asksToExplain(request)) return deps.explain(job);
      const shape = {
        type: "chat",
        stream: body.stream === true,
        includeUsage: body.stream_options?.include_usage === true || body.usage?.include === true,
      } as const;
      return answer(deps, request, reply, job, shape);
    },
  );

  app.post(
    "/api/v1/match/explain",
    {
      schema: {
        tags: ["market"],
        summary: "Which nodes a chat would be matched with, and why; nothing runs and nothing is charged",
      },
    },
    async (request) => {
      const payer = await deps.payerOf(request);
      return deps.explain(chatRequest(parseBody(chatBodySchema, request.body), payer));
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
        includeUsage: body.stream_options?.include_usage === true || body.usage?.include === true,
      } as const;
      return answer(deps, request, reply, job, shape);
    },
  );

  app.post("/v1/embeddings", { schema: { tags, summary: "Embeddings of texts" } }, async (request, reply) => {
    const payer = await deps.payerOf(request);
    const body = parseBody(embeddingsBodySchema, request.body);
    const job = embeddingsRequest(body, payer);
    const { gathered, outcome } = await serveWhole(deps.jobs, request, reply, job);
    return gathered.embeddingsAnswer(body.model, body.encoding_format ?? "float", outcome);
  });

  app.get("/v1/models", { schema: { tags, summary: "Models on offer" } }, async (request) => {
    const models = [...deps.models()].sort();
    return asksForAnthropic(request)
      ? anthropicModels(models.map((model) => anthropicModel(model, deps.nodesOf(model))))
      : { object: "list", data: models.map((model) => modelWire(model, deps.nodesOf(model))) };
  });

  app.get("/v1/models/*", { schema: { tags, summary: "One model" } }, async (request) => {
    const model = (request.params as { "*": string })["*"];
    const nodes = deps.nodesOf(model);
    if (nodes.length === 0)
      throw new GfeError("model_not_found", `No node offers the model ${JSON.stringify(model)}`, {
        param: "model",
      });
    return asksForAnthropic(request) ? anthropicModel(model, nodes) : modelWire(model, nodes);
  });
}

/** `?explain`, but for `?explain=false` and `?explain=0`. */
function asksToExplain({ query }: FastifyRequest): boolean {
  const { explain } = query as { explain?: string };
  return explain !== undefined && explain !== "false" && explain !== "0";
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
  if (shape.stream) return streamAnswer(deps, request, reply, job, shape);
  const { gathered, outcome } = await serveWhole(deps.jobs, request, reply, job);
  const head: AnswerHead = { id: answerId(shape.type, request.id), created, model: job.model };
  return shape.type === "chat"
    ? gathered.chatAnswer(head, outcome)
    : gathered.completionAnswer(head, outcome);
}

function streamAnswer(
  deps: InferenceDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  job: JobRequest,
  shape: Shape,
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
  return serveStream(deps.jobs, request, reply, job, stream, toOpenAiError);
}

function answerId(type: Shape["type"], requestId: string): string {
  return `${type === "chat" ? "chatcmpl" : "cmpl"}-${requestId.replace(/^req_/, "")}`;
}

function modelWire(model: string, nodes: readonly NodeEntry[]) {
  const offers = nodes.flatMap((node) => offeredAs(node, model));
  return {
    id: model,
    object: "model",
    created: Math.floor(Math.min(...nodes.map((node) => node.connectedAt.getTime())) / 1000),
    owned_by: "gpu-for-everyone",
    x_gfe: {
      nodes: nodes.length,
      context_length: Math.max(...offers.map((offer) => offer.context_length)),
      capabilities: [...new Set(offers.flatMap((offer) => offer.capabilities))].sort(),
      aliases: [...new Set(offers.flatMap((offer) => offer.aliases ?? []))].sort(),
      scripted: offers.every((offer) => offer.engine === "scripted"),
    },
  };
}
