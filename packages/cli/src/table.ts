/** commander's commands from the provider's table. */
import {
  type CommandRun,
  type CommandSpec,
  createNodeHost,
  examplesOf,
  flagsOf,
  OptionError,
  type Output,
} from "@gfe/agent";
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { reporting } from "./failure.ts";

export const output: Output = {
  line: (text) => void process.stdout.write(`${text}\n`),
  error: (text) => void process.stderr.write(`${text}\n`),
};

/** Adds every command of the table; groups go before what is in them. */
export function addTable(
  program: Command,
  table: readonly CommandSpec[],
  runs: Readonly<Record<string, CommandRun>>,
): void {
  const made = new Map<string, Command>([["", program]]);
  for (const spec of table) {
    const words = spec.name.split(" ");
    const parent = made.get(words.slice(0, -1).join(" "))!;
    const command = parent.command(words.at(-1)!, { isDefault: spec.isDefault ?? false });
    made.set(spec.name, command);
    describe(command, spec);
    if (!spec.group) command.action(reporting((...args) => run(spec, runs[spec.name]!, command, args)));
  }
}

function describe(command: Command, spec: CommandSpec): void {
  command.description(spec.summary);
  for (const { name, meaning, required, read } of spec.arguments ?? []) {
    const argument = new Argument(required ? `<${name}>` : `[${name}]`, meaning);
    command.addArgument(read ? argument.argParser((text) => told(() => read(text))) : argument);
  }
  for (const spec_ of spec.options) {
    const { meaning, env, fallback, choices, read, many } = spec_;
    const option = new Option(flagsOf(spec_), meaning);
    if (env !== undefined) option.env(env);
    if (fallback !== undefined) option.default(fallback);
    if (choices) option.choices(choices);
    if (read) option.argParser((text, before) => told(() => read(text, many ? before : undefined)));
    command.addOption(option);
  }
  const notes = spec.notes ? `\n${spec.notes}\n` : "";
  command.addHelpText("after", `${notes}\n${examplesOf(spec)}\n`);
}

async function run(spec: CommandSpec, does: CommandRun, command: Command, args: unknown[]): Promise<void> {
  const options: Record<string, unknown> = { ...command.opts() };
  for (const [index, { name }] of (spec.arguments ?? []).entries())
    if (args[index] !== undefined) options[name] = args[index];
  process.exitCode = await does(hostFor(options), options, output);
}

/** The machine as the command's options say it is. */
function hostFor({ configDir }: Readonly<Record<string, unknown>>) {
  return createNodeHost({
    log: { info() {}, warn: (_fields, message) => output.error(`warning: ${message}`) },
    ...(typeof configDir === "string" ? { configDir, stateDir: configDir } : {}),
  });
}

function told<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (error instanceof OptionError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}
