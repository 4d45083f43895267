/**
 * Ollama's API on the hub, for clients that speak nothing else: thin translations onto the internal request. Streams
 * unless `stream` is false, as Ollama does. The key goes as `Authorization: Bearer …`.
 */
import { GfeError, toOllamaError } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { JobRequest } from "../../jobs/types.ts";
import type { Gatherer } from "../inference/answer.ts";
import { chatRequest, embeddingsRequest } from "../inference/requests.ts";
import type { InferenceDeps } from "../inference/routes.ts";
import { serveStream, serveWhole } from "../inference/serve.ts";
import { inWords, namedIn } from "../inference/words.ts";
import { parseBody } from "../parse.ts";
import { endWire, type OllamaHead, OllamaStream, saidWire, ToolCalls } from "./answer.ts";
import { offeredName, runningWire, showWire, tagWire } from "./models.ts";
import {
  ollamaChatSchema,
  ollamaEmbeddingsSchema,
  ollamaEmbedSchema,
  ollamaGenerateSchema,
  ollamaShowSchema,
} from "./schemas.ts";
import { chatBodyOf, generateBodyOf, OLLAMA_NAMES } from "./translate.ts";

/** The release whose API is spoken here: clients ask before they use what is newer. */
const OLLAMA_VERSION = "0.13.2";
const tags = ["ollama"];

export function registerOllama(app: FastifyInstance, deps: InferenceDeps): void {
  registerModels(app, deps);
  registerEmbeddings(app, deps);

  app.post("/api/chat", { schema: { tags, summary: "Chat, as Ollama does" } }, async (request, reply) => {
    const payer = await deps.payerOf(request);
    const body = parseBody(ollamaChatSchema, request.body);
    if (body.messages.length === 0) return loaded(deps, "chat", body.model, body.keep_alive);
    const job = chatRequest(chatBodyOf(body), payer);
    return answer(deps, request, reply, job, "chat");
  });

  app.post(
    "/api/generate",
    { schema: { tags, summary: "Answer to a prompt, as Ollama does" } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const body = parseBody(ollamaGenerateSchema, request.body);
      if (body.prompt === "" && !body.images?.length)
        return loaded(deps, "generate", body.model, body.keep_alive);
      const job = chatRequest(generateBodyOf(body), payer);
      return answer(deps, request, reply, job, "generate");
    },
  );
}

function registerModels(app: FastifyInstance, deps: InferenceDeps): void {
  app.get("/api/version", { schema: { tags, summary: "The version of Ollama's API" } }, async () => ({
    version: OLLAMA_VERSION,
  }));

  app.get("/api/tags", { schema: { tags, summary: "Models on offer, as Ollama lists them" } }, async () => ({
    models: [...deps.models()].sort().map((model) => tagWire(deps, model)),
  }));

  app.get("/api/ps", { schema: { tags, summary: "Models at work, as Ollama lists them" } }, async () => ({
    models: runningWire(deps, deps.nowMs()),
  }));

  app.post("/api/show", { schema: { tags, summary: "One model, as Ollama shows it" } }, async (request) => {
    const { model, name } = parseBody(ollamaShowSchema, request.body);
    return showWire(deps, offeredOrThrow(deps, model ?? name ?? ""));
  });
}

function registerEmbeddings(app: FastifyInstance, deps: InferenceDeps): void {
  app.post(
    "/api/embed",
    { schema: { tags, summary: "Embeddings, as Ollama does" } },
    async (request, reply) => {
      const startedMs = deps.nowMs();
      const payer = await deps.payerOf(request);
      const { model, input } = parseBody(ollamaEmbedSchema, request.body);
      const job = embeddingsRequest({ model: offeredName(deps, model), input }, payer);
      const { gathered, outcome } = await whole(deps.jobs, request, reply, job);
      return {
        model,
        embeddings: vectorsOf(gathered, job.model, outcome),
        total_duration: Math.round((deps.nowMs() - startedMs) * 1e6),
        load_duration: 0,
        prompt_eval_count: outcome.usage.input_tokens,
      };
    },
  );

  app.post(
    "/api/embeddings",
    { schema: { tags, summary: "One embedding, as Ollama did before /api/embed", deprecated: true } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const { model, prompt } = parseBody(ollamaEmbeddingsSchema, request.body);
      const job = embeddingsRequest({ model: offeredName(deps, model), input: prompt }, payer);
      const { gathered, outcome } = await whole(deps.jobs, request, reply, job);
      return { embedding: vectorsOf(gathered, job.model, outcome)[0] ?? [] };
    },
  );
}

async function answer(
  deps: InferenceDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: JobRequest,
  shape: OllamaHead["shape"],
): Promise<unknown> {
  const { nowMs } = deps;
  const head: OllamaHead = { shape, model: asked.model, nowMs, startedMs: nowMs() };
  const job = { ...asked, model: offeredName(deps, asked.model) };
  if (!job.whole) {
    const stream = new OllamaStream(reply.raw, head, { "x-request-id": request.id });
    return serveStream(deps.jobs, request, reply, job, stream, (error) =>
      toOllamaError(inWords(error, OLLAMA_NAMES)),
    );
  }
  const { gathered, outcome } = await whole(deps.jobs, request, reply, job);
  const [choice] = gathered.chatAnswer({ id: "", created: 0, model: head.model }, outcome).choices;
  const { message, logprobs } = choice!;
  const calls = new ToolCalls();
  calls.add((message.tool_calls ?? []).map((call, index) => ({ index, ...call })));
  const said = {
    content: message.content ?? "",
    thinking: message.reasoning_content ?? "",
    toolCalls: calls.whole(),
    logprobs: logprobs?.content ?? [],
  };
  return { ...saidWire(head, said), ...endWire(head, outcome) };
}

/** serveWhole, its faults in Ollama's words. */
const whole = (...given: Parameters<typeof serveWhole>) => namedIn(OLLAMA_NAMES, serveWhole(...given));

function vectorsOf(gathered: Gatherer, model: string, outcome: Parameters<Gatherer["embeddingsAnswer"]>[2]) {
  return gathered.embeddingsAnswer(model, "float", outcome).data.map(({ embedding }) => embedding);
}

/** What Ollama answers to a request that says nothing: the model is (un)loaded. Here it is there, and costs nothing. */
function loaded(deps: InferenceDeps, shape: OllamaHead["shape"], model: string, keepAlive: unknown): object {
  offeredOrThrow(deps, model);
  const head = { shape, model, nowMs: deps.nowMs, startedMs: deps.nowMs() };
  const done_reason = keepAlive === 0 || keepAlive === "0" ? "unload" : "load";
  return { ...saidWire(head, { content: "" }), done: true, done_reason };
}

function offeredOrThrow(deps: InferenceDeps, asked: string): string {
  const model = offeredName(deps, asked);
  if (deps.nodesOf(model).length > 0) return model;
  throw new GfeError("model_not_found", `model ${JSON.stringify(asked)} not found: no node offers it`, {
    param: "model",
  });
}
