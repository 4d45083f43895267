/** How many attempts an engine gets at once, as its owner says: "ollama=2,http://127.0.0.1:8080=4". */
import type { EngineKind } from "@gfe/protocol";
import { engineKindSchema, OFFER_LIMITS } from "@gfe/protocol";
import type { DiscoveredModel, Engine } from "./engine.ts";

/** By kind (`ollama`) or by address; an address goes before a kind. */
export type SlotLimits = ReadonlyMap<string, number>;

export type ParsedSlotLimits = { type: "limits"; limits: SlotLimits } | { type: "invalid"; message: string };

/** Added to those given before; the last word on an engine counts. */
export function parseSlotLimits(text: string, before: SlotLimits = new Map()): ParsedSlotLimits {
  const limits = new Map(before);
  for (const part of text.split(",")) {
    const at = part.lastIndexOf("=");
    const [who, count] = [part.slice(0, at).trim(), Number(part.slice(at + 1))];
    const engine = addressOf(who) ?? engineKindSchema.safeParse(who).data;
    if (at < 0 || engine === undefined)
      return invalid(
        `"${part.trim()}" names no engine: write ENGINE=SLOTS, such as ollama=2 or http://127.0.0.1:8080=4. Engines: ${kinds.join(", ")}`,
      );
    if (!Number.isInteger(count) || count < 1 || count > OFFER_LIMITS.slotsPerModel)
      return invalid(`"${part.trim()}": slots are a whole number from 1 to ${OFFER_LIMITS.slotsPerModel}`);
    limits.set(engine, count);
  }
  return { type: "limits", limits };
}

const kinds: readonly EngineKind[] = engineKindSchema.options.filter((kind) => kind !== "scripted");
const invalid = (message: string): ParsedSlotLimits => ({ type: "invalid", message });

const addressOf = (text: string): string | undefined =>
  /^https?:\/\//.test(text) ? URL.parse(text)?.origin.replace("//localhost", "//127.0.0.1") : undefined;

/**
 * The model with its engine's limit. Where the engine tells how many it runs at once, the lesser of the two counts, for
 * more would only wait in its queue; where it does not, the owner knows better than the assumption.
 */
export function limited(limits: SlotLimits, engine: Engine, model: DiscoveredModel): DiscoveredModel {
  const limit = limits.get(addressOf(engine.label) ?? "") ?? limits.get(engine.kind);
  if (limit === undefined) return model;
  const { slotsAssumed, ...told } = model;
  return { ...told, slots: slotsAssumed === undefined ? Math.min(limit, model.slots) : limit };
}
