/** Which price is in force where a provider has set some: pure. */
import type { Announcement, ModelOffer, PriceSource, PriceWire, SetPrice } from "@gfe/protocol";

/** An owner's prices by what they are for. */
export type OwnPrices = ReadonlyMap<string, PriceWire>;

const NONE: OwnPrices = new Map();
// Neither ids nor names of models have a line break.
const placeOf = (nodeId: string | null, model: string | null): string => `${nodeId ?? ""}\n${model ?? ""}`;

export const ownPrices = (set: readonly SetPrice[]): OwnPrices =>
  new Map(set.map(({ node_id, model, price }) => [placeOf(node_id, model), price]));

/** Node and model go before the node, that before the model, that before the default, that before what is announced. */
export function effectivePrice(
  own: OwnPrices,
  nodeId: string,
  { model, price }: Pick<ModelOffer, "model" | "price">,
): { price: PriceWire; source: PriceSource } {
  const places: [PriceSource, string][] = [
    ["node_model", placeOf(nodeId, model)],
    ["node", placeOf(nodeId, null)],
    ["model", placeOf(null, model)],
    ["default", placeOf(null, null)],
  ];
  for (const [source, place] of places) {
    const found = own.get(place);
    if (found) return { price: found, source };
  }
  return { price, source: "announced" };
}

/** An announcement with the prices in force; the given one stays as it is. */
export function priced(own: OwnPrices = NONE, nodeId: string, announcement: Announcement): Announcement {
  if (own.size === 0) return announcement;
  const models = announcement.models.map((offer) => ({
    ...offer,
    price: effectivePrice(own, nodeId, offer).price,
  }));
  return { ...announcement, models };
}
