/** Our own REST under /api/v1: thin routes over accounts, books, jobs and the registry. */
import type { FastifyInstance } from "fastify";
import { registerAgents } from "./agents.ts";
import { registerDeferred } from "./deferred.ts";
import { registerDevice } from "./device.ts";
import { registerDisputes } from "./disputes.ts";
import { registerOwn } from "./own.ts";
import { registerPrices } from "./prices.ts";
import { registerPublic } from "./public.ts";
import { registerReputation } from "./reputation.ts";
import { registerSecrets } from "./secrets.ts";
import { registerStanding, type StandingDeps } from "./standing.ts";
import { registerWebhooks } from "./webhooks.ts";

export function registerRest(app: FastifyInstance, deps: StandingDeps): void {
  registerPublic(app, deps);
  registerOwn(app, deps);
  registerReputation(app, deps);
  registerStanding(app, deps);
  registerAgents(app, deps);
  registerSecrets(app, deps);
  registerDevice(app, deps);
  registerPrices(app, deps);
  registerDeferred(app, deps);
  registerDisputes(app, deps);
  registerWebhooks(app, deps);
}
