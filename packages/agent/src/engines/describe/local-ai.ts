/** LocalAI: its newer releases tell what each model is for and how long its context is; models of images and sound are not offered. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import { type Bound, type Describe, plainCapabilities, quantisationOf, wholeContext } from "./known.ts";

const toldSchema = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      capabilities: z.array(z.string()).nullish(),
      context_size: z.number().nullish(),
    }),
  ),
});

export async function describeLocalAi(
  host: EngineHost,
  address: EngineAddress,
  bound: Bound,
): Promise<Describe> {
  const told = toldSchema.safeParse(await inquire(host, address, "/v1/models/capabilities", bound)).data;
  return async (entry, before) => {
    const model = told?.data.find(({ id }) => id === entry.id);
    const capabilities = model?.capabilities
      ? capabilitiesOf(model.capabilities)
      : (before?.capabilities ?? (await plainCapabilities(host, address, entry, bound)));
    if (capabilities.length === 0) return null;
    return {
      contextLength: wholeContext(model?.context_size),
      capabilities,
      slots: 1,
      slotsAssumed: "LocalAI does not tell LOCALAI_PARALLEL_REQUESTS and LLAMACPP_PARALLEL",
      ...quantisationOf(entry.id),
    };
  };
}

function capabilitiesOf(told: readonly string[]): Capability[] {
  const found: Capability[] = [];
  if (told.includes("chat")) found.push("chat");
  if (told.includes("completion")) found.push("completion");
  if (found.length > 0 && told.includes("tools")) found.push("tools");
  if (found.length > 0 && told.includes("vision")) found.push("vision");
  if (told.includes("embeddings")) found.push("embedding");
  return found;
}
