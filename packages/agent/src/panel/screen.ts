/** Lines on a terminal: only what changed is written. */
import type { Terminal } from "../host.ts";

const ESC = "\u001b[";
/** The other screen, no cursor, no wrapping at the edge. */
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}?7l${ESC}2J`;
const LEAVE = `${ESC}0m${ESC}?7h${ESC}?25h${ESC}?1049l`;

export interface Screen {
  show(lines: readonly string[]): void;
  /** The next `show` writes everything: the terminal was another's, or has another size. */
  forget(): void;
  enter(): void;
  /** Gives the terminal back as it was. */
  leave(): void;
}

export function createScreen(terminal: Pick<Terminal, "write">): Screen {
  let shown: readonly string[] | null = null;
  let entered = false;
  return {
    show(lines) {
      if (!entered) return;
      const before = shown ?? [];
      let text = shown === null ? `${ESC}2J` : "";
      for (let row = 0; row < Math.max(lines.length, before.length); row++) {
        const line = lines[row] ?? "";
        if (line !== (before[row] ?? "")) text += `${ESC}${row + 1};1H${line}${ESC}K`;
      }
      shown = [...lines];
      if (text !== "") terminal.write(text);
    },
    forget() {
      shown = null;
    },
    enter() {
      if (entered) return;
      entered = true;
      shown = null;
      terminal.write(ENTER);
    },
    leave() {
      if (!entered) return;
      entered = false;
      terminal.write(LEAVE);
    },
  };
}
