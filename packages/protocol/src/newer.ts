/**
 * Words of a newer agent that this version does not know. Members and types that are unknown are ignored by the schemas; a
 * word that is unknown where one of a list is meant would make the frame malformed, and the agent useless, for what it offers
 * beside. A word is a lower-case identifier: anything else is a mistake, and refused as such.
 */
import { agentFrameSchema, attemptFailureSchema, finishReasonSchema } from "./frames.ts";
import { capabilitySchema, dataPolicySchema, engineKindSchema } from "./offer.ts";

type Members = Record<string, unknown>;

const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isNewWord = (value: unknown, known: { options: readonly string[] }): boolean =>
  typeof value === "string" && /^[a-z][a-z0-9_.-]{0,39}$/.test(value) && !known.options.includes(value);

/** agentFrameSchema's verdict; a frame that only has new words in it is read without them. */
export function parseAgentFrame(raw: unknown): ReturnType<typeof agentFrameSchema.safeParse> {
  const parsed = agentFrameSchema.safeParse(raw);
  if (parsed.success || !isMembers(raw)) return parsed;
  const again = agentFrameSchema.safeParse(withKnownWords(raw));
  return again.success ? again : parsed;
}

function withKnownWords(frame: Members): Members {
  switch (frame.type) {
    case "hello":
    case "announce":
      return { ...frame, announcement: knownAnnouncement(frame.announcement) };
    case "attempt.done":
      return Array.isArray(frame.finish)
        ? {
            ...frame,
            finish: frame.finish.map((word) => (isNewWord(word, finishReasonSchema) ? "stop" : word)),
          }
        : frame;
    case "attempt.failed":
      return isNewWord(frame.code, attemptFailureSchema) ? { ...frame, code: "engine_error" } : frame;
    default:
      return frame;
  }
}

/** What a node offers in words that are known: a model of which nothing known is left is not offered. */
export function knownAnnouncement(announcement: unknown): unknown {
  if (!isMembers(announcement)) return announcement;
  const { data_policy, ...rest } = announcement;
  const known = isNewWord(data_policy, dataPolicySchema) || data_policy === undefined ? rest : announcement;
  return Array.isArray(known.models) ? { ...known, models: known.models.flatMap(knownOffer) } : known;
}

function knownOffer(offer: unknown): unknown[] {
  if (!isMembers(offer)) return [offer];
  const known = isNewWord(offer.engine, engineKindSchema) ? { ...offer, engine: "openai-compatible" } : offer;
  const { capabilities } = offer;
  if (!Array.isArray(capabilities)) return [known];
  const left = capabilities.filter((word) => !isNewWord(word, capabilitySchema));
  return left.length > 0 || capabilities.length === 0 ? [{ ...known, capabilities: left }] : [];
}
