/**
 * The frames between hub and agent: JSON text frames for control, binary frames for what the engine says (deltas.ts).
 * The agent dials `wss://hub/agent/v1/link` with its agent token as a Bearer header, never in the address.
 *
 *   hub   challenge  → proves nothing yet: names its key and a nonce
 *   agent hello      → its node key, its own nonce, its signature over both, and what it offers
 *   hub   welcome    → its signature over the agent's nonce and the grant: the agent checks it against the pinned key
 *   then  announce, heartbeat, drain, elsewhere (agent) and attempt.start, attempt.cancel, attempt.pause, attempt.resume,
 *         hub.leaving (hub),
 *         attempt.done or attempt.failed exactly once for each attempt.start (agent).
 *
 * Unknown types are ignored with a count on both sides: a newer peer may say more. A change that an older peer would
 * misread raises PROTOCOL_VERSION.
 */
import { z } from "zod";
import { announcementSchema, OFFER_LIMITS } from "./offer.ts";
import { printable } from "./text.ts";
import { signedReceiptSchema } from "./usage.ts";

export const PROTOCOL_VERSION = 1;
export const LINK_PATH = "/agent/v1/link";

export const LINK_LIMITS = {
  /** A control or binary message of either side. */
  messageBytes: 16 * 1024 * 1024,
  /** From opening to `hello`, and from `hello` to `welcome`. */
  handshakeMs: 10_000,
  heartbeatMs: 10_000,
  /** Silence after which the other side is taken for gone. */
  silenceMs: 30_000,
  /** Malformed frames after which the hub closes the socket. */
  malformedFrames: 20,
} as const;

/** WebSocket close codes of ours (4000–4999 are free for applications). */
export const CLOSE = {
  goingAway: 1001,
  unauthenticated: 4401,
  revoked: 4403,
  proofRefused: 4406,
  replaced: 4409,
  malformed: 4422,
  versionRefused: 4426,
  silent: 4408,
} as const;

export const NODE_PROOF_PURPOSE = "gfe-node-proof-v1";
export const HUB_GRANT_PURPOSE = "gfe-hub-grant-v1";

const key = z.string().regex(/^[A-Za-z0-9_-]{43}$/, "must be a 32-byte key in base64url");
const nonce = z.string().regex(/^[A-Za-z0-9_-]{22,86}$/);
const signature = z.string().regex(/^[A-Za-z0-9_-]{86}$/);
const attemptId = z.string().min(1).max(64);
/** W3C trace context, version 00. What is none is left out, and costs nobody its attempt. */
const traceparent = z
  .string()
  .regex(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)
  .optional()
  .catch(undefined);

