/** Values of options as a person writes them. All throw OptionError, with words that say what can be written. */
import { type DataPolicy, dataPolicySchema, type PriceWire, regionSchema } from "@gfe/protocol";
import { parseAliases } from "../aliases.ts";
import { parseSlotLimits, type SlotLimits } from "../engines/slot-limits.ts";
import { parsePrice } from "../price.ts";
import { OptionError } from "./command.ts";

export function readPositive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new OptionError(`${text} is not a whole number above zero`);
  return value;
}

const UNITS = { K: 1, M: 2, G: 3, T: 4 } as const;

/** "800M", "12G", "1.5GiB": bytes. */
export function readBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT])(?:i?B)?$/i.exec(text.trim());
  if (!match) throw new OptionError(`${text} is no size: write 800M or 12G`);
  return Math.floor(Number(match[1]) * 1024 ** UNITS[match[2]!.toUpperCase() as keyof typeof UNITS]);
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

export function readSlotLimits(text: string, before: unknown): SlotLimits {
  const parsed = parseSlotLimits(text, before as SlotLimits | undefined);
  if (parsed.type === "invalid") throw new OptionError(parsed.message);
  return parsed.limits;
}

export const dataPolicies: readonly DataPolicy[] = dataPolicySchema.options;

const PAUSE_MS_MAX = 30 * 86_400_000;
const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** "10m", "1h30m", "45s" → milliseconds. */
export function readDuration(text: string): number {
  const parts = /^(?:\d{1,6}[smhd])+$/.test(text) ? [...text.matchAll(/(\d+)([smhd])/g)] : [];
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * UNIT_MS[unit!]!, 0);
  if (ms <= 0 || ms > PAUSE_MS_MAX)
    throw new OptionError(`"${text}" is not a time: write 45s, 10m, 2h or 1h30m, 30 days at most`);
  return ms;
}

/** "on" or "off". */
export function readSwitch(text: string): boolean {
  if (text === "on" || text === "off") return text === "on";
  throw new OptionError(`"${text}" is neither on nor off`);
}

/** A number within bounds, or `off`: null would be no value to a parser. */
export const readLimit =
  (least: number, most: number) =>
  (text: string): number | "off" => {
    if (text === "off") return text;
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < least || value > most)
      throw new OptionError(`"${text}" is no limit: write a number from ${least} to ${most}, or off`);
    return value;
  };
