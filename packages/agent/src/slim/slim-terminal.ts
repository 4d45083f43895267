/** The terminal on the native host: as node-terminal.ts has it on Node. */
import type { Terminal } from "../host.ts";
import type { Native } from "./native.ts";

/** A process group that nobody can stop goes on: then the terminal is entered again after this while. */
const STOPPED_MS = 100;

export function createSlimTerminal(native: Native): Terminal | null {
  const terminal = native.terminal();
  if (!terminal) return null;
  const keys = new Set<(typed: string) => void>();
  const resizes = new Set<() => void>();
  const handovers = new Set<{ leave(): void; enter(): void }>();
  let [away, watchesSize, watchesJobs] = [false, false, false];

  const leave = () => {
    if (away) return;
    away = true;
    for (const { leave } of handovers) leave();
    terminal.raw(false);
  };
  const enter = () => {
    if (!away) return;
    away = false;
    if (keys.size > 0) terminal.raw(true);
    for (const { enter } of handovers) enter();
  };
  const suspend = () => {
    leave();
    terminal.stop();
    native.after(STOPPED_MS, enter);
  };
  native.onExit(leave);
  return {
    get columns() {
      return terminal.size()[0];
    },
    get rows() {
      return terminal.size()[1];
    },
    colour: !native.env.NO_COLOR,
    write: (text) => native.print(1, text),
    onKey(callback) {
      keys.add(callback);
      if (keys.size === 1)
        terminal.onInput((typed) => {
          for (const key of [...keys]) key(typed);
        });
      return () => {
        if (keys.delete(callback) && keys.size === 0) terminal.onInput(undefined);
      };
    },
    onResize(callback) {
      resizes.add(callback);
      if (!watchesSize)
        terminal.onResize(() => {
          for (const resize of [...resizes]) resize();
        });
      watchesSize = true;
      return () => void resizes.delete(callback);
    },
    onHandOver(callbacks) {
      handovers.add(callbacks);
      if (!watchesJobs)
        terminal.onJobControl(suspend, () => {
          leave();
          enter();
        });
      watchesJobs = true;
      return () => void handovers.delete(callbacks);
    },
    suspend,
  };
}
