/**
 * What answers at an address. Engines share ports and imitate each other's routes, so each is told by what only it says
 * of itself, and the imitators are asked for before those they imitate: LocalAI and KoboldCpp speak Ollama too,
 * KoboldCpp and TabbyAPI have llama.cpp's `/props`, all of them speak OpenAI. Our own hub speaks both and is no engine.
 */
import { z } from "zod";
import { parseJson, readText } from "../body.ts";
import { type Host, limitedSignal } from "../host.ts";
import { DETECT_LIMITS } from "../limits.ts";
import type { OpenAiKind } from "./describe/openai.ts";

export type Detected = "ollama" | OpenAiKind | "hub" | "nothing";

/** The body of a 200, or the status of anything else. */
type Answer = { status: number; body: string | null };
type Path = (typeof PATHS)[number];
type Answers = Readonly<Record<Path, Answer>>;

const PATHS = [
  "/v1/models",
  "/api/v1/config",
  "/readyz",
  "/v1/models/capabilities",
  "/api/extra/version",
  "/v1/model",
  "/openapi.json",
  "/props",
  "/version",
  "/api/v1/models",
  "/api/v0/models",
] as const;

const says = (schema: z.ZodType, { body }: Answer): boolean =>
  body !== null && schema.safeParse(parseJson(body)).success;

const refused = z.object({ error: z.unknown().refine((error) => error !== undefined && error !== null) });
const hub = z.object({ hub_key: z.string() });
const list = z.object({ object: z.literal("list").optional(), data: z.array(z.unknown()) });
const listOf = (owner: string) =>
  z.object({ data: z.array(z.object({ owned_by: z.literal(owner) })).min(1) });
const kobold = z.object({ result: z.literal("KoboldCpp") });
const tabbyModel = z.object({ object: z.literal("model"), owned_by: z.literal("tabbyAPI") });
const localAiModel = z.object({ data: z.array(z.object({ capabilities: z.array(z.string()) })).min(1) });
const titled = (title: RegExp) => z.object({ info: z.object({ title: z.string().regex(title) }) });
const props = z.object({ build_info: z.string() });
const vllmVersion = z.object({ version: z.string() });
const studio = z.object({ models: z.array(z.object({ key: z.string(), type: z.string() })) });
const studioBefore = z.object({
  data: z.array(z.object({ state: z.enum(["loaded", "not-loaded"]) })).min(1),
});

/** The first that fits, in this order. */
function kindOf(root: string | null, at: Answers): Detected {
  if (says(hub, at["/api/v1/config"])) return "hub";
  const models = at["/v1/models"];
  // A server that wants a key for its models may still say what it is.
  const isOpenAi = says(list, models) || models.status === 401 || models.status === 403;
  if (isOpenAi) {
    if (says(kobold, at["/api/extra/version"])) return "koboldcpp";
    if (says(localAiModel, at["/v1/models/capabilities"])) return "localai";
    // Older ones have no such list; nobody else says "ready" at this path.
    if (at["/readyz"].body !== null) return "localai";
    if (says(tabbyModel, at["/v1/model"]) || says(listOf("tabbyAPI"), models)) return "tabbyapi";
    if (says(titled(/tabby/i), at["/openapi.json"])) return "tabbyapi";
    if (says(titled(/^\W*jan\b/i), at["/openapi.json"])) return "jan";
    if (says(props, at["/props"])) return "llama.cpp";
    if (says(listOf("vllm"), models)) return "vllm";
    if (says(titled(/vllm/i), at["/openapi.json"]) && says(vllmVersion, at["/version"])) return "vllm";
    if (says(studio, at["/api/v1/models"]) || says(studioBefore, at["/api/v0/models"])) return "lm-studio";
  }
  if (root?.startsWith("Ollama is running")) return "ollama";
  return says(list, models) ? "openai-compatible" : "nothing";
}

export interface Identity {
  kind: Detected;
  /** Whether every question was answered in time: an engine under load may look like one that it imitates. */
  isSure: boolean;
}

/** Never rejects: an address where nothing answers in time is "nothing". */
export async function identifyEngine(
  host: Pick<Host, "http" | "after">,
  baseUrl: string,
  apiKey?: string,
): Promise<Identity> {
  const { signal, release } = limitedSignal(host, DETECT_LIMITS.timeoutMs);
  const headers: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const ask = async (path: string): Promise<Answer | null> => {
    try {
      const response = await host.http({ url: baseUrl + path, headers, signal });
      if (response.status === 200) {
        const body = await readText(response, DETECT_LIMITS.bodyBytes);
        // LM Studio answers every path with 200, and tells in the body that there is no such thing.
        return says(refused, { status: 200, body }) ? { status: 404, body: null } : { status: 200, body };
      }
      response.cancel();
      return { status: response.status, body: null };
    } catch (error) {
      return (error as { code?: unknown } | null)?.code === "ECONNREFUSED" ? null : { status: 0, body: null };
    }
  };
  try {
    // Most addresses have nobody: one refused connection says so. Where somebody is, all other questions go at once.
    const root = await ask("/");
    if (!root) return { kind: "nothing", isSure: true };
    const answers = await Promise.all(PATHS.map(ask));
    const silent = { status: 0, body: null };
    const byPath = Object.fromEntries(PATHS.map((path, index) => [path, answers[index] ?? silent]));
    const isSure = [root, ...answers].every((answer) => answer !== null && answer.status > 0);
    return { kind: kindOf(root.body, byPath as Answers), isSure };
  } finally {
    release();
  }
}
