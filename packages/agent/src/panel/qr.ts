/** A QR code in half blocks: two rows of it a line, light on dark as most terminals are. */
import { encode } from "uqr";
import type { Terminal } from "../host.ts";

/** The quiet zone, in modules: cameras find it in two. */
const BORDER = 2;

/** Lines to print; null where the terminal has no room for it, or the text none in a code of the usual size. */
export function qrLines(
  text: string,
  { columns, colour }: Pick<Terminal, "columns" | "colour">,
): string[] | null {
  // Links of this length are scanned from a clean screen: the least correction keeps it small.
  const { data, size } = encode(text, { ecc: "L", border: BORDER });
  if (size > columns) return null;
  const lines: string[] = [];
  for (let row = 0; row < size; row += 2) {
    let line = "";
    for (let column = 0; column < size; column++) {
      const [upper, lower] = [data[row]![column], data[row + 1]?.[column] ?? false];
      line += upper ? (lower ? " " : "▄") : lower ? "▀" : "█";
    }
    // Named colours, or a light theme would show it inverted, which some cameras do not read.
    lines.push(colour ? `\u001b[97;40m${line}\u001b[0m` : line);
  }
  return lines;
}
