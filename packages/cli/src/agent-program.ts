/** The commands of providers and consumers as a program: npm's package and the full executable, which bring no hub. */
import {
  AGENT_VERSION,
  agentCommands,
  agentRuns,
  asRun,
  createNodeProgram,
  serviceCommands,
  serviceRuns,
} from "@gfe/agent";
import { Command } from "commander";
import { addChat } from "./commands/chat.ts";
import { addPrice } from "./commands/price.ts";
import { up } from "./commands/up.ts";
import { Failure, reporting } from "./failure.ts";
import { addTable } from "./table.ts";

export function agentProgram(): Command {
  const program = new Command("gfe")
    .description("GPU For Everyone: share GPUs, earn and spend credits for inference")
    .version(AGENT_VERSION)
    .showHelpAfterError();
  addTable(program, [...agentCommands, ...serviceCommands], {
    ...agentRuns,
    ...serviceRuns(createNodeProgram()),
    up: asRun(up),
  });
  addChat(program);
  addPrice(program);
  for (const name of ["hub", "demo", "dev", "ledger", "backup", "restore", "config"])
    program
      .command(name, { hidden: name !== "hub" })
      .description("not in this program: hubs run from the project's image or its sources")
      .allowUnknownOption()
      .allowExcessArguments()
      .action(
        reporting(async () => {
          throw new Failure(
            `\`gfe ${name}\` is for hubs, which bring a database that this program leaves out: run the project's image (deploy/compose.yaml) or its sources (npm start)`,
          );
        }),
      );
  return program;
}
