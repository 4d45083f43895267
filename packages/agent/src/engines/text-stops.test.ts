import { describe, expect, it } from "vitest";
import { TextStops } from "./text-stops.ts";

function run(stops: string[], pieces: string[]) {
  const said: string[] = [];
  const matcher = new TextStops(stops, (text) => void said.push(text));
  const at = pieces.findIndex((piece) => matcher.push(piece));
  if (at === -1) matcher.end();
  return { said, at };
}

describe("stop sequences", () => {
  it("are left out, with all after them, wherever the pieces are cut", () => {
    expect(run(["END"], ["a", "bE", "N", "Dc"])).toEqual({ said: ["a", "b"], at: 3 });
    expect(run(["\n\n", "END"], ["xEND\n\n"])).toEqual({ said: ["x"], at: 0 });
  });
  it("keep nothing back that can be none", () => {
    expect(run(["END"], ["aE", "Eb", "EN"])).toEqual({ said: ["a", "EEb", "EN"], at: -1 });
    expect(run([], ["a", "", "b"])).toEqual({ said: ["a", "b"], at: -1 });
    expect(run([""], ["a"])).toEqual({ said: ["a"], at: -1 });
  });
});
