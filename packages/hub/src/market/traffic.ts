/** Who got how much of a model's recent jobs: for the caps on those whom nobody knows yet. */

/** After so many jobs of the model, half is forgotten. */
export const MEMORY_JOBS = 1_000;
/** Jobs that are thought to have gone before, so that the first ones are not the whole traffic. */
export const PRIOR_JOBS = 60;
/** Nodes, owners and address blocks counted for each model; above it counts start anew. */
const COUNTED_MAX = 10_000;
const MODELS_MAX = 10_000;

interface Count {
  value: number;
  atJob: number;
}

interface ModelTraffic {
  jobs: number;
  counts: Map<string, Count>;
}

export interface Traffic {
  /** The share of the model's recent jobs that a node, owner or address block would have if it got the next one too. */
  shareWithNext(model: string, who: string): number;
  /** A job of the model was given; `unknown` lists the node, owner and address block that are on probation. */
  given(model: string, unknown: readonly string[]): void;
}

export function createTraffic(): Traffic {
  const models = new Map<string, ModelTraffic>();
  const decayed = (count: Count | undefined, jobs: number): number =>
    count ? count.value * 2 ** (-(jobs - count.atJob) / MEMORY_JOBS) : 0;
  /** What of `jobs` is remembered, by the same decay: a geometric sum. */
  const remembered = (jobs: number): number => {
    const keep = 2 ** (-1 / MEMORY_JOBS);
    return (1 - keep ** jobs) / (1 - keep);
  };
  return {
    shareWithNext(model, who) {
      const traffic = models.get(model);
      const jobs = traffic?.jobs ?? 0;
      return (decayed(traffic?.counts.get(who), jobs) + 1) / (remembered(jobs) + PRIOR_JOBS);
    },
    given(model, unknown) {
      let traffic = models.get(model);
      if (!traffic) {
        if (models.size >= MODELS_MAX) models.clear();
        traffic = { jobs: 0, counts: new Map() };
        models.set(model, traffic);
      }
      traffic.jobs++;
      if (traffic.counts.size > COUNTED_MAX) traffic.counts.clear();
      for (const who of unknown) {
        const value = decayed(traffic.counts.get(who), traffic.jobs) + 1;
        traffic.counts.set(who, { value, atJob: traffic.jobs });
      }
    },
  };
}
