/** What the routes under /api/v1 share. */
import type { KeyScope, PublicConfig } from "@gfe/protocol";
import type { FastifyRequest } from "fastify";
import type pg from "pg";
import { z } from "zod";
import type { Accounts, Principal } from "../../accounts/accounts.ts";
import type { Books } from "../../billing/books.ts";
import type { Deferred } from "../../jobs/deferred/runner.ts";
import type { Payer } from "../../jobs/types.ts";
import type { Live } from "../../live/live.ts";
import type { Registry } from "../../market/registry.ts";
import type { PriceBook } from "../../prices/price-book.ts";
import type { Reputation } from "../../trust/reputation.ts";
import { callerOf } from "../caller.ts";
import { nameOf } from "../parse.ts";

export interface RestDeps {
  accounts: Accounts;
  books: Books;
  pool: pg.Pool;
  registry: Registry;
  live: Live;
  prices: PriceBook;
  reputation: Reputation;
  publicConfig: PublicConfig;
  /** Who pays for an inference request. Throws GfeError where the caller may not ask, or asked too often. */
  payerOf(request: FastifyRequest): Promise<Payer>;
  deferred: Deferred;
  /** Requests that wait for a slot at this hub. */
  waiting(): number;
  /** Whether webhooks may lead to addresses that are not public. */
  webhooks: { allowPrivate: boolean };
  nowMs: () => number;
}

export const pageSchema = z.object({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  before: nameOf(80).optional(),
});
export const idSchema = z.object({ id: nameOf(80) });
export const tags = (tag: string, summary: string) => ({ tags: [tag], summary });

/** Finds a request's caller. Throws GfeError 401 or 403 where the scope is missing. */
export const whoOf =
  ({ accounts }: Pick<RestDeps, "accounts">) =>
  (request: FastifyRequest, scope: KeyScope): Promise<Principal> =>
    accounts.authenticate(callerOf(request), scope);

/** The account of whoever asks: by its session or key, or by an agent token of it. Throws GfeError as whoOf does. */
export const ownerOf =
  ({ accounts }: Pick<RestDeps, "accounts">) =>
  async (request: FastifyRequest, scope: KeyScope): Promise<string> => {
    const token = agentTokenIn(request);
    if (token !== null) return (await accounts.agentTokens.authenticate(token)).userId;
    return (await accounts.authenticate(callerOf(request), scope)).userId;
  };

/** The agent token that a request carries; null where it carries something else. */
export const agentTokenIn = (request: FastifyRequest): string | null =>
  /^Bearer (gfe_at_\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? null;
