/** Where a process spent its time: self time by function and by module, of what `node --cpu-prof` wrote. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { printTable } from "./statistics.ts";

const ROWS = 45;

interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

export const profileArguments = (directory: string): string[] => [
  "--cpu-prof",
  `--cpu-prof-dir=${directory}`,
  "--cpu-prof-interval=500",
];

/** Prints the heaviest functions of the profiles in a folder. */
export function printProfiles(directory: string): void {
  for (const file of readdirSync(directory).filter((name) => name.endsWith(".cpuprofile"))) {
    const profile = JSON.parse(readFileSync(join(directory, file), "utf8")) as Profile;
    const [byFunction, byModule] = selfTimes(profile);
    const busyMs = [...byModule.values()].reduce((sum, ms) => sum + ms, 0);
    console.log(`\n${file}: ${Math.round(busyMs)} ms of work\n`);
    const rows = (times: Map<string, number>) =>
      [...times]
        .sort(([, a], [, b]) => b - a)
        .slice(0, ROWS)
        .map(([name, ms]) => [name, ms, `${((ms / busyMs) * 100).toFixed(1)} %`]);
    printTable(["module", "self ms", "share"], rows(byModule));
    console.log("");
    printTable(["function", "self ms", "share"], rows(byFunction));
  }
}

function selfTimes({ nodes, samples, timeDeltas }: Profile): [Map<string, number>, Map<string, number>] {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const byFunction = new Map<string, number>();
  const byModule = new Map<string, number>();
  for (const [i, id] of samples.entries()) {
    const { functionName, url, lineNumber } = frames.get(id)!;
    if (functionName === "(idle)" || functionName === "(program)") continue;
    const ms = (timeDeltas[i] ?? 0) / 1000;
    const place = shortened(url);
    const name = `${functionName || "(anonymous)"} ${place}${url ? `:${lineNumber + 1}` : ""}`;
    byFunction.set(name, (byFunction.get(name) ?? 0) + ms);
    const module = place === "" ? functionName : moduleOf(place);
    byModule.set(module, (byModule.get(module) ?? 0) + ms);
  }
  return [byFunction, byModule];
}

const shortened = (url: string): string =>
  url.replace(/^.*\/node_modules\//, "").replace(/^file:.*\/packages\//, "");

function moduleOf(place: string): string {
  if (place.startsWith("node:")) return place;
  const parts = place.split("/");
  if (place.endsWith(".ts")) return parts.slice(0, 4).join("/");
  return parts.slice(0, place.startsWith("@") ? 2 : 1).join("/");
}
