/** One table, two programs: commander's and the small parser's understanding of a line must not differ. */
import { agentCommands, type CommandSpec, OptionError, parseLine } from "@gfe/agent";
import { Command, CommanderError } from "commander";
import { describe, expect, test } from "vitest";
import { addTable } from "./table.ts";

const TABLE: readonly CommandSpec[] = [
  {
    name: "lift",
    summary: "lift things",
    arguments: [
      { name: "what", meaning: "the thing", required: true },
      { name: "far", meaning: "metres", read: metres },
    ],
    options: [
      { name: "height", value: "m", meaning: "metres", read: metres, env: "LIFT_HEIGHT", fallback: 2 },
      {
        name: "tag",
        short: "t",
        value: "tag",
        meaning: "a tag",
        many: true,
        fallback: [],
        read: (tag, before) => [...(before as string[]), tag],
      },
      { name: "mode", value: "mode", meaning: "how", choices: ["slow", "fast"] },
      { name: "no-belt", meaning: "without the belt" },
      { name: "dry-run", meaning: "only tell" },
    ],
    examples: ["gfe lift box"],
  },
  { name: "shelf", summary: "shelves", options: [], group: true, examples: ["gfe shelf"] },
  {
    name: "shelf list",
    summary: "list them",
    options: [{ name: "json", meaning: "as JSON" }],
    isDefault: true,
    examples: ["gfe shelf"],
  },
  {
    name: "shelf add",
    summary: "add one",
    arguments: [{ name: "name", meaning: "its name", required: true }],
    options: [],
    examples: ["gfe shelf add a"],
  },
];

function metres(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new OptionError("metres are above zero");
  return value;
}

/** What commander makes of it: the command and its options, or "wrong". */
async function byCommander(line: string[], env: Record<string, string>): Promise<unknown> {
  let ran: unknown;
  const program = new Command("gfe").exitOverride().configureOutput({ writeErr() {}, writeOut() {} });
  const runs = Object.fromEntries(
    TABLE.map(({ name }) => [
      name,
      async (_host: unknown, options: object) => {
        ran = { name, options };
        return 0;
      },
    ]),
  );
  addTable(program, TABLE, runs);
  const quiet = (command: Command) => {
    command.exitOverride().configureOutput({ writeErr() {}, writeOut() {} });
    for (const below of command.commands) quiet(below);
  };
  quiet(program);
  const before = { ...process.env };
  Object.assign(process.env, env);
  try {
    await program.parseAsync(line, { from: "user" });
    return ran;
  } catch (error) {
    if (error instanceof CommanderError) return error.code === "commander.helpDisplayed" ? "help" : "wrong";
    throw error;
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

function bySmall(line: string[], env: Record<string, string>): unknown {
  const parsed = parseLine(TABLE, line, env);
  return parsed.type === "run" ? { name: parsed.command.name, options: parsed.options } : parsed.type;
}

describe("commander and the small parser read alike", () => {
  test.each<[string[], Record<string, string>?]>([
    [["lift", "box"]],
    [["lift", "box", "3"]],
    [["lift", "box", "0"]],
    [["lift"]],
    [["lift", "box", "3", "more"]],
    [["lift", "--height", "4", "box"]],
    [["lift", "box", "--height=4"]],
    [["lift", "box", "--height", "high"]],
    [["lift", "box", "--height"]],
    [["lift", "box", "-t", "a", "--tag", "b", "--tag=c"]],
    [["lift", "box", "--mode", "fast"]],
    [["lift", "box", "--mode", "sideways"]],
    [["lift", "box", "--no-belt", "--dry-run"]],
    [["lift", "box", "--dryrun"]],
    [["lift", "--", "--box"]],
    [["lift", "box"], { LIFT_HEIGHT: "7" }],
    [["lift", "box", "--height", "5"], { LIFT_HEIGHT: "7" }],
    [["lift", "box"], { LIFT_HEIGHT: "none" }],
    [["shelf"]],
    [["shelf", "list", "--json"]],
    [["shelf", "--json"]],
    [["shelf", "add", "top"]],
    [["shelf", "add"]],
    [["shlef"]],
    [["lift", "--help"]],
  ])("%j %j", async (line, env = {}) => {
    expect(bySmall(line, env)).toEqual(await byCommander(line, env));
  });
});

test("every command of the provider has a summary and an example that the small parser runs", () => {
  for (const { name, summary, examples, group } of agentCommands) {
    expect(summary).not.toBe("");
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) {
      const line = example
        .replace(/^(\w+=\S+ )+/, "")
        .split(" ")
        .slice(1);
      expect(parseLine(agentCommands, line, {}, true), example).toMatchObject({
        type: "run",
        command: group ? {} : { name },
      });
    }
  }
});

test("no option is read as null, which commander would take for an empty text", () => {
  for (const { options, arguments: args = [] } of agentCommands)
    for (const { read } of [...options, ...args])
      if (read)
        for (const text of ["off", "none", "1", ""])
          try {
            expect(read(text, undefined) ?? null).not.toBeNull();
          } catch (error) {
            if (!(error instanceof OptionError || error instanceof TypeError)) throw error;
          }
});

test("what only the full program has is refused by name elsewhere", () => {
  expect(parseLine(agentCommands, ["up", "--model-path", "x"], {})).toEqual({
    type: "wrong",
    message: expect.stringMatching(/--model-path needs the full program/),
  });
  // A variable that is meant for the full program is no reason not to start.
  expect(parseLine(agentCommands, ["up"], { GFE_MODEL: "x" })).toMatchObject({ type: "run" });
});
