/** OpenAI's Batch API: files of requests in, files of answers out. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Deferred } from "../../jobs/deferred/runner.ts";
import type { Payer } from "../../jobs/types.ts";
import { registerBatches } from "./batches.ts";
import { registerFiles } from "./files.ts";

export interface BatchDeps {
  /** Whose files and batches these are, and who pays. Throws GfeError (401, 403). */
  payerOf(request: FastifyRequest): Promise<Payer>;
  pool: pg.Pool;
  deferred: Deferred;
}

export function registerBatchApi(app: FastifyInstance, deps: BatchDeps): void {
  // Forms are read here only: a scope of its own.
  app.register(async (scope) => registerFiles(scope, deps));
  registerBatches(app, deps);
}
