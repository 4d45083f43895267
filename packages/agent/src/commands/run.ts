/** What the commands of the table do; `up` is each program's own. */
import { asRun, type CommandRun } from "./command.ts";
import { doctorCommand } from "./doctor.ts";
import { drainCommand } from "./drain.ts";
import { logsCommand } from "./logs.ts";
import { statusCommand } from "./status.ts";
import { uninstallCommand } from "./uninstall.ts";

/** By a command's name. Its options are those of the table, read by it. */
export const agentRuns: Readonly<Record<string, CommandRun>> = {
  status: asRun(statusCommand),
  logs: asRun(logsCommand),
  drain: asRun(drainCommand),
  doctor: asRun(doctorCommand),
  uninstall: asRun(uninstallCommand),
};
