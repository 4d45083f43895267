import { describe, expect, it } from "vitest";
import { Gate } from "./gate.ts";

function recorder() {
  const seen: string[] = [];
  const gate = new Gate(
    {
      started: ({ jobId }) => seen.push(`started ${jobId}`),
      text: (text) => seen.push(text),
      reasoning: (text) => seen.push(`(${text})`),
      choice: ({ index }) => seen.push(`choice ${index}`),
      embeddings: ({ vectors }) => seen.push(`${vectors.length} vectors`),
    },
    { attach: () => seen.push("attached") },
  );
  const control = (name: string) => ({
    pause: () => seen.push(`${name} pauses`),
    resume: () => seen.push(`${name} goes on`),
  });
  return { gate, seen, control };
}

describe("the gate", () => {
  it("lets nothing through before the hold is durable, and then everything in order", () => {
    const { gate, seen, control } = recorder();
    gate.started({ jobId: "j", nodeId: "n", nodeName: "attic", capMicro: 7n });
    gate.attach(control("node"));
    gate.reasoning("hm");
    gate.text("a");
    gate.choice({ index: 1 });
    gate.embeddings({ vectors: ["AAAA"] });
    expect(seen).toEqual([]);
    gate.open();
    gate.text("b");
    expect(seen).toEqual(["started j", "attached", "(hm)", "a", "choice 1", "1 vectors", "b"]);
  });

  it("asks a node that says much meanwhile to pause, once, and to go on when it opens", () => {
    const { gate, seen, control } = recorder();
    gate.attach(control("first"));
    for (let i = 0; i < 5; i++) gate.text("x".repeat(100_000));
    expect(seen).toEqual(["first pauses"]);
    gate.attach(control("second")); // the first failed, and another took over
    gate.text("y");
    gate.open();
    expect(seen.filter((line) => /pauses|goes/.test(line))).toEqual([
      "first pauses",
      "second pauses",
      "second goes on",
    ]);
  });
});
