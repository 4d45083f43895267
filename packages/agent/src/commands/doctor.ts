import { checkAgent } from "../doctor/agent.ts";
import { type Check, type DoctorContext, failed } from "../doctor/check.ts";
import { checkEngines } from "../doctor/engines.ts";
import { checkHub } from "../doctor/hub.ts";
import { checkFiles, checkGpus, checkRuntime } from "../doctor/machine.ts";
import { checkSandbox } from "../doctor/sandbox.ts";
import { checkStanding } from "../doctor/standing.ts";
import type { Host } from "../host.ts";
import { printable } from "../panel/text.ts";
import { EXIT, type Output } from "./command.ts";
import { hubContext } from "./context.ts";

interface DoctorOptions {
  hub?: string;
  token?: string;
  json?: boolean;
}

const MARKS: Record<Check["state"], string> = { ok: "✓", warning: "!", failed: "✗" };

type Doctor = (context: DoctorContext) => Promise<Check[]> | Check[];
const doctors: readonly (readonly [string, Doctor])[] = [
  ["runtime", ({ host }) => checkRuntime(host)],
  ["files", ({ host }) => checkFiles(host)],
  ["gpu", ({ host }) => checkGpus(host)],
  ["engines", checkEngines],
  ["sandbox", checkSandbox],
  ["hub", checkHub],
  ["agent", checkAgent],
  ["demand", checkStanding],
];

/** `gfe doctor`: fails where a check does. */
export async function doctorCommand(host: Host, options: DoctorOptions, out: Output): Promise<number> {
  const context = await hubContext(looking(host), options);
  const checks = (await Promise.all(doctors.map((doctor) => examine(context, doctor)))).flat();
  const isFailed = checks.some(({ state }) => state === "failed");
  if (options.json) out.line(JSON.stringify({ ok: !isFailed, checks }));
  else {
    const width = Math.max(...checks.map(({ name }) => name.length));
    for (const { name, state, words, cure } of checks) {
      out.line(printable(`${MARKS[state]} ${name.padEnd(width)}  ${words}`));
      if (cure !== null) out.line(printable(`  ${" ".repeat(width)}  → ${cure}`));
    }
    out.line(`\n${verdict(checks)}`);
  }
  return isFailed ? EXIT.failed : EXIT.fine;
}

/** The same machine, of which nothing is repaired while it is looked at. */
const looking = (host: Host): Host => ({
  ...host,
  files: { ...host.files, setMode: async () => {} },
  log: { info() {}, warn() {} },
});

/** A check that breaks is a finding, too: the others still count. */
async function examine(context: DoctorContext, [name, doctor]: (typeof doctors)[number]): Promise<Check[]> {
  try {
    return await doctor(context);
  } catch (error) {
    return [
      failed(
        name,
        `this could not be checked: ${(error as Error).message}`,
        "mend what the message says and run it again",
      ),
    ];
  }
}

function verdict(checks: readonly Check[]): string {
  const count = (state: Check["state"]) => checks.filter((check) => check.state === state).length;
  const [broken, warned] = [count("failed"), count("warning")];
  if (broken > 0) return `${broken} failed, ${warned} warned: begin with the first ✗.`;
  return warned > 0 ? `Nothing failed, ${warned} warned.` : "All is well.";
}
