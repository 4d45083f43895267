/** The audit itself: a sound story passes, and each way in which one can be unsound is told. */
import type pg from "pg";
import { expect, it } from "vitest";
import { STORY, STORY_TOKEN_MICRO } from "./agent-process.ts";
import { compare, type Outage } from "./chaos-audit.ts";
import type { Asked } from "./consumers.ts";

const WORDS = 3;
const whole: Asked = {
  ...{ consumer: 0, hub: 0, stream: true, maxTokens: WORDS, jobId: "job", end: "whole", status: 200 },
  ...{ code: null, text: STORY.slice(0, WORDS).join(""), beganMs: 1_000, endedMs: 2_000 },
};
const refused: Asked = { ...whole, jobId: null, end: "refused", status: 503, code: "no_slot", text: "" };
const cut: Asked = { ...whole, end: "cut", text: STORY[0]! };
const worth = (words: number) => String(BigInt(words) * STORY_TOKEN_MICRO);
const job = { id: "job", consumer_id: "usr", state: "completed", cost_micro: worth(WORDS) };
const died: Outage = { how: "kill", victim: "hub A", fromMs: 1_990, toMs: 4_000 };
const away: Outage = { how: "kill", victim: "PostgreSQL", fromMs: 1_500, toMs: 3_000 };

async function audit(asked: Asked[], jobs: object[], outages: Outage[] = []) {
  const pool = { query: async () => ({ rows: jobs }) } as unknown as pg.Pool;
  const { problems, unpaid } = await compare(pool, asked, outages, ["usr"]);
  return { problems: problems.map((problem) => problem.split(": {")[0]), unpaid };
}

it.each<[string, Asked[], object[], Outage[]]>([
  ["a whole answer, paid", [whole], [job], []],
  ["an error before any word", [refused], [], []],
  [
    "an error whose job was given back",
    [{ ...refused, jobId: "job" }],
    [{ ...job, state: "failed", cost_micro: "0" }],
    [],
  ],
  ["a cut by a hub that died, paid or not", [cut], [job], [died]],
  ["a cut before the job had a name", [{ ...cut, jobId: null, text: "" }], [job], [died]],
])("%s is sound", async (_name, asked, jobs, outages) => {
  expect(await audit(asked, jobs, outages)).toEqual({ problems: [], unpaid: 0 });
});

it("a whole answer may go unpaid only where its hub died before the database, away as well, could take it", async () => {
  const unpaid = { ...job, state: "failed", cost_micro: "0" };
  expect(await audit([whole], [unpaid], [died, away])).toEqual({ problems: [], unpaid: 1 });
  for (const outages of [[], [away], [died]])
    expect((await audit([whole], [unpaid], outages)).problems).toEqual([
      "whole, but its job is failed for 0",
    ]);
});

it.each<[string, Asked[], object[]]>([
  ["no answer within 45000 ms", [{ ...refused, end: "hung", code: null }], []],
  ["an error that no fault explains", [{ ...refused, code: "internal" }], []],
  ["cut by a hub that was well", [cut], [job]],
  ["the answer is not the story", [{ ...whole, end: "left", text: STORY[0]! + STORY[0]! }], [job]],
  ["whole, and words are missing", [{ ...whole, text: STORY[0]! }], [job]],
  ["told without a job in the books", [whole], []],
  ["the job of another", [whole], [{ ...job, consumer_id: "other" }]],
  [
    `whole, but its job is completed for ${worth(WORDS - 1)}`,
    [whole],
    [{ ...job, cost_micro: worth(WORDS - 1) }],
  ],
  [`refused, and charged ${worth(1)}`, [{ ...refused, jobId: "job" }], [{ ...job, cost_micro: worth(1) }]],
  [
    `charged ${worth(2)} for 1 words`,
    [{ ...whole, end: "error chunk", code: "node_lost", text: STORY[0]! }],
    [{ ...job, state: "failed", cost_micro: worth(2) }],
  ],
  [`charged ${worth(WORDS + 1)}`, [{ ...whole, end: "left" }], [{ ...job, cost_micro: worth(WORDS + 1) }]],
  [
    `0 nameless requests of usr broke, but it was charged for job (completed, ${worth(WORDS)})`,
    [refused],
    [job],
  ],
])("%s", async (problem, asked, jobs) => {
  expect((await audit(asked, jobs)).problems).toContain(problem);
});
