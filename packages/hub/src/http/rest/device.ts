/** The device grant (RFC 8628): what the page that approves and the waiting agent ask. */
import { deviceRequestSchema, GfeError, labelSchema } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../caller.ts";
import { nameOf } from "../parse.ts";
import { type RestDeps, tags } from "./common.ts";

export function registerDevice(instance: FastifyInstance, { accounts }: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const params = z.object({ userCode: nameOf(20) });

  app.get(
    "/api/v1/device/:userCode",
    {
      schema: {
        ...tags("device", "What asks to be approved"),
        params,
        response: { 200: deviceRequestSchema },
      },
    },
    async (request) => {
      const caller = callerOf(request);
      const principal = await accounts.authenticate(caller, "manage");
      if (principal.via !== "session") throw new GfeError("forbidden", "Approve in the browser, signed in");
      return accounts.device.view(request.params.userCode, caller.headers);
    },
  );

  app.post(
    "/api/v1/device/:userCode",
    { schema: { ...tags("device", "Approve or deny"), params, body: z.object({ approve: z.boolean() }) } },
    async (request, reply) => {
      const caller = callerOf(request);
      const principal = await accounts.authenticate(caller, "manage");
      if (principal.via !== "session") throw new GfeError("forbidden", "Approve in the browser, signed in");
      await accounts.device.view(request.params.userCode, caller.headers);
      await accounts.device.decide(request.params.userCode, request.body.approve, caller.headers);
      return reply.status(204).send();
    },
  );

  const exchangeBody = z.object({
    device_code: nameOf(200),
    client_id: nameOf(80),
    label: labelSchema.default("agent"),
  });
  app.post(
    "/api/v1/device/token",
    {
      schema: {
        ...tags("device", "Exchange an approved device code for an agent token (RFC 8628)"),
        body: exchangeBody,
        response: { 200: z.object({ agent_token: z.string() }), 400: z.object({ error: z.string() }) },
      },
    },
    async (request, reply) => {
      const { device_code: deviceCode, client_id: clientId, label } = request.body;
      const result = await accounts.device.exchange({ deviceCode, clientId, label });
      reply.header("cache-control", "no-store");
      if (result.type === "approved") return { agent_token: result.agentToken };
      reply.status(400);
      return { error: result.error };
    },
  );
}
