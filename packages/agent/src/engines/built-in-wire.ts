/**
 * What the agent and the program of the built-in engine say to each other: a line of JSON each, over its standard input
 * and output. The program may be hostile to the agent (a model file is a stranger's), so what it says is checked.
 */
import { attemptFailureSchema, capabilitySchema, choiceDeltaSchema, finishReasonSchema } from "@gfe/protocol";
import { z } from "zod";
import { parseJson } from "../body.ts";
import type { EngineAttempt } from "./engine.ts";

/** What is loaded: the agent has looked at the file, the program only opens it. */
export interface ModelToLoad {
  modelPath: string;
  name: string;
  sizeBytes: number;
  slots: number;
  contextLengthMax?: number;
  threads?: number;
  gpu?: boolean;
  embeddings?: boolean;
}

export type ToProgram =
  | { type: "load"; model: ModelToLoad }
  | { type: "run"; id: number; attempt: EngineAttempt }
  | { type: "abort"; id: number }
  /** The hub wants no more for now, or wants more. */
  | { type: "hold"; id: number }
  | { type: "go"; id: number };

const usageSchema = z
  .object({
    inputTokens: z.number(),
    outputTokens: z.number(),
    cachedInputTokens: z.number().optional(),
    reasoningTokens: z.number().optional(),
  })
  .nullable();

const outcomeSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("done"), finish: z.array(finishReasonSchema).max(128), usage: usageSchema }),
  z.object({
    type: z.literal("failed"),
    code: attemptFailureSchema,
    message: z.string().max(10_000),
    usage: usageSchema,
  }),
]);

const factsSchema = z.object({
  quantisation: z.string().max(40).optional(),
  parameters: z.string().max(40).optional(),
  contextLength: z.number().int().positive(),
  capabilities: z.array(capabilitySchema).max(64),
  compute: z.object({
    device: z.enum(["cuda", "vulkan", "metal", "cpu"]),
    gpuLayers: z.number(),
    layers: z.number(),
    gpuMemoryBytes: z.number(),
    memoryBytes: z.number(),
  }),
});

const id = z.number().int();
const statementSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("loaded"), facts: factsSchema }),
  z.object({ type: z.literal("unloadable"), message: z.string().max(10_000) }),
  z.object({ type: z.literal("choice"), id, delta: choiceDeltaSchema }),
  z.object({ type: z.literal("embeddings"), id, vectors: z.array(z.base64()) }),
  z.object({ type: z.literal("ended"), id, outcome: outcomeSchema }),
  z.object({ type: z.literal("log"), message: z.string().max(10_000) }),
]);

/** Text goes as an array, for there is one a token: the attempt, the text, and 1 where it is a thought. */
export type Piece = readonly [id: number, text: string, thought?: 1];
export type FromProgram = Piece | z.infer<typeof statementSchema>;
export type LoadedFacts = z.infer<typeof factsSchema>;

/** Null for what is none of what the program may say. */
export function readStatement(line: string): FromProgram | null {
  const value = parseJson(line);
  if (Array.isArray(value))
    return typeof value[0] === "number" && typeof value[1] === "string" ? (value as unknown as Piece) : null;
  return statementSchema.safeParse(value).data ?? null;
}
