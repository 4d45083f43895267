/** --help by the table alone. */
import type { CommandSpec, OptionSpec } from "./command.ts";

const INDENT = "  ";

/** What `gfe --help` says. */
export function overviewOf(commands: readonly CommandSpec[]): string {
  const rows = commands
    .filter(({ name }) => !name.includes(" "))
    .map(({ name, summary }) => [name, summary] as const);
  return `Usage: gfe <command> [options]\n\nShare this machine's GPU through a hub, and earn.\n\nCommands:\n${columns(rows)}\n\nMore of each: gfe <command> --help`;
}

/** What `gfe COMMAND --help` says. */
export function helpOf(command: CommandSpec, commands: readonly CommandSpec[]): string {
  const { name, summary, options, notes } = command;
  const below = commands.filter((other) => other.name.startsWith(`${name} `));
  const words = (command.arguments ?? []).map((one) => (one.required ? `<${one.name}>` : `[${one.name}]`));
  const section = (title: string, rows: readonly (readonly [string, string])[]) =>
    rows.length > 0 ? `\n${title}:\n${columns(rows)}\n` : "";
  return [
    `Usage: gfe ${[name, ...(below.length > 0 ? ["[command]"] : []), "[options]", ...words].join(" ")}\n\n${summary}\n`,
    section(
      "Arguments",
      (command.arguments ?? []).map((one) => [one.name, one.meaning]),
    ),
    section(
      "Commands",
      below.map((one) => [one.name.slice(name.length + 1), one.summary]),
    ),
    section("Options", [
      ...options.map((option) => [flagsOf(option), meaningOf(option)] as const),
      ["-h, --help", "this"],
    ]),
    notes ? `\n${notes}\n` : "",
    `\n${examplesOf(command)}`,
  ].join("");
}

/** The examples under their title. */
export const examplesOf = ({ examples }: CommandSpec): string =>
  `Examples:\n${examples.map((example) => INDENT + example).join("\n")}`;

/** "-n, --lines <n>". */
export const flagsOf = ({ name, short, value }: OptionSpec): string =>
  `${short ? `-${short}, ` : ""}--${name}${value ? ` <${value}>` : ""}`;

function meaningOf({ meaning, choices, fallback, env }: OptionSpec): string {
  const facts = [
    ...(choices ? [`choices: ${choices.join(", ")}`] : []),
    ...(typeof fallback === "string" || typeof fallback === "number" ? [`default: ${fallback}`] : []),
    ...(env ? [`env: ${env}`] : []),
  ];
  return `${meaning}${facts.length > 0 ? ` (${facts.join("; ")})` : ""}`;
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${INDENT}${left.padEnd(width)}  ${right}`).join("\n");
}
