/** What a provider sets as its prices, and what it asks now for each of its models. */
import {
  type Announcement,
  GfeError,
  type PricedModel,
  priceListSchema,
  pricePlaceSchema,
  putPriceSchema,
  setPriceSchema,
} from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { medianPrice } from "../../market/median-price.ts";
import { effectivePrice, ownPrices } from "../../prices/effective.ts";
import { type RestDeps, tags, whoOf } from "./common.ts";

/** Nodes of an account whose models are listed, those seen last first. */
const NODES_LISTED = 1_000;

export function registerPrices(instance: FastifyInstance, deps: RestDeps): void {
  const { accounts, prices } = deps;
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

  app.get(
    "/api/v1/prices",
    {
      schema: {
        ...tags("prices", "The prices that the caller set, and its models at the prices in force"),
        response: { 200: priceListSchema },
      },
    },
    async (request) => {
      const { userId } = await who(request, "manage");
      const set = await prices.list(userId);
      return { prices: set, models: await pricedModels(deps, userId, ownPrices(set)) };
    },
  );

  app.put(
    "/api/v1/prices",
    {
      schema: {
        ...tags(
          "prices",
          "Set a price for one model on one node, a node, a model, or all; in force from the next quote on",
        ),
        body: putPriceSchema,
        response: { 200: setPriceSchema },
      },
    },
    async (request) => {
      const { userId } = await who(request, "manage");
      const { price, ...place } = request.body;
      return prices.set(userId, place, price);
    },
  );

  app.delete(
    "/api/v1/prices",
    {
      schema: {
        ...tags(
          "prices",
          "Unset a price: the next closest one is in force, at last what the agent announces",
        ),
        querystring: pricePlaceSchema,
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      if (!(await prices.unset(userId, request.query)))
        throw new GfeError("not_found", "You have set no such price");
      return reply.status(204).send();
    },
  );
}

async function pricedModels(
  { pool, registry }: RestDeps,
  userId: string,
  own: ReturnType<typeof ownPrices>,
): Promise<PricedModel[]> {
  const { rows } = await pool.query<{ id: string; name: string; announcement: Announcement }>(
    "SELECT id, name, announcement FROM nodes WHERE owner_id = $1 ORDER BY last_seen_at DESC LIMIT $2",
    [userId, NODES_LISTED],
  );
  const medians = new Map<string, PricedModel["market_median"]>();
  const medianOf = (model: string) => {
    if (!medians.has(model)) {
      const others = registry.offers(model).filter(({ node }) => node.ownerId !== userId);
      medians.set(model, medianPrice(others.map(({ offer }) => offer.price)));
    }
    return medians.get(model)!;
  };
  return rows.flatMap(({ id, name, announcement }) =>
    announcement.models.map((offer) => ({
      node_id: id,
      node_name: name,
      online: registry.get(id) !== undefined,
      model: offer.model,
      announced: offer.price,
      ...effectivePrice(own, id, offer),
      market_median: medianOf(offer.model),
    })),
  );
}
