/** What hubs tell each other of the requests and tokens that were used, so that a rate limit holds for all of them together. */
import { z } from "zod";
import type { Peers } from "./peers.ts";

/** Usage is gathered for so long: what a consumer may use twice is what it can ask for within it. */
export const USAGE_EVERY_MS = 100;
/** Subjects in one message. */
const SUBJECTS_PER_MESSAGE = 1_000;

const limit = z.number().int().min(0);
const usedSchema = z.object({
  id: z.string(),
  limits: z.object({ requestsPerMinute: limit, tokensPerMinute: limit }),
  requests: z.number().min(0),
  tokens: z.number(),
});
const messageSchema = z.object({ used: z.array(usedSchema).max(SUBJECTS_PER_MESSAGE) });
export type UsageOf = z.infer<typeof usedSchema>;

/** What keeps the count of one hub. */
export interface SharedUsage {
  takeUsed(max: number): readonly UsageOf[];
  learn(used: readonly UsageOf[]): void;
}

/** Returns the function that ends it. */
export function shareUsage(peers: Peers, usage: SharedUsage): () => void {
  const telling = setInterval(() => {
    for (let used = take(); used.length > 0; used = take()) peers.tell({ t: "used", used });
  }, USAGE_EVERY_MS).unref();
  const take = () => usage.takeUsed(SUBJECTS_PER_MESSAGE);
  peers.on("used", (_peer, message) => {
    const told = messageSchema.safeParse(message).data;
    if (told) usage.learn(told.used);
  });
  return () => clearInterval(telling);
}
