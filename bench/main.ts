/** `npm run bench -- NAME [--json]`: measures, as ratios against something run in the same minute. Never a test. */
import { existsSync } from "node:fs";

const BENCHES: Record<string, string> = {
  ledger: "hold + settle a second, batched against statement by statement",
  gateway: "added delay of a stream, and requests a second against a peer",
  relay: "tokens a second through one hub process, CPU and delay of each, beside a bare relay",
  nodes: "memory and CPU of 10,000 idle nodes and of 1,000 open streams on one hub process",
  overload: "five times what the nodes can serve: refusals, those who are served, memory",
  hubs: "two hubs on one PostgreSQL and Redis against one: requests a second, CPU of each part",
  queue: "queue operations a second beside a plain list, and what waiting adds to the first token",
  match: "matching time over 100, 1,000 and 10,000 offers, against filtering and sorting",
  failover: "a node killed in mid-stream: how often the text stays the same, and how long it stands still",
  agent: "the agent on Node, the slim and the full executable: start, idle, CPU a token, sizes",
  jobs: "jobs a second, end to end, with one instant node",
};

const [name, ...rest] = process.argv.slice(2);
const file = new URL(`./${name}.ts`, import.meta.url);
if (name === undefined || name === "--help" || !(name in BENCHES) || !existsSync(file)) {
  console.log("npm run bench -- NAME [--json]\n");
  for (const [known, what] of Object.entries(BENCHES)) console.log(`  ${known.padEnd(10)} ${what}`);
  process.exit(name === undefined || name === "--help" ? 0 : 1);
}
const { run } = (await import(file.href)) as {
  run(options: { json: boolean; args: string[] }): Promise<void>;
};
await run({ json: rest.includes("--json"), args: rest });
process.exit(0);
