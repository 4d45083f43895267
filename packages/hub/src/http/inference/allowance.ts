/** What rate limits leave to a request: kept beside it from its payer's look-up until its job has ended. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { JobOutcome, JobRequest } from "../../jobs/types.ts";
import type { Allowance } from "../rate-limit.ts";

const allowances = new WeakMap<FastifyRequest, Allowance>();

/** Charges one request. Throws GfeError rate_limited; the headers are sent then, too. */
export function allow(request: FastifyRequest, allowance: Allowance): void {
  allowances.set(request, allowance);
  allowance.begin();
}

/** The usual headers, as they stand now; none where nothing is limited. */
export const rateHeaders = (request: FastifyRequest): Record<string, string> =>
  allowances.get(request)?.headers() ?? {};

/** Adds them to every answer of the scope that is not streamed. */
export function sendRateHeaders(scope: FastifyInstance): void {
  scope.addHook("onSend", (request, reply, payload, done) => {
    if (allowances.has(request)) reply.headers(rateHeaders(request));
    done(null, payload);
  });
}

/** Charges a job's tokens: its prompt, and what it may say. Throws GfeError rate_limited. Returns what its end corrects. */
export function takeTokens(request: FastifyRequest, job: JobRequest): (outcome?: JobOutcome) => void {
  const allowance = allowances.get(request);
  const estimate = Math.ceil(job.inputBytes / 4) + (job.maxOutputTokens ?? 0) * job.choices;
  allowance?.take(estimate);
  return (outcome) => {
    const used = outcome ? outcome.usage.input_tokens + outcome.usage.output_tokens : 0;
    allowance?.correct(used - estimate);
  };
}
