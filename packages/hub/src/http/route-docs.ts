/**
 * What the routes' own schemas do not say, for the OpenAPI document only: nothing here checks a request or shapes an
 * answer. Bodies of /v1 are checked by hand (parse.ts), after the key and off Fastify's way; their schemas are the same.
 */
import { quoteSchema, releaseManifestSchema, usageSchema } from "@gfe/protocol";
import { z } from "zod";
import { NEEDS } from "../market/needs.ts";
import { countTokensBodySchema, messagesBodySchema } from "./anthropic/schemas.ts";
import { createBatchSchema } from "./batch/batches.ts";
import { chatBodySchema, completionBodySchema, embeddingsBodySchema } from "./inference/schemas.ts";
import {
  ollamaChatSchema,
  ollamaEmbeddingsSchema,
  ollamaEmbedSchema,
  ollamaGenerateSchema,
  ollamaShowSchema,
} from "./ollama/schemas.ts";
import { responsesBodySchema } from "./responses/schemas.ts";

type Content = { description: string; content: Record<string, { schema: z.ZodType }> };
export interface RouteDoc {
  body?: z.ZodType;
  response?: Record<number, z.ZodType | Content>;
  /** Answers without credentials. */
  open?: true;
}

const micro = z.string().regex(/^-?\d+$/);
const nothing = { 204: z.null().describe("Done") };

const usage = z.looseObject({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
});
const paid = z
  .object({
    job_id: z.string(),
    node_id: z.string().nullable(),
    node_name: z.string().nullable(),
    nodes: z.array(z.string()),
    cost_micro: micro,
    fee_micro: micro,
    provider_micro: micro,
    cost_credits: z.string(),
    quote: quoteSchema,
    usage: usageSchema,
  })
  .describe("What it cost, and who gave the answer");
const head = { id: z.string(), created: z.int(), model: z.string() };
const finish = z.enum(["stop", "length", "tool_calls", "content_filter", "function_call"]);
const message = z.looseObject({
  role: z.literal("assistant"),
  content: z.string().nullable(),
  reasoning_content: z.string().optional(),
});
const chatAnswer = z.object({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(z.looseObject({ index: z.int(), message, finish_reason: finish })),
  usage,
  x_gfe: paid,
});
const chatChunk = z.object({
  ...head,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(
    z.looseObject({ index: z.int(), delta: message.partial(), finish_reason: finish.nullable() }),
  ),
  usage: usage.nullable().optional(),
  x_gfe: paid.optional(),
});
const completionAnswer = z.object({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(z.looseObject({ index: z.int(), text: z.string(), finish_reason: finish.nullable() })),
  usage: usage.nullable().optional(),
  x_gfe: paid.optional(),
});
const embeddingsAnswer = z.object({
  object: z.literal("list"),
  model: z.string(),
  data: z.array(
    z.object({
      object: z.literal("embedding"),
      index: z.int(),
      embedding: z.union([z.array(z.number()), z.base64()]),
    }),
  ),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
  x_gfe: paid,
});
const model = z.looseObject({ id: z.string(), object: z.literal("model"), created: z.int() });

/** The whole answer, or chunks of it as server-sent events that end with `data: [DONE]`. */
const wholeOrStream = (whole: z.ZodType, chunk: z.ZodType): Content => ({
  description: "The answer; with `stream`, its chunks as events, then `data: [DONE]`",
  content: { "application/json": { schema: whole }, "text/event-stream": { schema: chunk } },
});
const plain = (description: string, type: string): Content => ({
  description,
  content: { [type]: { schema: z.string() } },
});

const line = z.looseObject({ model: z.string(), created_at: z.iso.datetime(), done: z.boolean() });
const lines: Content = {
  description: "The answer as lines of JSON; with `stream: false`, as one object",
  content: { "application/x-ndjson": { schema: line }, "application/json": { schema: line } },
};
const response = z.looseObject({
  id: z.string(),
  object: z.literal("response"),
  created_at: z.int(),
  status: z.enum(["completed", "incomplete"]),
  model: z.string(),
  output: z.array(z.looseObject({ id: z.string(), type: z.enum(["message", "reasoning", "function_call"]) })),
  usage: z.looseObject({ input_tokens: z.int(), output_tokens: z.int(), total_tokens: z.int() }),
});
const anthropicMessage = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(z.looseObject({ type: z.enum(["text", "thinking", "tool_use"]) })),
  stop_reason: z.enum(["end_turn", "max_tokens", "tool_use", "refusal"]),
  stop_sequence: z.null(),
  usage: z.object({
    input_tokens: z.int(),
    cache_creation_input_tokens: z.int(),
    cache_read_input_tokens: z.int(),
    output_tokens: z.int(),
  }),
  x_gfe: paid,
});
const ollamaModels = z.object({
  models: z.array(z.looseObject({ name: z.string(), model: z.string(), digest: z.string() })),
});

