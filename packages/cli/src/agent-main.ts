/** The full executable's program: what providers and consumers do. A hub is run from the npm package or its container. */
import { agentCommands, agentRuns, asRun } from "@gfe/agent";
import { Command } from "commander";
import { addChat } from "./commands/chat.ts";
import { addPrice } from "./commands/price.ts";
import { up } from "./commands/up.ts";
import { addTable } from "./table.ts";

const program = new Command("gfe")
  .description("GPU For Everyone: share GPUs, earn and spend credits for inference")
  .version("0.1.0")
  .showHelpAfterError();
addTable(program, agentCommands, { ...agentRuns, up: asRun(up) });
addChat(program);
addPrice(program);
await program.parseAsync();
