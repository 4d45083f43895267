/** What confines the engines that the agent starts: of the running agent, else what one would have here. */
import { describeSandbox } from "../sandbox/open.ts";
import type { SandboxStatus } from "../sandbox/sandbox.ts";
import { type Check, type DoctorContext, ok, warning } from "./check.ts";

export async function checkSandbox({ host, status }: DoctorContext): Promise<Check[]> {
  if (status?.sandbox) return checksOf(status.sandbox, "in force: ");
  if (status) return [ok("sandbox", "the agent runs no engine of its own")];
  const found = await describeSandbox(host);
  if (!found.status) return [warning("sandbox", found.problem.what, found.problem.cure)];
  return checksOf(found.status, "for engines that the agent starts: ");
}

function checksOf(status: SandboxStatus, when: string): Check[] {
  const { kind, program, network, files, memory, processes, seccomp, problems } = status;
  const words = `${when}${program}; network: ${network}; files: ${files}; memory: ${memory}; processes: ${processes}; system calls: ${seccomp}`;
  return [
    ...(kind === "none" ? [] : [ok("sandbox", words)]),
    ...problems.map(({ what, cure }) => warning("sandbox", what, cure)),
  ];
}
