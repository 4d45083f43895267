/** Lines of pieces, each with a meaning; colours are one way to show it. */
import { cut, widthOf } from "./text.ts";

export type Tone = "plain" | "dim" | "strong" | "good" | "warn" | "bad" | "gold";
export type Piece = string | { text: string; tone: Tone };
export type Line = readonly Piece[];

/** Basic colours only: they follow the terminal's own theme. */
const CODES: Record<Tone, string> = {
  plain: "",
  dim: "2",
  strong: "1",
  good: "32",
  warn: "33",
  bad: "31",
  gold: "1;33",
};

export const tone = (name: Tone, text: string): Piece => ({ text, tone: name });

const textOf = (piece: Piece): string => (typeof piece === "string" ? piece : piece.text);

export const lineWidth = (line: Line): number => line.reduce((sum, piece) => sum + widthOf(textOf(piece)), 0);

/** A line within `columns`, as it is written. Pieces must be printable. */
export function written(line: Line, columns: number, colour: boolean): string {
  let left = columns;
  let text = "";
  for (const piece of line) {
    if (left <= 0) break;
    const shown = cut(textOf(piece), left);
    left -= widthOf(shown);
    const code = typeof piece === "string" || !colour ? "" : CODES[piece.tone];
    text += code === "" ? shown : `\u001b[${code}m${shown}\u001b[0m`;
    if (shown !== textOf(piece)) break;
  }
  return text;
}

/** One piece at the left, one at the right edge; the right one gives way where both find no room. */
export function spread(left: Line, right: Line, columns: number): Line {
  const gap = columns - lineWidth(left) - lineWidth(right);
  return gap >= 2 ? [...left, " ".repeat(gap), ...right] : left;
}
