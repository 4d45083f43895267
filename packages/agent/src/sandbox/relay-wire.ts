/**
 * HTTP over a program's standard input and output: how the agent speaks to an engine that is in a sandbox without a network. The
 * relay runs beside the engine, asks it on the sandbox's own loopback, and passes all on, a line of JSON each. What it says may
 * come from the engine, and is checked.
 */
import { z } from "zod";
import { parseJson } from "../body.ts";

export type ToRelay =
  | { id: number; ask: { method: string; path: string; headers: Record<string, string>; body?: string } }
  /** `hold`: the reader has enough for now. `go`: it has not. `cut`: it wants no more. */
  | { id: number; say: "hold" | "go" | "cut" };

const id = z.number().int();
const fromRelaySchema = z.union([
  z.object({ id, status: z.number().int(), headers: z.record(z.string(), z.string()) }),
  /** Base64. */
  z.object({ id, data: z.string() }),
  z.object({ id, end: z.literal(true) }),
  z.object({ id, error: z.string().max(1_000), refused: z.boolean().default(false) }),
]);
export type FromRelay = z.infer<typeof fromRelaySchema>;

export const readRelayed = (line: string): FromRelay | null =>
  fromRelaySchema.safeParse(parseJson(line)).data ?? null;
