/** For the owner of a node, or its agent: why it gets requests, or does not, and a test request on demand. */
import {
  askCanarySchema,
  canaryReportSchema,
  GfeError,
  type ModelOffer,
  type NodeStanding,
  nodeStandingSchema,
} from "@gfe/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Turnout } from "../../market/turnout.ts";
import {
  flushTurnout,
  mostAsked,
  readTurnout,
  type TurnoutRow,
  type Windows,
} from "../../market/turnout-store.ts";
import { tellNoDemand, tellReason } from "../../market/turnout-words.ts";
import type { CanaryOnDemand } from "../../trust/canary-on-demand.ts";
import { idSchema, ownerOf, type RestDeps, tags } from "./common.ts";

/** Models of which the most asked for are named. */
const MOST_ASKED = 5;
const NONE: Windows = { hour: 0, day: 0, week: 0 };

export interface StandingDeps extends RestDeps {
  askCanary: CanaryOnDemand;
  turnout: Turnout;
}

export function registerStanding(
  instance: FastifyInstance,
  { accounts, pool, registry, askCanary, turnout }: StandingDeps,
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const owner = ownerOf({ accounts });

  app.get(
    "/api/v1/nodes/:id/standing",
    {
      schema: {
        ...tags("nodes", "Why a node of the caller's gets requests, or does not"),
        params: idSchema,
        response: { 200: nodeStandingSchema },
      },
    },
    async (request) => {
      const models = await ownModels(request, request.params.id);
      const { id } = request.params;
      await flushTurnout(pool, turnout);
      const node = registry.get(id);
      const names = models.flatMap(({ model, aliases = [] }) => [model, ...aliases]);
      const [rows, most] = await Promise.all([readTurnout(pool, id, names), mostAsked(pool, MOST_ASKED)]);
      const asked = most.map(({ model, asked }) => ({ model, asked: Math.round(asked) }));
      return {
        node_id: id,
        state: node ? (node.draining ? "paused" : "online") : "offline",
        models: models.map((offer) => standingOf(offer, rows, asked)),
        most_asked: asked,
      } satisfies NodeStanding;
    },
  );

  app.post(
    "/api/v1/nodes/:id/canary",
    {
      schema: {
        ...tags("nodes", "Send a node of the caller's a test request, unpaid"),
        params: idSchema,
        body: askCanarySchema,
        response: { 200: canaryReportSchema },
      },
    },
    async (request, reply) => {
      await ownModels(request, request.params.id);
      const stop = new AbortController();
      reply.raw.once("close", () => stop.abort());
      return askCanary(request.params.id, request.body.model, stop.signal);
    },
  );

  /** What the caller's node offers, or did last. Throws GfeError where it is not the caller's. */
  async function ownModels(request: FastifyRequest, id: string): Promise<readonly ModelOffer[]> {
    const userId = await owner(request, "read");
    const { rows } = await pool.query<{ models: ModelOffer[] }>(
      "SELECT announcement->'models' AS models FROM nodes WHERE id = $1 AND owner_id = $2",
      [id, userId],
    );
    if (!rows[0]) throw new GfeError("not_found", "There is no such node of yours");
    return registry.get(id)?.announcement.models ?? rows[0].models;
  }
}

function standingOf(
  { model, aliases = [] }: ModelOffer,
  rows: readonly TurnoutRow[],
  most: NodeStanding["most_asked"],
): NodeStanding["models"][number] {
  const names = [model, ...aliases];
  const asked = sum(rows.filter((row) => row.code === "asked" && names.includes(row.model)));
  const own = rows.filter((row) => row.model === model);
  const reasons = own
    .filter(({ code }) => code !== "asked" && code !== "chosen")
    .map((row) => ({ code: row.code as string, counts: rounded(row.counts), ...tellReason(row) }))
    .sort((a, b) => b.counts.day - a.counts.day || b.counts.week - a.counts.week);
  const noDemand = { code: "no_demand", counts: NONE, ...tellNoDemand(most.map((one) => one.model)) };
  return {
    model,
    asked,
    chosen: sum(own.filter(({ code }) => code === "chosen")),
    reasons: asked.day === 0 ? [noDemand, ...reasons] : reasons,
  };
}

function sum(rows: readonly TurnoutRow[]): Windows {
  const of = (window: keyof Windows) => rows.reduce((total, { counts }) => total + counts[window], 0);
  return rounded({ hour: of("hour"), day: of("day"), week: of("week") });
}

const rounded = ({ hour, day, week }: Windows): Windows => ({
  hour: Math.round(hour),
  day: Math.round(day),
  week: Math.round(week),
});
