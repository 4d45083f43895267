/**
 * A decaying histogram with buckets of equal ratio: quantiles of speeds in constant memory. The weights' clock is its
 * owner's (score.ts); here they are only scaled and added to.
 */
export type Histogram = Record<string, number>;

/** Neighbouring buckets differ by this factor, so a quantile is right within 5 %. */
const RATIO = 1.1;
/** Buckets 1.1^±145: from a millionth to a million. */
const BUCKET_MAX = 145;
/** Weight below which a bucket is forgotten. */
const WEIGHT_MIN = 1e-6;

export function addTo(histogram: Histogram, value: number, weight: number): void {
  const bucket = Math.round(Math.log(value) / Math.log(RATIO));
  const key = Math.max(-BUCKET_MAX, Math.min(BUCKET_MAX, bucket));
  histogram[key] = (histogram[key] ?? 0) + weight;
}

export function scale(histogram: Histogram, factor: number): void {
  for (const key of Object.keys(histogram)) {
    const weight = histogram[key]! * factor;
    if (weight < WEIGHT_MIN) delete histogram[key];
    else histogram[key] = weight;
  }
}

export const weightOf = (histogram: Histogram): number =>
  Object.values(histogram).reduce((sum, weight) => sum + weight, 0);

/** The value that the share `q` of the weight does not exceed; null of an empty one. */
export function quantile(histogram: Histogram, q: number): number | null {
  const buckets = Object.keys(histogram)
    .map(Number)
    .sort((a, b) => a - b);
  let left = weightOf(histogram) * q;
  for (const bucket of buckets) {
    left -= histogram[bucket]!;
    if (left <= 1e-9) return RATIO ** bucket;
  }
  return buckets.length === 0 ? null : RATIO ** buckets.at(-1)!;
}
