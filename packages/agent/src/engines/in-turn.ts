import type { Engine } from "./engine.ts";

/** Engines that load their models one after the other, so that each sees the memory that those before it have left. */
export function inTurn(engines: readonly Engine[]): Engine[] {
  let before: Promise<unknown> = Promise.resolve();
  return engines.map((engine) => {
    let hasBegun = false;
    return {
      ...engine,
      models(signal) {
        if (hasBegun) return engine.models(signal);
        hasBegun = true;
        const first = before.then(() => engine.models(signal));
        before = first.catch(() => {});
        return first;
      },
    };
  });
}
