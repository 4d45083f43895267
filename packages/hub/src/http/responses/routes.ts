/**
 * OpenAI's Responses API on the hub. As at OpenAI a response is kept unless `store` is false: its clients go on from it by
 * default. Here that is for hours (GFE_RESPONSE_HOURS), and 0 of them keep nothing; the answer's `store` says what was done.
 */
import { GfeError, newId, toOpenAiError } from "@gfe/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { JobRequest } from "../../jobs/types.ts";
import { listWire } from "../batch/files.ts";
import { blocksOf } from "../inference/blocks.ts";
import { chatRequest } from "../inference/requests.ts";
import type { InferenceDeps } from "../inference/routes.ts";
import { serveStream, serveWhole } from "../inference/serve.ts";
import { inWords, namedIn } from "../inference/words.ts";
import { nameOf, parseBody } from "../parse.ts";
import { contextOf, withIds } from "./context.ts";
import { responsesBodySchema } from "./schemas.ts";
import type { KeptResponse, ResponseStore } from "./store.ts";
import { ResponseStream } from "./stream.ts";
import { chatBodyOf, RESPONSES_NAMES } from "./translate.ts";
import { endedWire, itemsOf, type ResponseHead, type ResponseWire } from "./wire.ts";

export interface ResponsesDeps extends InferenceDeps {
  store: ResponseStore;
}

type Keep = (response: ResponseWire) => Promise<ResponseWire>;

const tags = ["inference"];
const params = z.object({ id: nameOf(80) });

export function registerResponses(instance: FastifyInstance, deps: ResponsesDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { store, payerOf } = deps;

  app.post(
    "/v1/responses",
    { schema: { tags, summary: "A response, streamed or whole; kept for hours unless `store` is false" } },
    async (request, reply) => {
      const payer = await payerOf(request);
      const asked = parseBody(responsesBodySchema, request.body);
      const { items, input } = await contextOf(store, payer.userId, asked);
      const nowMs = deps.nowMs();
      const head: ResponseHead = { id: newId("resp", nowMs), createdAt: Math.floor(nowMs / 1000), asked };
      const keep: Keep = async (response) => {
        if (asked.store === false || !store.keeps) return response;
        const kept = { ...response, output: [...response.output], store: true };
        const previousId = asked.previous_response_id ?? null;
        try {
          await store.keep(payer.userId, {
            ...{ id: head.id, previousId, input: withIds(head.id, input), response: kept },
          });
          return kept;
        } catch (error) {
          request.log.error({ request: request.id, error: String(error) }, "a response could not be kept");
          return response;
        }
      };
      return answer(deps, request, reply, head, chatRequest(chatBodyOf(asked, items), payer), keep);
    },
  );

  app.get(
    "/v1/responses/:id",
    {
      schema: {
        tags,
        summary: "A response that was kept",
        params,
        querystring: z.object({
          stream: z.literal("false", { error: "must be false: events are not kept" }).optional(),
        }),
      },
    },
    async (request) => {
      const { userId } = await payerOf(request);
      return found(await store.find(userId, request.params.id), request.params.id).response;
    },
  );

  app.delete(
    "/v1/responses/:id",
    { schema: { tags, summary: "Forget a response; what goes on from it cannot any more", params } },
    async (request) => {
      const { userId } = await payerOf(request);
      const { id } = request.params;
      if (!(await store.remove(userId, id))) throw noResponse(id);
      return { id, object: "response", deleted: true };
    },
  );

  app.get(
    "/v1/responses/:id/input_items",
    {
      schema: {
        tags,
        summary: "The items that a response's own request brought",
        params,
        querystring: z.object({
          after: nameOf(200).optional(),
          limit: z.coerce.number().int().min(1).max(100).default(20),
          order: z.enum(["asc", "desc"]).default("desc"),
        }),
      },
    },
    async (request) => {
      const { userId } = await payerOf(request);
      const { after, limit, order } = request.query;
      const { input } = found(await store.find(userId, request.params.id), request.params.id);
      const items = order === "asc" ? input : input.toReversed();
      const start = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1;
      return listWire(items.slice(start, start + limit + 1), limit);
    },
  );
}

async function answer(
  deps: ResponsesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  head: ResponseHead,
  job: JobRequest,
  keep: Keep,
): Promise<unknown> {
  if (job.whole) {
    const run = serveWhole(deps.jobs, request, reply, job);
    const { gathered, outcome } = await namedIn(RESPONSES_NAMES, run);
    return keep(endedWire(head, itemsOf(head, blocksOf(gathered), outcome), outcome));
  }
  const headers = { "x-request-id": request.id };
  const stream = new ResponseStream({ response: reply.raw, head, headers, keep });
  const errorBody = (error: GfeError) => toOpenAiError(inWords(error, RESPONSES_NAMES));
  return serveStream(deps.jobs, request, reply, job, stream, errorBody);
}

function found(kept: KeptResponse | null, id: string): KeptResponse {
  if (!kept) throw noResponse(id);
  return kept;
}

const noResponse = (id: string) => new GfeError("not_found", `There is no such response: ${id}`);
