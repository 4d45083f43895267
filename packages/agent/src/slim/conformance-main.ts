/** The conformance cases as a program for the native host: URL DIRECTORY → a JSON line for each case. */

import { conformanceCases } from "../testing/host-conformance.ts";
import { native } from "./install.ts";
import { createSlimHost } from "./slim-host.ts";

async function main([url = "", directory = ""]: readonly string[]): Promise<void> {
  for (const [index, { name, run }] of conformanceCases.entries()) {
    const own = native.join(directory, `case-${index}`);
    await native.makeDirectory(own, 0o700);
    const host = createSlimHost(native, { configDir: own, stateDir: own });
    const startedMs = host.nowMs();
    const error = await run({ host, url, directory: own }).then(
      () => null,
      (thrown: unknown) => (thrown instanceof Error ? `${thrown.message}\n${thrown.stack}` : String(thrown)),
    );
    native.print(1, `${JSON.stringify({ name, error, ms: Math.round(host.nowMs() - startedMs) })}\n`);
  }
}

main(native.args).then(
  () => native.exit(0),
  (error: unknown) => {
    native.print(2, `${String(error)}\n`);
    native.exit(1);
  },
);
