/**
 * A node that is lost in the middle of a deferred job is waited for, because nobody waits for the answer at this moment, and because
 * it goes on meanwhile and keeps what it says (`keep_ms`). It comes back, is asked for the same attempt by its id, and tells all
 * of it from the beginning, once. A node that has it no more says so, and another one begins anew, as after any failure.
 */
import { LINK_LIMITS } from "@gfe/protocol";
import { identityOf, type Offer } from "../market/registry.ts";
import type { Returns } from "../market/returns.ts";
import type { Ending } from "./running.ts";
import type { JobRequest } from "./types.ts";

/** Times that one attempt waits for its node … */
export const RETURNS_MAX = 3;
/** … and how long: a reconnection with its back-off, and some more. */
export const RETURN_MS = 10_000;
/** The node may notice its loss earlier than the hub does, by as much as a silence may last. */
export const KEEP_MS = RETURN_MS + LINK_LIMITS.silenceMs;

/** Deferred jobs: their answers are stored, not told. */
export const isPatient = ({ whole, beforeSettling }: JobRequest): boolean =>
  whole && beforeSettling !== undefined;

/** The same model on the same node, connected again; null where it is not worth waiting, or in vain. */
export async function returned(
  returns: Returns,
  { end, offer }: Ending,
  signal: AbortSignal,
): Promise<Offer | null> {
  // A node that leaves signs what it did; one that was lost did not.
  if (end.error?.code !== "node_lost" || end.receipt || !end.retryable) return null;
  const node = await returns.of(offer.node.nodeId, RETURN_MS, signal);
  if (!node || signal.aborted) return null;
  const same = node.announcement.models
    .map((one): Offer => ({ node, offer: one }))
    .find((one) => one.offer.model === offer.offer.model && identityOf(one) === identityOf(offer));
  return same ?? null;
}
