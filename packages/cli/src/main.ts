/** `gfe`: one program for operators, providers and consumers. Each command is a file in commands/. */
import { agentCommands, agentRuns, asRun } from "@gfe/agent";
import { Command } from "commander";
import { addBackup } from "./commands/backup.ts";
import { addChat } from "./commands/chat.ts";
import { addConfig } from "./commands/config.ts";
import { addDemo } from "./commands/demo.ts";
import { addDev } from "./commands/dev.ts";
import { addHub } from "./commands/hub.ts";
import { addLedger } from "./commands/ledger.ts";
import { addPrice } from "./commands/price.ts";
import { addRestore } from "./commands/restore.ts";
import { up } from "./commands/up.ts";
import { addTable } from "./table.ts";

const program = new Command("gfe")
  .description("GPU For Everyone: share GPUs, earn and spend credits for inference")
  .version("0.1.0")
  .showHelpAfterError();
const addAgent = (to: Command) => addTable(to, agentCommands, { ...agentRuns, up: asRun(up) });
for (const add of [
  addHub,
  addAgent,
  addChat,
  addPrice,
  addLedger,
  addBackup,
  addRestore,
  addConfig,
  addDemo,
  addDev,
])
  add(program);
await program.parseAsync();
