/** The slim executable's program: the agent, without an engine of its own, on the small native host. */

import { EXIT, type Output } from "../commands/command.ts";
import { parseLine } from "../commands/parse.ts";
import { agentCommands } from "../commands/table.ts";
import { runUp, type UpOptions } from "../commands/up.ts";
import type { Host } from "../host.ts";
import { AGENT_VERSION } from "../version.ts";
import { native } from "./install.ts";
import { forgetUnused } from "./lazy.ts";
import { createSlimHost } from "./slim-host.ts";
import { createSlimProgram } from "./slim-program.ts";

/** A terminal passes one Ctrl-C on to several programs: what comes so soon after the first is the same press. */
const SAME_PRESS_MS = 500;

const out: Output = {
  line: (text) => native.print(1, `${text}\n`),
  error: (text) => native.print(2, `${text}\n`),
};

function onStopSignals(first: () => void, again: () => void): void {
  let firstAtMs: number | null = null;
  native.onStop(() => {
    const nowMs = native.nowMs();
    if (firstAtMs === null) {
      firstAtMs = nowMs;
      first();
    } else if (nowMs - firstAtMs >= SAME_PRESS_MS) again();
  });
}

// What an agent that serves does not need is loaded when it is asked for: each line of the script costs memory.
async function up(host: Host, options: UpOptions): Promise<number> {
  const scripted = options.scripted
    ? [(await import("../engines/scripted.ts")).createScriptedEngine(host)]
    : [];
  return runUp(host, options, out, { engines: scripted, onStopSignals, program: createSlimProgram(native) });
}

async function main(): Promise<number> {
  const service = native.args[0] === "up" ? null : await import("../commands/service.ts");
  const commands = service ? [...agentCommands, ...service.serviceCommands] : agentCommands;
  const parsed = parseLine(commands, native.args, native.env);
  switch (parsed.type) {
    case "version":
      out.line(AGENT_VERSION);
      return EXIT.fine;
    case "help":
      out.line(parsed.text);
      return EXIT.fine;
    case "wrong":
      out.error(`gfe: ${parsed.message}`);
      return EXIT.failed;
    case "run": {
      const { configDir } = parsed.options;
      const host = createSlimHost(native, {
        log: { info() {}, warn: (_fields, message) => out.error(`warning: ${message}`) },
        ...(typeof configDir === "string" ? { configDir, stateDir: configDir } : {}),
      });
      if (parsed.command.name === "up") return up(host, parsed.options as unknown as UpOptions);
      const { agentRuns } = await import("../commands/run.ts");
      const runs = { ...agentRuns, ...service?.serviceRuns(createSlimProgram(native)) };
      return runs[parsed.command.name]!(host, parsed.options, out);
    }
  }
}

/** Longer than between two heartbeats, whose schemas are wanted again and again. */
const FORGET_MS = 20_000;
function forgetNowAndThen(): void {
  native.after(FORGET_MS, () => {
    forgetUnused();
    forgetNowAndThen();
  });
}

forgetNowAndThen();
main().then(
  (code) => native.exit(code),
  (error: unknown) => {
    out.error(`gfe: ${error instanceof Error ? error.message : String(error)}`);
    native.exit(EXIT.failed);
  },
);
