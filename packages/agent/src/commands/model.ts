/** `gfe model`: the model files that the built-in engine serves. */
import type { Host } from "../host.ts";
import { listModels, listParts, modelNamed, modelsDirectory, removeModel } from "../models/library.ts";
import { type PullEvent, pullModel } from "../models/pull.ts";
import { EXIT, type Output } from "./command.ts";

interface PullOptions {
  source: string;
  name?: string;
  sha256?: string;
  json?: boolean;
}

/** Between two lines about a download where there is no terminal. */
const LINE_EVERY_MS = 10_000;

/** `gfe model pull`. What has come of it when it is stopped is gone on with the next time. */
export async function modelPull(host: Host, options: PullOptions, out: Output): Promise<number> {
  const { json = false, ...pull } = options;
  const screen = json ? null : screenOf(host);
  const onEvent = json
    ? (event: PullEvent) => out.line(JSON.stringify(event))
    : createTeller(host, out, screen);
  try {
    await pullModel(host, { ...pull, onEvent });
    return EXIT.fine;
  } catch (error) {
    screen?.draw("");
    return failed(error, json, out);
  }
}

/** `gfe model list`. */
export async function modelList(
  host: Host,
  { json = false }: { json?: boolean },
  out: Output,
): Promise<number> {
  try {
    const [models, parts] = [await listModels(host), await listParts(host)];
    if (json) {
      out.line(JSON.stringify({ directory: modelsDirectory(host), models, parts }));
      return EXIT.fine;
    }
    if (models.length === 0)
      out.line(`There is no model in ${modelsDirectory(host)}: gfe model pull brings one.`);
    const width = Math.max(0, ...models.map(({ name }) => name.length));
    for (const { name, bytes, source } of models)
      out.line(`${name.padEnd(width)}  ${formatBytes(bytes).padStart(8)}  ${source ?? "put there by hand"}`);
    for (const { name, bytes } of parts)
      out.line(
        `${formatBytes(bytes)} of ${name} are here of a download that broke off: pull it again to go on.`,
      );
    return EXIT.fine;
  } catch (error) {
    return failed(error, json, out);
  }
}

/** `gfe model rm`. */
export async function modelRemove(
  host: Host,
  { model: wanted, json = false }: { model: string; json?: boolean },
  out: Output,
): Promise<number> {
  try {
    const model = await modelNamed(host, wanted);
    const freedBytes = await removeModel(host, model);
    out.line(
      json
        ? JSON.stringify({ removed: model.name, freedBytes })
        : `${model.name} is removed: ${formatBytes(freedBytes)} are free again.`,
    );
    return EXIT.fine;
  } catch (error) {
    return failed(error, json, out);
  }
}

function failed(error: unknown, json: boolean, out: Output): number {
  const message = error instanceof Error ? error.message : String(error);
  if (json) out.line(JSON.stringify({ type: "failed", message }));
  else out.error(`gfe: ${message}`);
  return EXIT.failed;
}

interface Screen {
  readonly columns: number;
  /** Puts a text in the place of the one before it; "" takes it away. */
  draw(text: string): void;
}

function screenOf({ terminal }: Host): Screen | null {
  return (
    terminal && {
      get columns() {
        return terminal.columns;
      },
      draw: (text) => terminal.write(`\r\u001b[K${text}`),
    }
  );
}

/** A bar where there is a terminal, a line now and then where there is none. */
function createTeller(
  host: Pick<Host, "nowMs">,
  out: Output,
  screen: Screen | null,
): (event: PullEvent) => void {
  let begun: { atMs: number; bytes: number } | null = null;
  let toldMs = host.nowMs();
  return (event) => {
    switch (event.type) {
      case "found":
        return out.line(
          `Loading ${event.name}${event.bytes === null ? "" : ` (${formatBytes(event.bytes)}${event.files > 1 ? ` in ${event.files} parts` : ""})`}`,
        );
      case "progress": {
        const nowMs = host.nowMs();
        begun ??= { atMs: nowMs, bytes: event.bytes };
        const rate = ((event.bytes - begun.bytes) * 1000) / Math.max(1, nowMs - begun.atMs);
        const text = progressLine(event.bytes, event.total, rate, screen?.columns ?? 80);
        if (screen) return screen.draw(text);
        if (nowMs - toldMs < LINE_EVERY_MS) return;
        toldMs = nowMs;
        return out.line(text);
      }
      case "retry":
        begun = null;
        screen?.draw("");
        return out.line(`${event.reason}; going on in ${Math.ceil(event.waitMs / 1000)} s`);
      case "checking":
        screen?.draw("Checking what came …");
        return;
      case "done":
        screen?.draw("");
        if (event.wasThere) return out.line(`${event.name} is here already, whole.`);
        out.line(
          `${event.name} is here${event.checked ? ", and it is what it should be (SHA-256)" : ". Nobody told its SHA-256, so it was not checked: --sha256 does"}.`,
        );
        return out.line(`gfe up --model ${event.name} serves it on the built-in engine.`);
    }
  };
}

/** `██████░░░░  42 %  1.2 of 2.9 GB  38.1 MB/s  0:45`; pure. */
export function progressLine(
  bytes: number,
  total: number | null,
  bytesPerS: number,
  columns: number,
): string {
  const speed = bytesPerS > 0 ? `  ${formatBytes(bytesPerS)}/s` : "";
  if (total === null) return `${formatBytes(bytes)}${speed}`;
  const share = total > 0 ? Math.min(1, bytes / total) : 1;
  const left = bytesPerS > 0 ? `  ${formatDuration((total - bytes) / bytesPerS)}` : "";
  const words = `${String(Math.floor(share * 100)).padStart(3)} %  ${formatBytes(bytes)} of ${formatBytes(total)}${speed}${left}`;
  const width = Math.min(30, columns - words.length - 3);
  if (width < 4) return words.slice(0, Math.max(0, columns - 1));
  const filled = Math.round(share * width);
  return `${"█".repeat(filled)}${"░".repeat(width - filled)} ${words}`;
}

function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const exponent = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${(bytes / 1000 ** exponent).toFixed(1)} ${["", "kB", "MB", "GB", "TB"][exponent]}`;
}