const credits = z.string().describe("Credits, as a decimal");
const submittedJob = z.object({
  id: z.string(),
  model: z.string(),
  status: z.enum(["pending", "running", "completed", "failed"]),
  prompt: z.string().nullable(),
  result: z.string().nullable(),
  error: z.string().nullable(),
  cost: credits,
  node: z.string().nullable(),
  created_at: z.iso.datetime(),
  completed_at: z.iso.datetime().nullable(),
});
const earned = { earnings: credits, jobs: z.int() };
const providerStats = z.object({
  days: z.int(),
  total_earnings: credits,
  total_jobs_served: z.int(),
  period_earnings: credits,
  period_jobs_served: z.int(),
  active_nodes: z.int(),
  total_nodes: z.int(),
  earnings_by_day: z.array(z.object({ date: z.iso.date(), ...earned })),
  earnings_by_model: z.array(z.object({ model: z.string(), ...earned })),
  consumer: z.object({ total_jobs: z.int(), total_spent: credits }),
  balance: credits,
  transactions: z.array(
    z.object({ id: z.string(), amount: credits, type: z.string(), created_at: z.iso.datetime() }),
  ),
});

const unixTime = z.int().describe("Seconds since 1970");
const file = z.object({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.int(),
  created_at: unixTime,
  expires_at: unixTime,
  filename: z.string(),
  purpose: z.enum(["batch", "batch_output"]),
  status: z.literal("processed"),
});
const uploadForm = z.object({
  file: z.string().meta({ format: "binary" }),
  purpose: z.literal("batch"),
  "expires_after[anchor]": z.literal("created_at").optional(),
  "expires_after[seconds]": z.int().optional(),
});
const batch = z.looseObject({
  id: z.string(),
  object: z.literal("batch"),
  endpoint: z.string(),
  status: z.string(),
  input_file_id: z.string(),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: unixTime,
  request_counts: z.object({ total: z.int(), completed: z.int(), failed: z.int() }),
});
const listOf = (item: z.ZodType) =>
  z.object({
    object: z.literal("list"),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });

const explanation = z.object({
  model: z.string(),
  result: z.string().describe("`matched`, or what stands in the way"),
  reason: z.string().nullable(),
  considered: z.int(),
  offers: z.array(
    z.looseObject({
      node_id: z.string(),
      node_name: z.string(),
      eligible: z.boolean(),
      unmet: z.enum(NEEDS).nullable().describe("The first need that the offer does not meet"),
      chosen: z.boolean(),
      parts: z.record(z.string(), z.union([z.number(), z.boolean()])),
    }),
  ),
});

