import { followAgent } from "../control/client.ts";
import { readJournal } from "../control/journal.ts";
import { type AgentRecord, wordsOf } from "../control/records.ts";
import type { Host } from "../host.ts";
import { printable } from "../panel/text.ts";
import { EXIT, type Output } from "./command.ts";

/** `gfe logs`. */
export async function logsCommand(
  host: Host,
  { lines, follow, json }: { lines: number; follow?: boolean; json?: boolean },
  out: Output,
): Promise<number> {
  const print = (record: AgentRecord) => {
    if (json) return out.line(JSON.stringify(record));
    for (const line of wordsOf(record)?.split("\n") ?? [])
      out.line(`${new Date(record.at_ms).toISOString().replace(/\.\d+Z$/, "Z")}  ${printable(line)}`);
  };
  // It listens before it reads what is kept: nothing falls between.
  const followed = follow ? await followAgent(host).catch(() => null) : null;
  const kept = await readJournal(host, lines);
  for (const record of kept ?? []) print(record);
  if (!follow) {
    if (kept === null)
      out.error("Nothing was kept yet: an agent has never run here. Start it with `gfe up`.");
    return kept === null ? EXIT.notRunning : EXIT.fine;
  }
  if (followed === null) {
    out.error("No agent runs here: nothing more will come. Start it with `gfe up`.");
    return EXIT.notRunning;
  }
  // What the agent remembers was printed from its file already.
  let lastMs = kept?.at(-1)?.at_ms ?? Number.NEGATIVE_INFINITY;
  try {
    for await (const record of followed) {
      if (record.at_ms <= lastMs) continue;
      lastMs = Number.NEGATIVE_INFINITY;
      print(record);
    }
  } catch {
    // An agent that was killed ends this as one that was drained does.
  }
  return EXIT.fine;
}
