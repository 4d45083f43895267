/** Values of options as a person writes them. All throw OptionError, with words that say what can be written. */
import { type DataPolicy, dataPolicySchema, type PriceWire, regionSchema } from "@gfe/protocol";
import { parseAliases } from "../aliases.ts";
import { parsePrice } from "../price.ts";
import { OptionError } from "./command.ts";

export function readPositive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new OptionError(`${text} is not a whole number above zero`);
  return value;
}

export function readPrice(text: string): PriceWire {
  const parsed = parsePrice(text);
  if (parsed.type === "invalid") throw new OptionError(parsed.message);
  return parsed.price;
}

export function readRegion(text: string): string {
  if (regionSchema.safeParse(text).success) return text;
  throw new OptionError("A region is 2 to 40 lower-case letters, digits and hyphens, such as eu-west.");
}

export function readAliases(text: string, before: unknown): ReadonlyMap<string, string> {
  const parsed = parseAliases(text, before as ReadonlyMap<string, string> | undefined);
  if (parsed.type === "invalid") throw new OptionError(parsed.message);
  return parsed.aliases;
}

export const dataPolicies: readonly DataPolicy[] = dataPolicySchema.options;
