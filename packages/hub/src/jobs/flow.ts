import type { FlowControl } from "./types.ts";

/** The same control, and whether it ever held its attempt back: then the node's speed was not its own. */
export function watchPauses(flow: FlowControl | undefined): {
  flow: FlowControl | undefined;
  paused(): boolean;
} {
  let paused = false;
  return {
    flow: flow && {
      attach: (control) =>
        flow.attach({
          pause() {
            paused = true;
            control.pause();
          },
          resume: () => control.resume(),
        }),
    },
    paused: () => paused,
  };
}
