/**
 * A small parser of command lines for programs without a library for it, by the table alone. Understands `--name value`,
 * `--name=value`, `-n value`, switches, arguments and `--` before what looks like an option and is none.
 */
import { type CommandSpec, OptionError, type OptionSpec, optionKey } from "./command.ts";
import { helpOf, overviewOf } from "./help.ts";

export type ParsedLine =
  | { type: "run"; command: CommandSpec; options: Record<string, unknown> }
  | { type: "help"; text: string }
  | { type: "version" }
  | { type: "wrong"; message: string };

class Wrong extends Error {}

/** Never throws: what is wrong comes back in words. `full` is whether the program has what `fullOnly` options need. */
export function parseLine(
  commands: readonly CommandSpec[],
  line: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  full = false,
): ParsedLine {
  const [first] = line;
  if (first === "--version" || first === "-V") return { type: "version" };
  if (first === undefined || first === "--help" || first === "-h" || first === "help")
    return { type: "help", text: overviewOf(commands) };
  const found = commandOf(commands, line);
  if (!found) return { type: "wrong", message: unknownCommand(commands, first) };
  const { command, rest } = found;
  const end = rest.indexOf("--");
  if ((end < 0 ? rest : rest.slice(0, end)).some((word) => word === "--help" || word === "-h"))
    return { type: "help", text: helpOf(command, commands) };
  try {
    return {
      type: "run",
      command: leafOf(command, commands),
      options: read(leafOf(command, commands), rest, env, full),
    };
  } catch (error) {
    if (error instanceof Wrong) return { type: "wrong", message: error.message };
    throw error;
  }
}

/** The command with the longest name that the line begins with. */
function commandOf(commands: readonly CommandSpec[], line: readonly string[]) {
  const named = commands
    .map((command) => ({ command, words: command.name.split(" ") }))
    .filter(({ words }) => words.every((word, index) => line[index] === word))
    .sort((a, b) => b.words.length - a.words.length)[0];
  return named && { command: named.command, rest: line.slice(named.words.length) };
}

function leafOf(command: CommandSpec, commands: readonly CommandSpec[]): CommandSpec {
  if (!command.group) return command;
  const leaf = commands.find(({ name, isDefault }) => isDefault && name.startsWith(`${command.name} `));
  if (!leaf) throw new Wrong(`gfe ${command.name} needs one of its commands: see gfe ${command.name} --help`);
  return leaf;
}

function unknownCommand(commands: readonly CommandSpec[], word: string): string {
  const names = commands.filter(({ name }) => !name.includes(" ")).map(({ name }) => name);
  return word.startsWith("-")
    ? `unknown option '${word}'`
    : `unknown command '${word}': there are ${names.join(", ")}`;
}

function read(
  command: CommandSpec,
  rest: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  full: boolean,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const option of command.options) {
    const key = optionKey(option.name);
    if (option.name.startsWith("no-")) options[key] = true;
    else if (option.fallback !== undefined) options[key] = option.fallback;
    const fromEnv = option.env === undefined ? undefined : env[option.env];
    if (fromEnv === undefined || (option.fullOnly && !full)) continue;
    options[key] =
      option.value === undefined ? true : valueFrom(option, fromEnv, undefined, ` from env '${option.env}'`);
  }
  const given: string[] = [];
  const seen = new Set<OptionSpec>();
  const words = [...rest];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--") {
      given.push(...words.splice(0));
      continue;
    }
    if (!word.startsWith("-") || word === "-") {
      given.push(word);
      continue;
    }
    const at = word.startsWith("--") ? word.indexOf("=") : -1;
    const name = at < 0 ? word : word.slice(0, at);
    const option = command.options.find((one) => name === `--${one.name}` || name === `-${one.short}`);
    if (!option) throw new Wrong(`unknown option '${name}': see gfe ${command.name} --help`);
    if (option.fullOnly && !full)
      throw new Wrong(
        `--${option.name} needs the full program: see the hub's download page, or npx gpu-for-everyone`,
      );
    const key = optionKey(option.name);
    if (option.value === undefined) {
      if (at >= 0) throw new Wrong(`--${option.name} takes no value`);
      options[key] = !option.name.startsWith("no-");
      continue;
    }
    const text = at < 0 ? words.shift() : word.slice(at + 1);
    if (text === undefined) throw new Wrong(`option '--${option.name} <${option.value}>' argument missing`);
    // What the environment says counts where the line says nothing.
    const before = option.many && seen.has(option) ? options[key] : option.fallback;
    options[key] = valueFrom(option, text, before, "");
    seen.add(option);
  }
  readArguments(command, given, options);
  return options;
}

function readArguments(command: CommandSpec, given: string[], options: Record<string, unknown>): void {
  for (const argument of command.arguments ?? []) {
    const text = given.shift();
    if (text === undefined) {
      if (argument.required)
        throw new Wrong(`missing required argument '${argument.name}': ${argument.meaning}`);
      continue;
    }
    options[argument.name] = told(`argument '${argument.name}'`, () => argument.read?.(text) ?? text);
  }
  if (given.length > 0) throw new Wrong(`too many arguments: '${given[0]}' is not understood`);
}

function valueFrom(option: OptionSpec, text: string, before: unknown, whence: string): unknown {
  if (option.choices && !option.choices.includes(text))
    throw new Wrong(
      `option '--${option.name}' value '${text}'${whence} is invalid: ${option.choices.join(", ")} are allowed`,
    );
  const { read } = option;
  return read ? told(`option '--${option.name}' value '${text}'${whence}`, () => read(text, before)) : text;
}

function told<Value>(what: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (error instanceof OptionError) throw new Wrong(`${what} is invalid: ${error.message}`);
    throw error;
  }
}