export const hubFrameSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("challenge"), version: z.number().int(), hub_key: key, nonce }),
  z.object({
    type: z.literal("welcome"),
    node_id: z.string(),
    grant: z.object({
      purpose: z.literal(HUB_GRANT_PURPOSE),
      hub_key: key,
      node_key: key,
      node_nonce: nonce,
      node_id: z.string(),
      owner: z.string(),
      heartbeat_ms: z.number().int(),
      granted_at_ms: z.number().int(),
    }),
    signature,
  }),
  z.object({
    type: z.literal("attempt.start"),
    attempt: attemptId,
    /** Names the attempt in binary frames; unique on this socket for its lifetime. */
    channel: z.number().int().min(1).max(0xffffffff),
    kind: z.enum(["chat", "completion", "embedding"]),
    model: z.string(),
    /** The request in OpenAI's words, checked by the hub; `max_tokens` is always present but for embeddings. */
    body: z.record(z.string(), z.unknown()),
    /** When the agent must have ended it, in milliseconds from receipt. */
    deadline_ms: z.number().int().positive(),
    /** A short answer that nobody streams: the engine may be asked for it in one piece. */
    whole: z.boolean().optional(),
    /**
     * What another node said before it failed, a delta a piece: the engine goes on right behind it, and says only what comes
     * after. Sent for models with the capability `continuation` only. `tokens` is the hub's count; `max_tokens` of the body
     * bounds both.
     */
    prefix: z
      .object({ pieces: z.array(z.string().min(1)).min(1), tokens: z.number().int().min(1) })
      .optional(),
    /** The span that the attempt belongs to, where the hub is traced. */
    traceparent,
    /**
     * Nobody waits for it at this moment: an agent that loses its connection keeps it, as it runs and after its end, for so long. A
     * start of the same attempt asks for it again, from the beginning; an agent that has it no more says that it failed, or runs
     * it anew. Milliseconds.
     */
    keep_ms: z.number().int().positive().optional(),
  }),
  z.object({ type: z.literal("attempt.cancel"), attempt: attemptId, reason: z.string().max(200) }),
  z.object({ type: z.literal("attempt.pause"), attempt: attemptId }),
  z.object({ type: z.literal("attempt.resume"), attempt: attemptId }),
  /** A frame of the agent's was refused; `fatal` precedes a close. */
  z.object({ type: z.literal("refused"), code: z.string(), message: z.string(), fatal: z.boolean() }),
  z.object({ type: z.literal("heartbeat"), sent_at_ms: z.number() }),
  /**
   * This hub stops soon and another takes its place: the agent connects anew at a moment of its own choice within `within_ms`,
   * then says `drain` here, lets end here what began here, and closes. An agent that does not know it is cut off at the end.
   */
  z.object({ type: z.literal("hub.leaving"), within_ms: z.number().int().min(0) }),
]);
export type HubFrame = z.infer<typeof hubFrameSchema>;
export type AttemptStart = Extract<HubFrame, { type: "attempt.start" }>;
export type HubGrant = Extract<HubFrame, { type: "welcome" }>["grant"];

/** Attempts of this node that another hub's socket still runs: their slots are taken here, too. */
const elsewhere = z
  .array(
    z.object({
      model: printable(OFFER_LIMITS.nameLength),
      running: z.number().int().min(1).max(OFFER_LIMITS.slotsPerModel),
    }),
  )
  .max(OFFER_LIMITS.models);
export type Elsewhere = z.infer<typeof elsewhere>;

export const finishReasonSchema = z.enum(["stop", "length", "tool_calls", "content_filter", "function_call"]);
export type FinishReason = z.infer<typeof finishReasonSchema>;

export const attemptFailureSchema = z.enum([
  "engine_error",
  "engine_refused",
  "context_length_exceeded",
  "unsupported",
  "busy",
  "cancelled",
  "draining",
  "timeout",
]);
export type AttemptFailure = z.infer<typeof attemptFailureSchema>;

export const agentFrameSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("hello"),
    version: z.number().int(),
    agent_version: printable(40),
    node_key: key,
    node_nonce: nonce,
    /** Ed25519 over nodeProof(…). */
    proof: signature,
    announcement: announcementSchema,
    elsewhere: elsewhere.optional(),
  }),
  /** What `hello` said of it has changed. An older hub counts it as unknown and ignores it. */
  z.object({ type: z.literal("elsewhere"), models: elsewhere }),
  z.object({ type: z.literal("announce"), announcement: announcementSchema }),
  z.object({ type: z.literal("heartbeat"), sent_at_ms: z.number(), running: z.number().int().min(0) }),
  z.object({
    type: z.literal("drain"),
    draining: z.boolean(),
    /** Why, as a code for the node's owner to see: never what runs on the machine. */
    reason: z
      .string()
      .regex(/^[a-z_]{1,40}$/)
      .optional(),
  }),
  z.object({
    type: z.literal("attempt.done"),
    attempt: attemptId,
    /** Why each choice ended, by index. */
    finish: z.array(finishReasonSchema).max(128),
    receipt: signedReceiptSchema,
  }),
  z.object({
    type: z.literal("attempt.failed"),
    attempt: attemptId,
    code: attemptFailureSchema,
    message: z.string().max(2000),
    receipt: signedReceiptSchema.optional(),
  }),
]);
export type AgentFrame = z.infer<typeof agentFrameSchema>;

/** What the node signs to show that it holds its key, for this hub and this connection only. */
export function nodeProof(parts: { hub_key: string; nonce: string; node_key: string; node_nonce: string }) {
  return { purpose: NODE_PROOF_PURPOSE, ...parts };
}
