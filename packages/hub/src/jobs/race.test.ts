import fc from "fast-check";
import { expect, it, vi } from "vitest";
import { Race } from "./race.ts";
import type { JobStart } from "./types.ts";

const start = (nodeId: string): JobStart => ({ jobId: "j", nodeId, nodeName: nodeId, capMicro: 1n });

function caller() {
  const seen: string[] = [];
  const attach = vi.fn();
  const sink = {
    started: ({ nodeId }: JobStart) => void seen.push(`started ${nodeId}`),
    text: (text: string) => void seen.push(text),
    reasoning: (text: string) => void seen.push(text),
    choice: () => void seen.push("choice"),
    embeddings: () => void seen.push("embeddings"),
  };
  const gone = new AbortController();
  return { seen, attach, gone, course: { sink, signal: gone.signal, flow: { attach } } };
}

it("whoever speaks first has the whole answer, and the other is cancelled, in whatever order they speak", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 1), { minLength: 1 }), (turns) => {
      const { seen, course } = caller();
      const race = new Race(course);
      const lanes = [race.lane(), race.lane()];
      lanes.forEach((lane, index) => {
        lane.started(start(`n${index}`));
      });
      for (const turn of turns) lanes[turn]!.text(`from ${turn}`);
      const [winner] = turns;
      expect(seen).toEqual([
        "started n0",
        ...(winner === 1 ? ["started n1"] : []),
        ...turns.filter((turn) => turn === winner).map(() => `from ${winner}`),
      ]);
      expect(lanes.map(({ lost, signal }) => [lost, signal.aborted])).toEqual(
        [0, 1].map((index) => [index !== winner, index !== winner]),
      );
    }),
  );
});

it("only the one that speaks is held back by a slow reader", () => {
  const { attach, course } = caller();
  const race = new Race(course);
  const [one, two] = [race.lane(), race.lane()];
  const controls = [0, 1].map(() => ({ pause: vi.fn(), resume: vi.fn() }));
  one.attach(controls[0]!);
  two.attach(controls[1]!);
  expect(attach.mock.calls).toEqual([[controls[0]]]);
  two.reasoning("Hm.");
  expect(attach.mock.calls).toEqual([[controls[0]], [controls[1]]]);
});

it("both end where their caller leaves", () => {
  const { gone, course } = caller();
  const race = new Race(course);
  const lanes = [race.lane(), race.lane()];
  gone.abort();
  expect(lanes.map(({ signal }) => signal.aborted)).toEqual([true, true]);
});

it("is decided by a word, and not waited for longer than asked", async () => {
  const race = new Race(caller().course);
  const lane = race.lane();
  await race.decidedWithin(1);
  expect(race.winner).toBeNull();
  const decided = race.decidedWithin(60_000);
  lane.text("a");
  await decided;
  expect(race.winner).toBe(lane);
});
