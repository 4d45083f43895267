/** LM Studio: only what it has loaded is offered, for loading another would push out what the provider uses. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import { type Bound, type Describe, wholeContext } from "./known.ts";

const studioSchema = z.object({
  models: z.array(
    z.object({
      type: z.string(),
      key: z.string(),
      quantization: z.object({ name: z.string().nullish() }).nullish(),
      params_string: z.string().nullish(),
      max_context_length: z.number().nullish(),
      loaded_instances: z
        .array(
          z.object({
            id: z.string(),
            config: z
              .object({
                context_length: z.number().nullish(),
                parallel: z.number().int().positive().nullish(),
              })
              .nullish(),
          }),
        )
        .default([]),
      capabilities: z
        .object({ vision: z.boolean().nullish(), trained_for_tool_use: z.boolean().nullish() })
        .nullish(),
    }),
  ),
});

/** Before 0.4: no parallel answers, no capabilities. */
const beforeSchema = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      type: z.string(),
      state: z.string(),
      quantization: z.string().nullish(),
      max_context_length: z.number().nullish(),
      loaded_context_length: z.number().nullish(),
    }),
  ),
});

const SPOKEN: Capability[] = ["chat", "completion", "json_schema", "seed", "logit_bias"];
const ASSUMED = "this LM Studio does not tell how many answers it computes at once";

export async function describeLmStudio(
  host: EngineHost,
  address: EngineAddress,
  bound: Bound,
): Promise<Describe> {
  const studio = studioSchema.safeParse(await inquire(host, address, "/api/v1/models", bound)).data;
  if (!studio) return describeBefore(host, address, bound);
  return async (entry) => {
    const model = studio.models.find(
      ({ key, loaded_instances: loaded }) => key === entry.id || loaded.some(({ id }) => id === entry.id),
    );
    const loaded = model?.loaded_instances.find(({ id }) => id === entry.id) ?? model?.loaded_instances[0];
    if (!model || !loaded) return null;
    const capabilities: Capability[] = model.type === "embedding" ? ["embedding"] : [...SPOKEN];
    if (model.capabilities?.trained_for_tool_use) capabilities.push("tools", "tool_choice");
    if (model.capabilities?.vision) capabilities.push("vision");
    return {
      contextLength: wholeContext(loaded.config?.context_length || model.max_context_length),
      capabilities,
      slots: loaded.config?.parallel ?? 1,
      ...(loaded.config?.parallel ? {} : { slotsAssumed: ASSUMED }),
      ...(model.quantization?.name ? { quantisation: model.quantization.name } : {}),
      ...(model.params_string ? { parameters: model.params_string } : {}),
    };
  };
}

async function describeBefore(host: EngineHost, address: EngineAddress, bound: Bound): Promise<Describe> {
  const studio = beforeSchema.safeParse(await inquire(host, address, "/api/v0/models", bound)).data;
  return async (entry) => {
    const model = studio?.data.find(({ id }) => id === entry.id);
    if (model?.state !== "loaded") return null;
    return {
      contextLength: wholeContext(model.loaded_context_length || model.max_context_length),
      capabilities:
        model.type === "embeddings"
          ? ["embedding"]
          : [...SPOKEN, ...(model.type === "vlm" ? (["vision"] as const) : [])],
      slots: 1,
      slotsAssumed: ASSUMED,
      ...(model.quantization ? { quantisation: model.quantization } : {}),
    };
  };
}
