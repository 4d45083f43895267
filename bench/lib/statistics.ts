/** The value below which `share` of the values lie; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Prints rows under heads as a table of Markdown, numbers to the right. */
export function printTable(heads: string[], rows: (string | number)[][]): void {
  const texts = [
    heads,
    ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? format(cell) : cell))),
  ];
  const widths = heads.map((_, column) => Math.max(...texts.map((row) => row[column]!.length)));
  const lines = texts.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))),
  );
  lines.splice(
    1,
    0,
    widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)),
  );
  for (const line of lines) console.log(`| ${line.join(" | ")} |`);
}

/** Prints a figure beside its goal, and says whether it was reached. */
export function verdict(what: string, value: number, relation: ">=" | "<=", goal: number): void {
  const reached = relation === ">=" ? value >= goal : value <= goal;
  console.log(
    `- ${what}: **${format(value)}** (goal ${relation === ">=" ? "≥" : "≤"} ${goal.toLocaleString("en")}: ${reached ? "reached" : "not reached"})`,
  );
}

const format = (value: number): string =>
  Number.isNaN(value)
    ? "–"
    : Math.abs(value) >= 100
      ? Math.round(value).toLocaleString("en")
      : value.toFixed(2);

/** Rounded for a JSON line. */
export const rounded = (value: number): number => Math.round(value * 1000) / 1000;
