/** Anthropic's Messages API on the hub. The key goes as `x-api-key` or as `Authorization: Bearer …`. */
import { toAnthropicError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import { chatRequest } from "../inference/requests.ts";
import type { InferenceDeps } from "../inference/routes.ts";
import { serveStream, serveWhole } from "../inference/serve.ts";
import { parseBody } from "../parse.ts";
import { type MessageHead, MessageStream, wholeMessage } from "./answer.ts";
import { countTokensBodySchema, messagesBodySchema } from "./schemas.ts";
import { chatBodyOf, promptOf } from "./translate.ts";

const tags = ["anthropic"];
/** Nobody but the node that will answer can count; this is what a bill without its count assumes. */
const BYTES_PER_TOKEN = 4;

export function registerAnthropic(app: FastifyInstance, deps: InferenceDeps): void {
  app.post(
    "/v1/messages",
    { schema: { tags, summary: "A message, streamed or whole, as Anthropic answers it" } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const body = parseBody(messagesBodySchema, request.body);
      const job = chatRequest(chatBodyOf(body), payer);
      const head: MessageHead = {
        id: `msg_${request.id.replace(/^req_/, "")}`,
        model: body.model,
        inputTokensEstimate: Math.ceil(job.inputBytes / BYTES_PER_TOKEN),
      };
      reply.header("request-id", request.id);
      if (body.stream) {
        const stream = new MessageStream(reply.raw, head, {
          "x-request-id": request.id,
          "request-id": request.id,
        });
        return serveStream(deps.jobs, request, reply, job, stream, toAnthropicError);
      }
      const { gathered, outcome } = await serveWhole(deps.jobs, request, reply, job);
      return wholeMessage(head, gathered, outcome);
    },
  );

  app.post(
    "/v1/messages/count_tokens",
    { schema: { tags, summary: "An estimate of a message's input tokens: a fourth of its bytes" } },
    async (request) => {
      const payer = await deps.payerOf(request);
      const body = parseBody(countTokensBodySchema, request.body);
      const { inputBytes } = chatRequest(promptOf(body), payer);
      return { input_tokens: Math.ceil(inputBytes / BYTES_PER_TOKEN) };
    },
  );
}
