/** What `gfe doctor` finds: each need by itself, with the cure of what is missing. */
import type { HubContext } from "../commands/context.ts";

export interface Check {
  /** Of what: "hub", "clock", "engines". Several checks may share one. */
  name: string;
  state: "ok" | "warning" | "failed";
  /** What was found, in a sentence. */
  words: string;
  /** What to do; null where nothing is amiss. */
  cure: string | null;
}

export type DoctorContext = HubContext;

export const ok = (name: string, words: string): Check => ({ name, state: "ok", words, cure: null });
export const warning = (name: string, words: string, cure: string): Check => ({
  ...{ name, state: "warning", words, cure },
});
export const failed = (name: string, words: string, cure: string): Check => ({
  ...{ name, state: "failed", words, cure },
});

/** The more of two versions' numbers: negative where `a` is the older one. */
export function compareVersions(a: string, b: string): number {
  const parts = (version: string) => version.split(/[.+-]/).map((part) => Number.parseInt(part, 10) || 0);
  const [left, right] = [parts(a), parts(b)];
  for (let index = 0; index < 3; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
