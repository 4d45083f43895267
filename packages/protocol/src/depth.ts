/**
 * JSON that is nested beyond all reason. `JSON.parse` reads a million levels; `JSON.stringify`, and whatever else walks
 * such a value by calling itself, breaks on a few thousand, far from where it came in. So both ends look once, on entry.
 */

/** Levels of arrays and objects inside one another. No client's schema or conversation comes near it. */
export const JSON_DEPTH_MAX = 256;

/** Whether parsed JSON has more levels than `levels`. Looks no deeper than that. */
export function isTooDeep(value: unknown, levels: number = JSON_DEPTH_MAX): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  if (Array.isArray(value)) {
    for (const item of value) if (isTooDeep(item, levels - 1)) return true;
    return false;
  }
  for (const name in value) if (isTooDeep((value as Record<string, unknown>)[name], levels - 1)) return true;
  return false;
}
