/** Waiting a bounded while for a node that has just been lost: most come back, for it was their network that failed. */
import type { NodeEntry, Registry } from "./registry.ts";

export interface Returns {
  /** The node as it is connected now or within that time; null where it is not, or the signal is aborted. */
  of(nodeId: string, withinMs: number, signal: AbortSignal): Promise<NodeEntry | null>;
}

export function createReturns(registry: Pick<Registry, "get" | "onChange">): Returns {
  const waiting = new Map<string, Set<(node: NodeEntry) => void>>();
  registry.onChange(({ type, node }) => {
    if (type === "connected") for (const take of [...(waiting.get(node.nodeId) ?? [])]) take(node);
  });
  return {
    of(nodeId, withinMs, signal) {
      const there = registry.get(nodeId);
      if (there || signal.aborted) return Promise.resolve(signal.aborted ? null : (there ?? null));
      return new Promise((resolve) => {
        const those = waiting.get(nodeId) ?? new Set();
        waiting.set(nodeId, those);
        const end = (node: NodeEntry | null) => {
          clearTimeout(timer);
          signal.removeEventListener("abort", onAbort);
          those.delete(end);
          if (those.size === 0 && waiting.get(nodeId) === those) waiting.delete(nodeId);
          resolve(node);
        };
        const onAbort = () => end(null);
        const timer = setTimeout(onAbort, withinMs);
        those.add(end);
        signal.addEventListener("abort", onAbort, { once: true });
      });
    },
  };
}
