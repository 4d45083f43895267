/**
 * Names whose last offer left a moment ago: their node, or the way to its hub, will probably be back, so who asks for one
 * is told to try again, and not that there is no such model.
 */
import { type NodeEntry, namesOf, type Registry } from "./registry.ts";

/** An agent or a hub that is restarted is back by then. */
export const BACK_WITHIN_MS = 2 * 60_000;
const NAMES_MAX = 1_000;

/** Whether a name was offered until a moment ago. */
export function watchDeparted(registry: Registry, nowMs: () => number): (name: string) => boolean {
  const offered = new WeakMap<NodeEntry, string[]>();
  const leftAtMs = new Map<string, number>();

  registry.onChange(({ type, node }) => {
    if (type === "slot_taken" || type === "slot_freed") return;
    const now = type === "disconnected" ? [] : namesOf(node);
    const before = offered.get(node) ?? [];
    offered.set(node, now);
    for (const name of now) leftAtMs.delete(name);
    for (const name of before) {
      if (registry.offers(name).length > 0) continue;
      leftAtMs.delete(name);
      leftAtMs.set(name, nowMs());
      if (leftAtMs.size > NAMES_MAX) leftAtMs.delete(leftAtMs.keys().next().value!);
    }
  });

  return (name) => {
    const atMs = leftAtMs.get(name);
    return atMs !== undefined && nowMs() - atMs < BACK_WITHIN_MS;
  };
}