/** By method and address, as the routes are registered. */
export const routeDocs: Record<string, RouteDoc> = {
  "POST /v1/chat/completions": {
    body: chatBodySchema,
    response: { 200: wholeOrStream(chatAnswer, chatChunk) },
  },
  "POST /api/v1/match/explain": { body: chatBodySchema, response: { 200: explanation } },
  "POST /v1/completions": {
    body: completionBodySchema,
    response: { 200: wholeOrStream(completionAnswer, completionAnswer) },
  },
  "POST /v1/embeddings": { body: embeddingsBodySchema, response: { 200: embeddingsAnswer } },
  "GET /v1/models": {
    open: true,
    response: { 200: z.object({ object: z.literal("list"), data: z.array(model) }) },
  },
  "GET /v1/models/*": { open: true, response: { 200: model } },

  "POST /v1/files": { body: uploadForm, response: { 200: file } },
  "GET /v1/files": { response: { 200: listOf(file) } },
  "GET /v1/files/:id": { response: { 200: file } },
  "GET /v1/files/:id/content": { response: { 200: plain("The file", "application/jsonl") } },
  "DELETE /v1/files/:id": {
    response: { 200: z.object({ id: z.string(), object: z.literal("file"), deleted: z.literal(true) }) },
  },
  "POST /v1/batches": { body: createBatchSchema, response: { 200: batch } },
  "GET /v1/batches": { response: { 200: listOf(batch) } },
  "GET /v1/batches/:id": { response: { 200: batch } },
  "POST /v1/batches/:id/cancel": { response: { 200: batch } },
  "POST /v1/responses": {
    body: responsesBodySchema,
    response: {
      200: {
        description: "The response; with `stream` its events",
        content: {
          "application/json": { schema: response },
          "text/event-stream": { schema: z.string() },
        },
      },
    },
  },
  "GET /v1/responses/:id": { response: { 200: response } },
  "DELETE /v1/responses/:id": {
    response: {
      200: z.object({ id: z.string(), object: z.literal("response"), deleted: z.literal(true) }),
    },
  },
  "GET /v1/responses/:id/input_items": {
    response: { 200: listOf(z.looseObject({ id: z.string(), type: z.string() })) },
  },
  "POST /v1/messages": {
    body: messagesBodySchema,
    response: {
      200: {
        description: "The message; with `stream` its events",
        content: {
          "application/json": { schema: anthropicMessage },
          "text/event-stream": { schema: z.string() },
        },
      },
    },
  },
  "POST /v1/messages/count_tokens": {
    body: countTokensBodySchema,
    response: { 200: z.object({ input_tokens: z.int().describe("An estimate: a quarter of the bytes") }) },
  },
  "POST /api/chat": { body: ollamaChatSchema, response: { 200: lines } },
  "POST /api/generate": { body: ollamaGenerateSchema, response: { 200: lines } },
  "POST /api/embed": {
    body: ollamaEmbedSchema,
    response: { 200: z.looseObject({ model: z.string(), embeddings: z.array(z.array(z.number())) }) },
  },
  "POST /api/embeddings": {
    body: ollamaEmbeddingsSchema,
    response: { 200: z.object({ embedding: z.array(z.number()) }) },
  },
  "POST /api/show": {
    body: ollamaShowSchema,
    open: true,
    response: { 200: z.looseObject({ capabilities: z.array(z.string()) }) },
  },
  "GET /api/tags": { open: true, response: { 200: ollamaModels } },
  "GET /api/ps": { open: true, response: { 200: ollamaModels } },
  "GET /api/version": { open: true, response: { 200: z.object({ version: z.string() }) } },

  "GET /healthz": { open: true, response: { 200: z.object({ status: z.literal("ok") }) } },
  "GET /readyz": {
    open: true,
    response: {
      200: z.object({ status: z.literal("ready") }),
      503: z.object({ status: z.enum(["draining", "database unreachable"]) }),
    },
  },
  "GET /metrics": { open: true, response: { 200: plain("Prometheus' text format", "text/plain") } },

  "GET /download/files/:name": {
    open: true,
    response: { 200: plain("The file", "application/octet-stream") },
  },
  "GET /download/manifest.json": { open: true, response: { 200: releaseManifestSchema } },
  "GET /download/manifest.json.minisig": {
    open: true,
    response: { 200: plain("In minisign's format", "text/plain") },
  },
  "GET /install.sh": { open: true, response: { 200: plain("A script for sh", "text/plain") } },
  "GET /install.ps1": { open: true, response: { 200: plain("A script for PowerShell", "text/plain") } },

  "GET /api/v1/config": { open: true },
  "GET /api/v1/market": { open: true },
  "GET /api/v1/nodes/:id/reputation": { open: true },
  "GET /api/v1/live": {
    open: true,
    response: {
      200: plain(
        "Events `snapshot`, `stats`, `models`; signed in also `job`, `balance` and `node`, one's own",
        "text/event-stream",
      ),
    },
  },
  "DELETE /api/v1/keys/:id": { response: nothing },
  "DELETE /api/v1/nodes/:id": { response: nothing },
  "DELETE /api/v1/agent-tokens/self": { response: nothing },
  "DELETE /api/v1/jobs/:id": { response: nothing },
  "DELETE /api/v1/webhooks/:id": { response: nothing },
  "GET /api/v1/jobs/:id/result": {
    response: { 200: z.union([chatAnswer, completionAnswer, embeddingsAnswer]) },
  },
  "DELETE /api/v1/agent-tokens/:id": { response: nothing },
  "DELETE /api/v1/prices": { response: nothing },
  "POST /api/v1/device/:userCode": { response: nothing },
  "POST /api/v1/device/token": { open: true },

  "GET /api/computing/models/": {
    open: true,
    response: {
      200: z.object({
        models: z.array(z.object({ name: z.string(), providers: z.int(), nodes: z.int() })),
        total_nodes: z.int(),
      }),
    },
  },
  "GET /api/computing/stats/": {
    open: true,
    response: {
      200: z.object({
        active_nodes: z.int(),
        total_jobs: z.int(),
        completed_jobs: z.int(),
        available_models: z.int(),
      }),
    },
  },
  "POST /api/computing/submit-job/": {
    response: { 201: z.object({ status: z.literal("submitted"), job_id: z.string() }) },
  },
  "GET /api/computing/jobs/": { response: { 200: z.array(submittedJob) } },
  "GET /api/computing/jobs/:id/": { response: { 200: submittedJob } },
  "GET /api/computing/provider-stats/": { response: { 200: providerStats } },
};
