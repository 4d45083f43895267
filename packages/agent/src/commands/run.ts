/** What the commands of the table do; `up` is each program's own. */
import { asRun, type CommandRun } from "./command.ts";
import { doctorCommand } from "./doctor.ts";
import { drainCommand } from "./drain.ts";
import { logsCommand } from "./logs.ts";
import { modelList, modelPull, modelRemove } from "./model.ts";
import { pauseCommand, resumeCommand } from "./pause.ts";
import { limitsCommand, scheduleAdd, scheduleClear, scheduleList } from "./settings.ts";
import { statusCommand } from "./status.ts";
import { uninstallCommand } from "./uninstall.ts";
import { whyCommand } from "./why.ts";

/** By a command's name. Its options are those of the table, read by it. */
export const agentRuns: Readonly<Record<string, CommandRun>> = {
  status: asRun(statusCommand),
  logs: asRun(logsCommand),
  pause: asRun(pauseCommand),
  resume: asRun(resumeCommand),
  drain: asRun(drainCommand),
  limits: asRun(limitsCommand),
  "schedule list": asRun(scheduleList),
  "schedule add": asRun(scheduleAdd),
  "schedule clear": asRun(scheduleClear),
  why: asRun(whyCommand),
  "model list": asRun(modelList),
  "model pull": asRun(modelPull),
  "model rm": asRun(modelRemove),
  doctor: asRun(doctorCommand),
  uninstall: asRun(uninstallCommand),
};
