/** TabbyAPI: with an admin's key its list has every folder of models; only the one that is loaded is offered. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import { type Bound, type Describe, quantisationOf, wholeContext } from "./known.ts";

const currentSchema = z.object({
  id: z.string(),
  parameters: z
    .object({
      max_seq_len: z.number().nullish(),
      max_batch_size: z.number().int().positive().nullish(),
      prompt_template: z.string().nullish(),
      use_vision: z.boolean().nullish(),
    })
    .nullish(),
});

export async function describeTabbyApi(
  host: EngineHost,
  address: EngineAddress,
  bound: Bound,
): Promise<Describe> {
  const current = currentSchema.safeParse(await inquire(host, address, "/v1/model", bound)).data;
  return async (entry) => {
    if (entry.id !== current?.id) return null;
    const { parameters } = current;
    const capabilities: Capability[] = ["completion", "json_schema", "seed"];
    // Without a template it refuses messages.
    if (parameters?.prompt_template) capabilities.unshift("chat");
    if (parameters?.use_vision) capabilities.push("vision");
    return {
      contextLength: wholeContext(parameters?.max_seq_len),
      capabilities,
      slots: parameters?.max_batch_size ?? 1,
      ...(parameters?.max_batch_size ? {} : { slotsAssumed: "this TabbyAPI does not tell max_batch_size" }),
      ...quantisationOf(entry.id),
    };
  };
}
