/** `gfe`: one program for operators, providers and consumers. Each command is a file in commands/. */
import { agentCommands, agentRuns, asRun, createNodeProgram, serviceCommands, serviceRuns } from "@gfe/agent";
import { Command } from "commander";
import { up } from "./commands/up.ts";
import { addTable } from "./table.ts";

const program = new Command("gfe")
  .description("GPU For Everyone: share GPUs, earn and spend credits for inference")
  .version("0.1.0")
  .showHelpAfterError();
const commands = [...agentCommands, ...serviceCommands];
const addAgent = (to: Command) =>
  addTable(to, commands, { ...agentRuns, ...serviceRuns(createNodeProgram()), up: asRun(up) });
// A provider's command starts without what only hubs need: they are called often, and on small machines.
if (commands.some(({ name }) => name === process.argv[2])) addAgent(program);
else (await import("./commands/all.ts")).addAll(program, addAgent);
await program.parseAsync();
