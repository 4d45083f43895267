/** GET /api/computing/provider-stats/?days=: amounts are credits as decimal text there, not micro-credits. */
import { z } from "zod";

const credits = z.string().regex(/^-?\d+(\.\d+)?$/);

export const providerStatsSchema = z.object({
  days: z.number(),
  total_earnings: credits,
  total_jobs_served: z.number(),
  period_earnings: credits,
  period_jobs_served: z.number(),
  active_nodes: z.number(),
  total_nodes: z.number(),
  earnings_by_day: z.array(z.object({ date: z.string(), earnings: credits, jobs: z.number() })),
  earnings_by_model: z.array(z.object({ model: z.string(), earnings: credits, jobs: z.number() })),
});
export type ProviderStats = z.infer<typeof providerStatsSchema>;
