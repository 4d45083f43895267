/** Every command, in the order of `gfe --help`. */
import type { Command } from "commander";
import { addBackup } from "./backup.ts";
import { addChat } from "./chat.ts";
import { addConfig } from "./config.ts";
import { addDemo } from "./demo.ts";
import { addDev } from "./dev.ts";
import { addHub } from "./hub.ts";
import { addLedger } from "./ledger.ts";
import { addPrice } from "./price.ts";
import { addRestore } from "./restore.ts";

export function addAll(program: Command, addAgent: (program: Command) => void): void {
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
}
