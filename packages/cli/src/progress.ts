import { Failure } from "./failure.ts";
import { onStopSignals } from "./signals.ts";

/** Between two lines about one table. */
const EVERY_MS = 2_000;

interface Step {
  name: string;
  rows: number;
  bytes: number;
  done: boolean;
}

/** Tells of tables as they pass; of a long one now and then. Nothing without `say`, nothing of empty ones. */
export function createProgress(say: ((line: string) => void) | null, nowMs = () => performance.now()) {
  let saidMs = nowMs();
  return ({ name, rows, bytes, done }: Step): void => {
    if (say === null || bytes === 0 || (!done && nowMs() - saidMs < EVERY_MS)) return;
    saidMs = nowMs();
    say(`  ${name}  ${done ? `${rows.toLocaleString("en")} rows, ` : "… "}${formatBytes(bytes)}`);
  };
}

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const exponent = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${(bytes / 1000 ** exponent).toFixed(1)} ${["", "kB", "MB", "GB", "TB"][exponent]}`;
}

/** Aborted by Ctrl-C or SIGTERM, so that what was begun can be undone; a second press ends the process at once. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  onStopSignals(
    () => stop.abort(new Failure("stopped; nothing was changed")),
    () => process.exit(130),
  );
  return stop.signal;
}
