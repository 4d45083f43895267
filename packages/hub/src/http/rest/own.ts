/** What an account may see of itself: its balance, jobs, nodes and ledger entries. */
import {
  deferredJobSchema,
  GfeError,
  jobSchema,
  jobStateSchema,
  ledgerEntrySchema,
  ledgerVerdictSchema,
  meSchema,
  nodeSchema,
} from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { findDeferred } from "../../jobs/deferred/store.ts";
import { getJob } from "../../jobs/job-queries.ts";
import { nodeView, type StoredNode } from "../../market/market-view.ts";
import { ownPrices, priced } from "../../prices/effective.ts";
import { modelKey } from "../../trust/attempt-facts.ts";
import { idSchema, pageSchema, type RestDeps, tags, whoOf } from "./common.ts";
import { deferredWire } from "./deferred.ts";
import { jobsPage } from "./job-list.ts";

export function registerOwn(
  instance: FastifyInstance,
  { accounts, books, deferred, pool, registry, prices, reputation }: RestDeps,
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

  app.get(
    "/api/v1/me",
    { schema: { ...tags("account", "The caller and its balance"), response: { 200: meSchema } } },
    async (request) => {
      const { userId } = await who(request, "read");
      const user = await accounts.user(userId);
      if (!user) throw new GfeError("not_signed_in");
      const { posted, held, available } = await books.balance(userId);
      return {
        user: {
          id: user.id,
          email: user.email,
          name: user.name,
          role: user.role,
          created_at: user.createdAt.toISOString(),
        },
        balance: { posted_micro: `${posted}`, held_micro: `${held}`, available_micro: `${available}` },
      };
    },
  );

  app.get(
    "/api/v1/jobs",
    {
      schema: {
        ...tags("jobs", "The caller's jobs and what it submitted, newest first"),
        querystring: pageSchema.extend({
          state: jobStateSchema.optional(),
          role: z.enum(["consumer", "provider"]).default("consumer"),
        }),
        response: { 200: z.object({ jobs: z.array(jobSchema), next: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      return jobsPage({ pool, deferred }, userId, request.query);
    },
  );

  app.get(
    "/api/v1/jobs/:id",
    {
      schema: {
        ...tags("jobs", "One job"),
        params: idSchema,
        response: { 200: z.union([deferredJobSchema, jobSchema]) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const submitted = await findDeferred(pool, userId, request.params.id);
      if (submitted) return deferredWire({ pool }, submitted);
      const owned = await getJob(pool, request.params.id, userId);
      if (!owned) throw new GfeError("not_found", "There is no such job");
      if (owned === "forbidden") throw new GfeError("forbidden", "This job is another account's");
      return owned.job;
    },
  );

  app.get(
    "/api/v1/nodes",
    {
      schema: {
        ...tags("nodes", "The caller's nodes"),
        response: { 200: z.object({ nodes: z.array(nodeSchema) }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const { rows } = await pool.query<StoredNode>(
        `SELECT id, name, agent_version AS "agentVersion", announcement, first_seen_at AS "firstSeenAt", last_seen_at AS "lastSeenAt"
       FROM nodes WHERE owner_id = $1 ORDER BY last_seen_at DESC LIMIT 1000`,
        [userId],
      );
      const own = ownPrices(await prices.list(userId));
      return {
        nodes: rows.map((row) => {
          const announcement = priced(own, row.id, row.announcement);
          const view = nodeView({ ...row, announcement }, registry.get(row.id), new Date());
          const scores = view.models.map((offer) => reputation.standingOf(row.id, modelKey(offer)).score);
          return scores.length > 0 ? { ...view, reputation: Math.min(...scores) } : view;
        }),
      };
    },
  );

  app.get(
    "/api/v1/ledger",
    {
      schema: {
        ...tags("ledger", "Entries of the caller's account, newest first"),
        querystring: pageSchema,
        response: { 200: z.object({ entries: z.array(ledgerEntrySchema), next: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const { limit, before } = request.query;
      if (before !== undefined && !/^\d{1,18}$/.test(before))
        throw new GfeError("invalid_request", "before: not a cursor of this list", { param: "before" });
      const entries = await books.entries(userId, before === undefined ? { limit } : { limit, before });
      return {
        entries: entries.map((entry) => ({
          id: entry.id,
          amount_micro: entry.amount.toString(),
          // Whose account the other side is, is that account's business.
          counterparty: entry.counterparty.startsWith("hub:") ? entry.counterparty : "account",
          code: entry.code,
          reference: entry.reference,
          created_at: entry.createdAt.toISOString(),
        })),
        next: entries.length === limit ? entries.at(-1)!.cursor : null,
      };
    },
  );

  app.get(
    "/api/v1/ledger/verify",
    {
      schema: {
        ...tags("ledger", "Recompute every invariant (operators)"),
        response: { 200: ledgerVerdictSchema },
      },
    },
    async (request) => {
      const { role } = await who(request, "read");
      if (role !== "operator") throw new GfeError("forbidden", "Only an operator may do this");
      return books.verify();
    },
  );
}
