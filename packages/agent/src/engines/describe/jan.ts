/** Jan: its list has the models that are loaded, and nothing but their names. Behind each runs a llama.cpp. */
import type { EngineAddress, EngineHost } from "../engine-http.ts";
import { type Bound, type Describe, FALLBACK_CONTEXT, plainCapabilities, quantisationOf } from "./known.ts";

export function describeJan(host: EngineHost, address: EngineAddress, bound: Bound): Describe {
  return async (entry, before) => ({
    // Jan does not tell it; what it loads a model with unless its owner chooses more.
    contextLength: entry.meta?.n_ctx || FALLBACK_CONTEXT,
    capabilities: before?.capabilities ?? (await plainCapabilities(host, address, entry, bound)),
    slots: 1,
    slotsAssumed: "Jan does not tell its parallel operations",
    ...quantisationOf(entry.id),
  });
}
