/** Text as a terminal shows it: safe to print, of known width. */

/** Wide in every terminal: CJK, Hangul, full-width forms, emoji. First and last code points. */
const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x231a, 0x231b],
  [0x23e9, 0x23ec],
  [0x2614, 0x2615],
  [0x26a1, 0x26a1],
  [0x2705, 0x2705],
  [0x274c, 0x274c],
  [0x2b50, 0x2b50],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0xa4cf],
  [0xa960, 0xa97c],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff01, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f004, 0x1f004],
  [0x1f18e, 0x1f1ff],
  [0x1f200, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f7e0, 0x1f7eb],
  [0x1f900, 0x1faff],
  [0x20000, 0x3fffd],
];

/**
 * Without what moves the cursor, colours, reorders or hides: names of models and words of hubs are strangers' text. Line feeds
 * become spaces.
 */
export const printable = (text: string): string =>
  text.replace(/[\n\t]/g, " ").replace(/[\p{Cc}\p{Cf}\u2028\u2029]|\ufe0f/gu, "");

/** Columns that a character takes. */
function widthOfPoint(character: string): number {
  const point = character.codePointAt(0)!;
  if (point < 0x300) return 1;
  if (/[\p{Mn}\p{Me}]/u.test(character)) return 0;
  return WIDE.some(([first, last]) => point >= first && point <= last) ? 2 : 1;
}

/** Columns that printable text takes. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += widthOfPoint(character);
  return width;
}

/** The text, or its beginning with an ellipsis, within `columns`. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let width = 1;
  let kept = "";
  for (const character of text) {
    width += widthOfPoint(character);
    if (width > columns) break;
    kept += character;
  }
  return columns > 0 ? `${kept}…` : "";
}

/** The text in exactly `columns`. */
export const padded = (text: string, columns: number): string => {
  const short = cut(text, columns);
  return short + " ".repeat(Math.max(0, columns - widthOf(short)));
};

/** "3.1 s", "4 m 10 s", "2 h 5 m", "3 d 4 h". */
export function durationText(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${Math.floor(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** The same in whole minutes: "0 m", "12 m", "2 h 5 m". */
export const minutesText = (ms: number): string =>
  ms < 3_600_000 ? `${Math.max(0, Math.floor(ms / 60_000))} m` : durationText(ms);

/** Bytes in GiB with one decimal: "18.2". */
export const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
