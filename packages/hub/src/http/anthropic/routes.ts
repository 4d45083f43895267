/**
 * Anthropic's Messages API on the hub: a thin translation onto the internal request. The key goes as `x-api-key` or
 * `Authorization: Bearer …`; any `anthropic-version` is taken.
 */
import { type GfeError, newId, toAnthropicError } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { inputTokensEstimate } from "../../jobs/terms.ts";
import { blocksOf } from "../inference/blocks.ts";
import { chatRequest } from "../inference/requests.ts";
import type { InferenceDeps } from "../inference/routes.ts";
import { serveStream, serveWhole } from "../inference/serve.ts";
import { inWords, namedIn } from "../inference/words.ts";
import { parseBody } from "../parse.ts";
import { type MessageHead, MessageStream, messageWire } from "./answer.ts";
import { countTokensBodySchema, type MessagesBody, messagesBodySchema } from "./schemas.ts";
import { ANTHROPIC_NAMES, chatBodyOf, promptOf } from "./translate.ts";

const tags = ["anthropic"];

export function registerAnthropic(app: FastifyInstance, deps: InferenceDeps): void {
  app.post(
    "/v1/messages",
    { schema: { tags, summary: "Messages, as Anthropic does: streamed or whole" } },
    async (request, reply) => {
      reply.header("request-id", request.id);
      const payer = await deps.payerOf(request);
      const body = parseBody(messagesBodySchema, request.body);
      return answer(deps, request, reply, body, chatRequest(chatBodyOf(body), payer));
    },
  );

  app.post(
    "/v1/messages/count_tokens",
    {
      schema: {
        tags,
        summary:
          "An estimate of a prompt's tokens: a quarter of its bytes, no engine is asked and nothing is charged",
      },
    },
    async (request, reply) => {
      reply.header("request-id", request.id);
      const payer = await deps.payerOf(request);
      const body = parseBody(countTokensBodySchema, request.body);
      return { input_tokens: inputTokensEstimate(chatRequest(promptOf(body), payer)) };
    },
  );
}

async function answer(
  deps: InferenceDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  body: MessagesBody,
  job: ReturnType<typeof chatRequest>,
): Promise<unknown> {
  const { thinking } = body;
  const head: MessageHead = {
    id: newId("msg", deps.nowMs()),
    model: body.model,
    hideThinking: thinking != null && "display" in thinking && thinking.display === "omitted",
    inputTokensEstimate: inputTokensEstimate(job),
  };
  if (job.whole) {
    const run = serveWhole(deps.jobs, request, reply, job);
    const { gathered, outcome } = await namedIn(ANTHROPIC_NAMES, run);
    return messageWire(head, blocksOf(gathered), outcome);
  }
  const stream = new MessageStream(reply.raw, head, {
    "x-request-id": request.id,
    "request-id": request.id,
  });
  const errorBody = (error: GfeError) => toAnthropicError(inWords(error, ANTHROPIC_NAMES));
  return serveStream(deps.jobs, request, reply, job, stream, errorBody);
}
