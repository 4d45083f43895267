/** What the cases of host-conformance.ts are made of. */
import { readText } from "../../body.ts";
import type { Host } from "../../host.ts";

export interface Ground {
  host: Host;
  /** Of the conformance server. */
  url: string;
  /** An empty directory of the case's own. */
  directory: string;
}

export interface ConformanceCase {
  name: string;
  run(ground: Ground): Promise<void>;
}

export const MIB = 1024 * 1024;

export function check(holds: unknown, message: string): asserts holds {
  if (!holds) throw new Error(message);
}

export function same(is: unknown, meant: unknown, what: string): void {
  check(is === meant, `${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(meant)}`);
}

/** What it rejects with. */
export async function rejection(work: Promise<unknown>, what: string): Promise<Error & { code?: unknown }> {
  const outcome = await work.then(
    () => null,
    (error: unknown) => error as Error,
  );
  check(outcome !== null, `${what} did not reject`);
  return outcome;
}

let ids = 0;
export const newId = (): string => `c${ids++}`;

export const textOf = async ({ host, url }: Ground, path: string): Promise<string> =>
  readText(await host.http({ url: url + path }), 64 * MIB);

export const became = (ground: Ground, id: string, what: string): Promise<string> =>
  textOf(ground, `/wait?id=${id}&for=${what}`);
