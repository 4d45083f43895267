/** `npm run sim -- market`: the hub's matching beside simpler policies, and the scenarios that must hold. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Comparison, compare } from "./compare.ts";
import {
  CHATS,
  type ChatFigures,
  CROWDED_CHATS,
  conversations,
  crowd,
  newcomers,
  slowNode,
} from "./scenarios.ts";

const USAGE = `Usage: npm run sim -- market [--seed N] [--nodes N] [--jobs N] [--json] [--write-docs]

  --seed N       decides everything (1)
  --nodes N      in the fleet (1000)
  --jobs N       to match (100000)
  --json         one JSON object on standard output
  --write-docs   puts the tables into docs/matching.md`;
const DOCS = fileURLToPath(new URL("../../../../docs/matching.md", import.meta.url));
const [BEGIN, END] = ["<!-- begin: npm run sim -- market --write-docs -->", "<!-- end -->"];

const NAMES = {
  ours: "this hub",
  random: "random",
  cheapest: "cheapest first",
  least_loaded: "least loaded",
};
/** Returns the exit status. */
export function main(args: readonly string[]): number {
  const options = readOptions(args);
  if (!options) {
    console.error(USAGE);
    return 2;
  }
  const { seed, nodes, jobs } = options;
  const comparison = compare({ seed, nodes, jobs });
  const scenarios = scenariosOf(seed);
  const text = `${tableOf(comparison)}\n\n${scenarios.map(([what, goal, got]) => `- ${what}: ${got} (goal ${goal})`).join("\n")}`;
  console.log(options.json ? JSON.stringify({ ...comparison, scenarios }) : text);
  if (options.writeDocs) writeDocs(text);
  return 0;
}

function readOptions(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: "string", default: "1" },
        nodes: { type: "string", default: "1000" },
        jobs: { type: "string", default: "100000" },
        json: { type: "boolean", default: false },
        "write-docs": { type: "boolean", default: false },
      },
    });
    const numbers = [values.seed, values.nodes, values.jobs];
    if (!numbers.every((text) => /^[1-9]\d{0,7}$/.test(text))) return null;
    const [seed, nodes, jobs] = numbers.map(Number) as [number, number, number];
    return { seed, nodes, jobs, json: values.json, writeDocs: values["write-docs"] };
  } catch {
    return null;
  }
}

function tableOf({ seed, nodes, jobs, figures }: Comparison): string {
  const rows = figures.map(
    ({ policy, meanCostMicro, ttftP50Ms, ttftP95Ms, fairness }) =>
      `| ${NAMES[policy]} | ${Math.round(meanCostMicro)} | ${Math.round(ttftP50Ms)} | ${Math.round(ttftP95Ms)} | ${fairness.toFixed(2)} |`,
  );
  return [
    `Seed ${seed}, ${nodes.toLocaleString("en")} nodes, ${jobs.toLocaleString("en")} jobs:`,
    "",
    "| policy | mean cost, micro-credits | TTFT p50, ms | TTFT p95, ms | fairness (Jain) |",
    "|---|--:|--:|--:|--:|",
    ...rows,
  ].join("\n");
}

function scenariosOf(seed: number): [what: string, goal: string, got: string][] {
  const [slow, healthy] = [slowNode(seed, 10), slowNode(seed, 1)];
  const chats = conversations(seed, CHATS);
  const [patient, hasty] = [true, false].map((waits) =>
    conversations(seed, { ...CROWDED_CHATS, patient: waits }),
  ) as [ChatFigures, ChatFigures];
  const block = crowd(seed, "block");
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
  return [
    ["traffic of one node of 10 from 10 s after it became 10 × slower", "< 2 %", percent(slow.share)],
    [
      "p99 of the TTFT meanwhile, of a healthy fleet's",
      "≤ 1.3 ×",
      `${(slow.p99TtftMs / healthy.p99TtftMs).toFixed(2)} ×`,
    ],
    ["turns of ten-turn chats on 8 nodes that returned to the same node", "≥ 80 %", percent(chats.returned)],
    ["jobs of the busiest of these nodes, of the mean", "≤ 1.5 ×", `${chats.imbalance.toFixed(2)} ×`],
    [
      `the same at higher load, ${percent(hasty.utilisation)} of the slots in use if no chat waited for its node`,
      "more than that",
      `${percent(patient.returned)} (${percent(hasty.returned)} if none waited)`,
    ],
    [
      "TTFT p50 and p95 there",
      "less than that",
      `${[patient.ttftP50Ms, patient.ttftP95Ms].map(Math.round).join(" and ")} ms (${[hasty.ttftP50Ms, hasty.ttftP95Ms].map(Math.round).join(" and ")} ms)`,
    ],
    ["jobs of the busiest node there, of the mean", "≤ 1.5 ×", `${patient.imbalance.toFixed(2)} ×`],
    [
      "share of one honest newcomer beside 10 known nodes, before its 200th job",
      "fair: 9.1 %",
      percent(newcomers(seed, 1, 20).shareBefore200),
    ],
    ["share of 50 nodes of one new owner", "≤ 5 %", percent(newcomers(seed, 50, 1e9).share)],
    ["share of 50 nodes of 50 new owners in one address block", "≤ 5 %", percent(block.crowd)],
    ["share of an honest newcomer beside these 50", "> 0.5 %", percent(block.honest)],
  ];
}

function writeDocs(text: string): void {
  const page = readFileSync(DOCS, "utf8");
  const [before, after] = [page.split(BEGIN)[0]!, page.split(END)[1] ?? ""];
  writeFileSync(DOCS, `${before}${BEGIN}\n${text}\n${END}${after}`);
}
