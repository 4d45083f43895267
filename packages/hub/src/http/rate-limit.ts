/**
 * How much an account may ask for in a minute: token buckets, one for requests and one for tokens, that fill evenly.
 * A request is charged its estimate when it comes and the difference when its job ends, so a bucket may be overdrawn
 * and refuses until it has filled again. In memory: hubs that share a database tell each other what was used
 * (fabric/gossip.ts), so together they let through little more than one would; each starts with full buckets.
 */
import { GfeError } from "@gfe/protocol";
import { z } from "zod";

/** 0: no limit. */
export interface RateLimits {
  readonly requestsPerMinute: number;
  readonly tokensPerMinute: number;
}

/** Who is limited: an account, or a key with limits of its own. */
export interface Subject {
  readonly id: string;
  readonly limits: RateLimits;
}

const limit = z.number().int().min(0);
/** What a subject used at one hub since that was last told. Tokens are less than zero where more was given back than taken. */
const usedSchema = z.object({
  id: z.string(),
  limits: z.object({ requestsPerMinute: limit, tokensPerMinute: limit }),
  requests: limit,
  tokens: z.number(),
});
export type Used = z.infer<typeof usedSchema>;

/** What one hub lets through before it has heard of the last requests at another is what comes within this time. */
export const USED_EVERY_MS = 100;

/** How hubs tell each other of it. */
export const usedGossip = { name: "used", everyMs: USED_EVERY_MS, item: usedSchema } as const;

/** What limits a request of several subjects. */
export interface RateLimiter {
  allowanceOf(subjects: readonly Subject[]): Allowance;
  /** What was used here and not taken from this list before, `max` subjects at most; empty unless it is shared. */
  take(max: number): Used[];
  /** What was used at another hub. */
  learn(used: readonly Used[]): void;
}

/** What one request may use. All of its subjects are charged, or none. */
export interface Allowance {
  /** Charges one request. Throws GfeError rate_limited where one subject has none left. */
  begin(): void;
  /** Charges tokens before a job runs. Throws GfeError rate_limited where too few are left. */
  take(tokens: number): void;
  /** The job has ended: what it took beyond its estimate is charged, what it did not take is given back. */
  correct(difference: number): void;
  /** The usual headers, of the subject that has the least left. */
  headers(): Record<string, string>;
}

/** Subjects remembered; beyond it the one that came first is forgotten, and with it what it has used. */
export const SUBJECTS_MAX = 100_000;
const MINUTE_MS = 60_000;

/** Whose limits a caller's requests come under: its account's, and its key's where that has its own. */
export function limitedBy(
  caller: { userId: string; keyId?: string; requestsPerMinute: number | null },
  limits: RateLimits,
): Subject[] {
  const subjects: Subject[] = [];
  if (limits.requestsPerMinute > 0 || limits.tokensPerMinute > 0)
    subjects.push({ id: caller.userId, limits });
  const { keyId, requestsPerMinute } = caller;
  if (keyId !== undefined && requestsPerMinute !== null)
    subjects.push({ id: keyId, limits: { requestsPerMinute, tokensPerMinute: 0 } });
  return subjects;
}

class Bucket {
  readonly perMinute: number;
  #level: number;
  #atMs: number;

  constructor(perMinute: number, nowMs: number) {
    this.perMinute = perMinute;
    this.#level = perMinute;
    this.#atMs = nowMs;
  }

  level(nowMs: number): number {
    this.#level = Math.min(this.perMinute, this.#level + ((nowMs - this.#atMs) * this.perMinute) / MINUTE_MS);
    this.#atMs = nowMs;
    return this.#level;
  }

  add(amount: number): void {
    this.#level = Math.min(this.perMinute, this.#level + amount);
  }

  /** Milliseconds until there is so much in it. */
  untilMs(amount: number, nowMs: number): number {
    return this.perMinute === 0
      ? 0
      : Math.max(0, ((amount - this.level(nowMs)) * MINUTE_MS) / this.perMinute);
  }
}

interface Account extends Subject {
  readonly requests: Bucket;
  readonly tokens: Bucket;
}

/** `shared`: what is used is kept for other hubs, until it is taken by `take`. */
export function createRateLimiter(nowMs: () => number, { shared = false } = {}): RateLimiter {
  const known = new Map<string, Account>();
  const untold = new Map<string, Used>();

  function charge(accounts: readonly Account[], kind: "requests" | "tokens", amount: number): void {
    for (const account of accounts) {
      account[kind].add(-amount);
      if (!shared) continue;
      const { id, limits } = account;
      const { requests, tokens } = untold.get(id) ?? { requests: 0, tokens: 0 };
      const used = { id, limits, requests, tokens };
      used[kind] += amount;
      untold.set(id, used);
      if (untold.size > SUBJECTS_MAX) untold.delete(untold.keys().next().value!);
    }
  }

  function accountOf({ id, limits }: Subject): Account {
    let account = known.get(id);
    const same =
      account?.requests.perMinute === limits.requestsPerMinute &&
      account.tokens.perMinute === limits.tokensPerMinute;
    if (account && same) return account;
    if (known.size >= SUBJECTS_MAX) known.delete(known.keys().next().value!);
    const now = nowMs();
    account = {
      ...{ id, limits },
      requests: new Bucket(limits.requestsPerMinute, now),
      tokens: new Bucket(limits.tokensPerMinute, now),
    };
    known.set(id, account);
    return account;
  }

  return {
    allowanceOf(subjects) {
      const accounts = subjects.map(accountOf);
      return {
        begin() {
          check(accounts, "requests", 1, nowMs());
          charge(accounts, "requests", 1);
        },
        take(tokens) {
          check(accounts, "tokens", tokens, nowMs());
          charge(accounts, "tokens", tokens);
        },
        correct: (difference) => charge(accounts, "tokens", difference),
        headers: () => headersOf(accounts, nowMs()),
      };
    },
    take(max) {
      const taken = [...untold.values()].slice(0, max);
      for (const { id } of taken) untold.delete(id);
      return taken;
    },
    learn(used) {
      for (const { requests, tokens, ...subject } of used) {
        const account = accountOf(subject);
        account.requests.add(-requests);
        account.tokens.add(-tokens);
      }
    },
  };
}

function check(accounts: readonly Account[], kind: "requests" | "tokens", amount: number, now: number): void {
  for (const account of accounts) {
    const bucket = account[kind];
    if (bucket.perMinute === 0) continue;
    // What is more than a whole minute's worth may begin when the bucket is full.
    const needed = Math.min(amount, bucket.perMinute);
    if (bucket.level(now) >= needed) continue;
    throw new GfeError("rate_limited", `More than ${bucket.perMinute} ${kind} a minute`, {
      retryAfterS: Math.max(1, Math.ceil(bucket.untilMs(needed, now) / 1000)),
    });
  }
}

function headersOf(accounts: readonly Account[], now: number): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const kind of ["requests", "tokens"] as const) {
    let least: Bucket | null = null;
    for (const { [kind]: bucket } of accounts)
      if (bucket.perMinute > 0 && (!least || bucket.level(now) < least.level(now))) least = bucket;
    if (!least) continue;
    headers[`x-ratelimit-limit-${kind}`] = String(least.perMinute);
    headers[`x-ratelimit-remaining-${kind}`] = String(Math.max(0, Math.floor(least.level(now))));
    headers[`x-ratelimit-reset-${kind}`] = durationText(least.untilMs(least.perMinute, now));
  }
  return headers;
}

/** As OpenAI writes it: `120ms`, `6s`, `1m30s`. */
function durationText(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
