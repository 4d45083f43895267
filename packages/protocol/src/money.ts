/** Money is integers of micro-credits: 1 credit = 1,000,000. `bigint` inside, decimal strings on the wire. */
export type MicroCredits = bigint;

export const MICRO_PER_CREDIT = 1_000_000n;

/** "12.5" credits → 12_500_000n. Returns null for anything that is not a plain decimal with at most 6 places. */
export function parseCredits(text: string): MicroCredits | null {
  const match = /^(-?)(\d{1,12})(?:\.(\d{1,6}))?$/.exec(text.trim());
  if (!match) return null;
  const [, sign, whole, fraction = ""] = match;
  const micro = BigInt(whole!) * MICRO_PER_CREDIT + BigInt(fraction.padEnd(6, "0"));
  return sign === "-" ? -micro : micro;
}

/** 12_500_000n → "12.5"; always exact, at least `placesMin` decimals. */
export function formatCredits(micro: MicroCredits, placesMin = 0): string {
  const abs = micro < 0n ? -micro : micro;
  const fraction = (abs % MICRO_PER_CREDIT)
    .toString()
    .padStart(6, "0")
    .replace(/0+$/, "")
    .padEnd(placesMin, "0");
  return `${micro < 0n ? "-" : ""}${abs / MICRO_PER_CREDIT}${fraction ? `.${fraction}` : ""}`;
}
