/** OpenAI's Responses API on the hub, without its storage. */
import { toOpenAiError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import { chatRequest } from "../inference/requests.ts";
import type { InferenceDeps } from "../inference/routes.ts";
import { serveStream, serveWhole } from "../inference/serve.ts";
import { parseBody } from "../parse.ts";
import { type ResponseHead, ResponseStream, wholeResponse } from "./answer.ts";
import { responsesBodySchema } from "./schemas.ts";
import { chatBodyOf } from "./translate.ts";

export function registerResponses(app: FastifyInstance, deps: InferenceDeps): void {
  app.post(
    "/v1/responses",
    { schema: { tags: ["inference"], summary: "A response, streamed or whole; nothing is stored" } },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const asked = parseBody(responsesBodySchema, request.body);
      const job = chatRequest(chatBodyOf(asked), payer);
      const head: ResponseHead = {
        id: `resp_${request.id.replace(/^req_/, "")}`,
        createdAt: Math.floor(deps.nowMs() / 1000),
        asked,
      };
      if (asked.stream) {
        const stream = new ResponseStream(reply.raw, head, { "x-request-id": request.id });
        return serveStream(deps.jobs, request, reply, job, stream, toOpenAiError);
      }
      const { gathered, outcome } = await serveWhole(deps.jobs, request, reply, job);
      return wholeResponse(head, gathered, outcome);
    },
  );
}
