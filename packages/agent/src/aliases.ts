import { modelOfferSchema, OFFER_LIMITS } from "@gfe/protocol";

export type ParsedAliases =
  | { type: "aliases"; aliases: ReadonlyMap<string, string> }
  | { type: "invalid"; message: string };

const name = modelOfferSchema.shape.model;

/**
 * Other names for models as a person writes them, "fast=llama3.2:1b,good=llama3.1:70b", added to those given before.
 * What comes after the first `=` is the model. An alias names one model only.
 */
export function parseAliases(text: string, before: ReadonlyMap<string, string> = new Map()): ParsedAliases {
  const aliases = new Map(before);
  for (const part of text.split(",")) {
    const at = part.indexOf("=");
    const [alias, model] = [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    if (at < 0 || !name.safeParse(alias).success || !name.safeParse(model).success)
      return invalid(`"${part.trim()}" is no alias: write NAME=MODEL, such as fast=llama3.2:1b`);
    const known = aliases.get(alias);
    if (known !== undefined && known !== model)
      return invalid(`"${alias}" would name two models, ${known} and ${model}`);
    aliases.set(alias, model);
    if ([...aliases.values()].filter((one) => one === model).length > OFFER_LIMITS.aliases)
      return invalid(`${model} has more than ${OFFER_LIMITS.aliases} other names`);
  }
  return { type: "aliases", aliases };
}

const invalid = (message: string): ParsedAliases => ({ type: "invalid", message });
