/** Bugs that a simulation can be given, to show that its auditor tells of them. */
import type { Ledger } from "@gfe/ledger";
import type { Jobs } from "../../../hub/src/testing/hub-core.ts";

export type Plant = "pays twice" | "pays what was not relayed" | "forgets a caller" | "repeats a word";

export function plantInLedger(plant: Plant | undefined, ledger: Ledger): Ledger {
  const held = new Map<string, { account: string; amount: bigint }>();
  if (plant === "pays twice")
    return {
      ...ledger,
      async hold(op) {
        held.set(op.id, op);
        return ledger.hold(op);
      },
      async settle(op) {
        const result = await ledger.settle(op);
        const [{ to, amount, code } = { to: "", amount: 0n, code: "" }] = op.transfers;
        const from = held.get(op.holdId)?.account;
        if (result === "settled" && from)
          await ledger.transfer({ id: `${op.holdId}:again`, from, to, amount, code });
        return result;
      },
    };
  if (plant === "pays what was not relayed")
    return {
      ...ledger,
      async hold(op) {
        held.set(op.id, op);
        return ledger.hold(op);
      },
      async settle(op) {
        const all = held.get(op.holdId)?.amount;
        const [first] = op.transfers;
        return all && first
          ? ledger.settle({ ...op, transfers: [{ ...first, amount: all }] })
          : ledger.settle(op);
      },
    };
  return ledger;
}

export function plantInJobs(plant: Plant | undefined, jobs: Jobs): Jobs {
  if (plant === "forgets a caller")
    return {
      ...jobs,
      run: (request, ...rest) =>
        request.inputBytes % 3 === 0 ? new Promise(() => {}) : jobs.run(request, ...rest),
    };
  if (plant === "repeats a word")
    return {
      ...jobs,
      run: (request, sink, ...rest) =>
        jobs.run(
          request,
          {
            queued: (place) => sink.queued?.(place),
            started: (info) => sink.started?.(info),
            reasoning: (text) => sink.reasoning(text),
            choice: (delta) => sink.choice(delta),
            embeddings: (delta) => sink.embeddings(delta),
            text(text) {
              sink.text(text);
              if (text.includes(".2 ")) sink.text(text);
            },
          },
          ...rest,
        ),
    };
  return jobs;
}
