/** What anybody may see: configuration, market, live events. */
import { marketSnapshotSchema, publicConfigSchema } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { callerOf } from "../caller.ts";
import { type RestDeps, tags } from "./common.ts";

export function registerPublic(
  instance: FastifyInstance,
  { accounts, books, live, publicConfig }: RestDeps,
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    "/api/v1/config",
    {
      schema: {
        ...tags("public", "What clients need to know before signing in"),
        response: { 200: publicConfigSchema },
      },
    },
    async () => publicConfig,
  );

  app.get(
    "/api/v1/market",
    {
      schema: {
        ...tags("public", "Models on offer and live numbers"),
        response: { 200: marketSnapshotSchema },
      },
    },
    async () => ({
      stats: live.stats(),
      models: live.models(),
    }),
  );

  app.get(
    "/api/v1/live",
    {
      exposeHeadRoute: false, // a stream without a body would never end
      schema: tags("public", "Live events (SSE): snapshot, deltas, replay by Last-Event-ID"),
    },
    async (request, reply) => {
      const principal = await accounts.authenticateIfAny(callerOf(request), "read");
      const balance = principal ? (await books.balance(principal.userId)).available.toString() : null;
      const lastEventId = request.headers["last-event-id"];
      // The stream writes past the framework, which has what every answer carries.
      for (const [name, value] of Object.entries(reply.getHeaders()))
        if (value !== undefined) reply.raw.setHeader(name, value);
      live.open(reply.raw, {
        userId: principal?.userId ?? null,
        address: request.ip,
        lastEventId: typeof lastEventId === "string" ? lastEventId : undefined,
        balanceMicro: balance,
      });
      reply.hijack();
    },
  );
}
