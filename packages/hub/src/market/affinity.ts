/**
 * Which node holds the cache of a conversation: a bounded memory of hashes of conversation prefixes. No prompt is kept,
 * and without this process's salt the hashes tell nothing. History alone is enough (as in SGLang's router).
 */
import { createHash, randomBytes } from "node:crypto";

/** Prefixes that are remembered; the one unused for longest goes first. */
export const PREFIXES_MAX = 100_000;
/** Messages of one conversation that are looked at; of longer ones the beginning. */
export const MESSAGES_MAX = 512;

/** One prefix of a conversation: its hash and how many tokens it has, about. */
export interface Prefix {
  hash: string;
  tokens: number;
}

const SALT = randomBytes(16);

/**
 * The prefixes that end with each message, shortest first. `scope`: whose conversation it is and with which model; else
 * one consumer could find out what another has said by guessing it.
 */
export function prefixesOf(
  scope: readonly string[],
  messages: readonly unknown[],
  salt: Uint8Array = SALT,
): Prefix[] {
  const running = createHash("sha256").update(salt).update(JSON.stringify(scope));
  let bytes = 0;
  return messages.slice(0, MESSAGES_MAX).map((message) => {
    const text = JSON.stringify(message) ?? "";
    bytes += text.length;
    running.update(text).update("\n");
    return { hash: running.copy().digest("base64url").slice(0, 22), tokens: Math.ceil(bytes / 4) };
  });
}

export interface Affinity {
  /** The node that served the longest known prefix, and that prefix's tokens. */
  find(prefixes: readonly Prefix[]): { nodeId: string; tokens: number } | null;
  /** A node has been given this conversation. */
  remember(prefixes: readonly Prefix[], nodeId: string): void;
}

export function createAffinity(prefixesMax: number = PREFIXES_MAX): Affinity {
  const nodes = new Map<string, string>();
  return {
    find(prefixes) {
      for (let i = prefixes.length - 1; i >= 0; i--) {
        const { hash, tokens } = prefixes[i]!;
        const nodeId = nodes.get(hash);
        if (nodeId !== undefined) return { nodeId, tokens };
      }
      return null;
    },
    remember(prefixes, nodeId) {
      // The whole alone: a system message that many conversations share must not draw them all to one node.
      const last = prefixes.at(-1);
      if (!last || (prefixes.length === 1 && last.tokens === 0)) return;
      nodes.delete(last.hash);
      nodes.set(last.hash, nodeId);
      const [oldest] = nodes.keys();
      if (nodes.size > prefixesMax && oldest !== undefined) nodes.delete(oldest);
    },
  };
}
