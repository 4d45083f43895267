/** Webhooks: made, listed, deleted. Deliveries are signed as Standard Webhooks says and name ids and states only. */
import { createWebhookSchema, GfeError, webhookEventSchema, webhookSchema } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import {
  addWebhook,
  deleteWebhook,
  listWebhooks,
  newWebhook,
  type Webhook,
} from "../../webhooks/webhooks.ts";
import { idSchema, type RestDeps, tags, whoOf } from "./common.ts";

export function registerWebhooks(instance: FastifyInstance, { accounts, pool, webhooks }: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

  app.get(
    "/api/v1/webhooks",
    {
      schema: {
        ...tags("webhooks", "The caller's webhooks"),
        response: { 200: z.object({ webhooks: z.array(webhookSchema) }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "manage");
      return { webhooks: (await listWebhooks(pool, userId)).map(webhookWire) };
    },
  );

  app.post(
    "/api/v1/webhooks",
    {
      schema: {
        ...tags("webhooks", "Be told of ends; the secret that signs is shown this once"),
        body: createWebhookSchema,
        response: { 201: z.object({ webhook: webhookSchema, secret: z.string() }) },
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      const { url, events = webhookEventSchema.options } = request.body;
      const webhook = newWebhook(url, events, webhooks.allowPrivate);
      const added = await addWebhook(pool, userId, webhook);
      reply.status(201);
      return { webhook: webhookWire(added), secret: webhook.secret };
    },
  );

  app.delete(
    "/api/v1/webhooks/:id",
    { schema: { ...tags("webhooks", "Delete a webhook"), params: idSchema } },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      if (!(await deleteWebhook(pool, userId, request.params.id)))
        throw new GfeError("not_found", "There is no such webhook");
      return reply.status(204).send();
    },
  );
}

function webhookWire(webhook: Webhook) {
  return {
    id: webhook.id,
    url: webhook.url,
    events: webhook.events,
    last_status: webhook.lastStatus,
    last_error: webhook.lastError,
    last_tried_at: webhook.lastTriedAt?.toISOString() ?? null,
    disabled_at: webhook.disabledAt?.toISOString() ?? null,
    created_at: webhook.createdAt.toISOString(),
  };
}
