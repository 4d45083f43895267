/** KoboldCpp: one model, one answer at a time; the rest waits in its queue. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import { type Bound, type Describe, quantisationOf, wholeContext } from "./known.ts";

/** What it lists while no text model is loaded. */
const NOTHING_LOADED = /^(koboldcpp\/)?inactive$/;

export async function describeKoboldCpp(
  host: EngineHost,
  address: EngineAddress,
  bound: Bound,
): Promise<Describe> {
  const [length, version] = await Promise.all([
    inquire(host, address, "/api/extra/true_max_context_length", bound),
    inquire(host, address, "/api/extra/version", bound),
  ]);
  const context = z.object({ value: z.number() }).safeParse(length).data?.value;
  const can = z
    .object({ llm: z.boolean().optional(), vision: z.boolean().optional() })
    .safeParse(version).data;
  return async (entry) => {
    if (can?.llm === false || NOTHING_LOADED.test(entry.id)) return null;
    const capabilities: Capability[] = ["chat", "completion", "seed"];
    if (can?.vision) capabilities.push("vision");
    return {
      contextLength: wholeContext(context),
      capabilities,
      slots: 1,
      slotsAssumed: "KoboldCpp computes one answer at a time",
      ...quantisationOf(entry.id),
    };
  };
}
