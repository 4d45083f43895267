/** What a command of `gfe` is, whichever program runs it: commander builds its own from this, the slim one parses it itself. */
import type { Host } from "../host.ts";

export interface ArgumentSpec {
  /** Its name among the options that the command gets. */
  readonly name: string;
  readonly meaning: string;
  readonly required?: boolean;
  /** Throws OptionError. */
  readonly read?: (text: string) => unknown;
}

export interface OptionSpec {
  /** Without hyphens, `model-path`; `no-detect` is a switch that makes `detect` false. */
  readonly name: string;
  readonly short?: string;
  /** What stands for its value in --help; a switch has none. */
  readonly value?: string;
  readonly meaning: string;
  readonly env?: string;
  /** In force where it is not given. */
  readonly fallback?: unknown;
  readonly choices?: readonly string[];
  /** May be given several times; `read` gets what came of those before. */
  readonly many?: boolean;
  /** Throws OptionError; the text as it is unless given. */
  readonly read?: (text: string, before: unknown) => unknown;
  /** Only the full program has what this needs. */
  readonly fullOnly?: boolean;
}

export interface CommandSpec {
  /** The words behind `gfe`: "up", "schedule add". */
  readonly name: string;
  readonly summary: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options: readonly OptionSpec[];
  /** Below the options in --help. */
  readonly notes?: string;
  readonly examples: readonly string[];
  /** Has commands below it, and does nothing itself. */
  readonly group?: boolean;
  /** The one of its group that is meant where none is named. */
  readonly isDefault?: boolean;
}

/** Where a command's words go: the result to one, what is wrong to the other. */
export interface Output {
  line(text: string): void;
  error(text: string): void;
}

/** Exit statuses of the provider's commands. */
export const EXIT = {
  fine: 0,
  /** It did not work, or what was checked is not in order. */
  failed: 1,
  /** No agent runs. */
  notRunning: 3,
} as const;

/** Options by their names in camelCase, arguments by their own. Resolves with the exit status. */
export type CommandRun = (
  host: Host,
  options: Readonly<Record<string, unknown>>,
  out: Output,
) => Promise<number>;

/** A command that knows its options by the table that read them. */
export const asRun =
  <Options>(run: (host: Host, options: Options, out: Output) => Promise<number>): CommandRun =>
  (host, options, out) =>
    run(host, options as Options, out);

/** A value that an option can't have; its message says what it can. */
export class OptionError extends Error {}

/** "no-detect" → "detect", "model-path" → "modelPath": what an option is called among a command's options. */
export const optionKey = (name: string): string =>
  name.replace(/^no-/, "").replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase());
